"""A source image as a picture with the outlines of labels: grey as acquired, each pixel of it untouched.

Pixels are square in the picture, and the letters beside it say where the patient's sides are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_writer.request.result_request import ResultRequest
from dicom_writer.source.pixels import source_values
from stages.volume.geometry import spacing_of
from stages.volume.labels import Label

MARGIN = 28  # around the picture, for the letters
_LONGEST = 800  # pixels that a picture has at least along its longer side, where its source is smaller
_THICKNESS = 2
_CT_WINDOW = (40.0, 400.0)
_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureGrid:
    """How the pixels of source images become those of a picture.

    Attributes
    ----------
    rows, columns
        Which row and column of the source each row and column of the picture shows.
    pixel_mm
        Of the picture.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    pixel_mm: float


def picture_grid(request: ResultRequest) -> PictureGrid:
    """Return how source images become pictures: enlarged by repeating pixels, which then are square.

    Parameters
    ----------
    request
        Its slices have one shape and one pixel spacing.
    """
    _, *matrix = request.masks.array.shape
    spacing = np.array(spacing_of(request.masks.affine)[1:])
    side = float((np.array(matrix) * spacing / spacing.min()).max())
    pixel_mm = float(spacing.min()) / max(2 if side <= 1024 else 1, round(_LONGEST / side))
    rows, columns = (
        np.minimum(
            (np.arange(round(n * mm / pixel_mm)) + 0.5) * pixel_mm / mm, n - 1
        ).astype(np.int64)
        for n, mm in zip(matrix, spacing, strict=True)
    )  # fmt: skip
    return PictureGrid(rows=rows, columns=columns, pixel_mm=pixel_mm)


def draw(request: ResultRequest, n: int) -> NDArray[np.uint8]:
    """Return slice n as a picture with its margin, shape (rows, columns, 3), RGB.

    Parameters
    ----------
    request
        Names the source images, and has the masks.
    n
        Which slice, from 0.
    """
    how = picture_grid(request)
    source = request.sources[n]
    grey = grey_levels(request, n)[np.ix_(how.rows, how.columns)]
    picture = np.repeat(grey[..., None], 3, axis=2)
    for label in request.labels:
        picture[_outline(request.masks.array[n], label, how)] = label.drawn_rgb
    framed = np.zeros((picture.shape[0] + 2 * MARGIN, picture.shape[1] + 2 * MARGIN, 3), dtype=np.uint8)
    framed[MARGIN:-MARGIN, MARGIN:-MARGIN] = picture
    return _with_letters(framed, np.array(source.ImageOrientationPatient, dtype=float).reshape(2, 3))


def grey_levels(request: ResultRequest, n: int) -> NDArray[np.uint8]:
    """Return the grey levels of a source image: soft tissue for CT, else all of them.

    Parameters
    ----------
    request
        Names the source images.
    n
        Which slice, from 0.
    """
    source = request.sources[n]
    values = source_values(request.source_files[n], getattr(source, "frame_number", 0))
    centre, width = _window(source.get("Modality"), values)
    share = (values - (centre - width / 2)) / max(width, 1e-6)
    return np.asarray(np.rint(np.clip(share, 0, 1) * 255), dtype=np.uint8)


def _window(modality: object, values: NDArray[np.float32]) -> tuple[float, float]:
    if modality == "CT":
        return _CT_WINDOW
    low, high = float(values.min()), float(values.max())
    return (low + high) / 2, high - low


def _outline(plane: NDArray[np.uint8], label: Label, how: PictureGrid) -> NDArray[np.bool_]:
    """Return the pixels of the picture that are in a label, and near its edge."""
    from scipy import ndimage

    there: NDArray[np.bool_] = (plane == label.value)[np.ix_(how.rows, how.columns)]
    if not there.any():
        return there
    size = 2 * _THICKNESS + 1 if len(how.rows) >= 2 * len(plane) else 3
    inner = ndimage.minimum_filter(there.view(np.uint8), size=size, mode="constant", cval=0)
    return np.asarray(there & (inner == 0))


def _with_letters(framed: NDArray[np.uint8], cosines: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return a picture with letters in its margin that say to which side of the patient each edge lies."""
    image = Image.fromarray(framed)
    pen, height, width = ImageDraw.Draw(image), *framed.shape[:2]
    middle = MARGIN / 2
    for letter, place in (
        (direction(-cosines[0]), (middle, height / 2)),
        (direction(cosines[0]), (width - middle, height / 2)),
        (direction(-cosines[1]), (width / 2, middle)),
        (direction(cosines[1]), (width / 2, height - middle)),
    ):
        pen.text(place, letter, fill=(255, 255, 255), font=font(18), anchor="mm")
    return np.array(image)


def direction(cosines: Sequence[float] | NDArray[np.float64]) -> str:
    """Return to which side of the patient a direction goes, the main one first: ``L``, ``PH``.

    Parameters
    ----------
    cosines
        Direction cosines in the patient, LPS, shape (3,).
    """
    parts = sorted(enumerate(cosines), key=lambda part: -abs(part[1]))
    return "".join(_LETTERS[axis][0 if share > 0 else 1] for axis, share in parts if abs(share) > 0.25)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that Pillow brings along.

    Parameters
    ----------
    size
        In pixels.
    """
    return ImageFont.load_default(size)
