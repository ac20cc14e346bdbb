"""Hold captures against mask and source: which pixels have a label's colour, and the grey of all others.

pydicom reads the file. Each pixel of a picture belongs to one of its source image, as both pixel spacings
say; a label's colour must be there in the pixels at its edge, and in no other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.dataset import Dataset

from dicom_writer.capture.capture import TOP, with_words
from dicom_writer.checks.identity import require_comments, require_same_identity
from dicom_writer.mask.measure import Measurement
from dicom_writer.pictures.key_slices import key_slices
from dicom_writer.pictures.picture import MARGIN, draw, windowed
from dicom_writer.request.result_request import Given
from dicom_writer.source.frames import image_key
from stages import OutputError
from stages.volume.labels import Label


def verify_capture(paths: Sequence[Path], given: Given) -> dict[int, Measurement]:
    """Read captures back; they say no numbers that a program reads.

    Raises
    ------
    OutputError
        At the first thing that differs.
    """
    with config.disable_value_validation(), ThreadPoolExecutor(os.cpu_count()) as pool:
        shown = list(pool.map(lambda path: _verify(path, given), paths))
    if shown != key_slices(given):
        raise OutputError(f"the captures show slices {[n + 1 for n in shown]}, not the key slices")
    return {}


def _verify(path: Path, given: Given) -> int:
    """Compare one capture, and return which slice it shows."""
    image = dcmread(path)
    require_same_identity(image, given)
    require_comments(image, given)
    if image.PhotometricInterpretation != "RGB" or image.BurnedInAnnotation != "NO":
        raise OutputError("a capture is not RGB without the patient's identity")
    n = _slice_of(image, given)
    pixels = np.frombuffer(image.PixelData, np.uint8)[: image.Rows * image.Columns * 3]
    whole = pixels.reshape(image.Rows, image.Columns, 3)
    words = with_words(draw(given, n), given, n)
    compare_picture(whole[TOP:], float(image.PixelSpacing[0]), given, n)
    if words.shape != whole.shape or not np.array_equal(words, whole):
        raise OutputError(f"the words in the capture of slice {n + 1} are not those of the mask")
    return n


def _slice_of(image: Dataset, given: Given) -> int:
    (item,) = image.SourceImageSequence
    key = (str(item.ReferencedSOPInstanceUID), int(item.get("ReferencedFrameNumber") or 0))
    for n, source in enumerate(given.sources):
        if image_key(source) == key:
            return n
    raise OutputError(f"a capture is of image {key[0]}, which is not of the source")


def compare_picture(framed: NDArray[np.uint8], pixel_mm: float, given: Given, n: int) -> None:
    """Hold a picture, from its margin on, against slice n.

    Raises
    ------
    OutputError
        If a label's colour is elsewhere than at its edge, or the image behind is another one.
    """
    source, plane = given.sources[n], given.masks.array[n]
    rows, columns = (
        _source_index(count, float(mm), pixel_mm)
        for count, mm in zip(plane.shape, source.PixelSpacing, strict=True)
    )
    if framed.shape[0] < len(rows) + 2 * MARGIN or framed.shape[1] < len(columns) + 2 * MARGIN:
        raise OutputError(f"the picture of slice {n + 1} is smaller than its source image")
    picture = framed[MARGIN : MARGIN + len(rows), MARGIN : MARGIN + len(columns)]
    outlined = np.zeros(picture.shape[:2], dtype=np.bool_)
    for rgb, labels in _by_colour(given).items():
        coloured = (picture == rgb).all(axis=2)
        edges = np.logical_or.reduce([_edge(plane == label.value) for label in labels])
        _compare_outline(coloured, (rows, columns), edges, " and ".join(x.name for x in labels), n)
        outlined |= coloured
    behind = windowed(given, n)[np.ix_(rows, columns)]
    different = (picture != behind[..., None]).any(axis=2) & ~outlined
    if different.any():
        raise OutputError(
            f"{int(np.count_nonzero(different))} pixels of the picture of slice {n + 1} are neither its "
            "source image nor an outline"
        )


def _source_index(count: int, source_mm: float, pixel_mm: float) -> NDArray[np.int64]:
    """Return which row, or column, of the source has the centre of each of a picture."""
    centres_mm = np.arange(round(count * source_mm / pixel_mm)) * pixel_mm + pixel_mm / 2
    return np.asarray(np.clip(np.floor(centres_mm / source_mm), 0, count - 1), dtype=np.int64)


def _by_colour(given: Given) -> dict[tuple[int, int, int], list[Label]]:
    """Return the labels that are drawn in each colour; such as share one cannot be told apart."""
    found: dict[tuple[int, int, int], list[Label]] = {}
    for label in given.labels:
        found.setdefault(label.drawn_rgb, []).append(label)
    return found


def _edge(there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a label that touch, also at a corner, one that is not of it."""
    if not there.any():
        return there
    around, inner = np.pad(there, 1), np.ones_like(there)
    for row, column in np.ndindex(3, 3):
        inner &= around[row : row + there.shape[0], column : column + there.shape[1]]
    return np.asarray(there & ~inner)


def _compare_outline(
    coloured: NDArray[np.bool_],
    places: tuple[NDArray[np.int64], NDArray[np.int64]],
    edges: NDArray[np.bool_],
    name: str,
    n: int,
) -> None:
    """Refuse a colour that is not in exactly those pixels of the source that lie at the label's edge."""
    found = np.zeros(edges.shape, dtype=np.bool_)
    row, column = np.nonzero(coloured)
    found[places[0][row], places[1][column]] = True
    different = found != edges
    if different.any():
        row, column = np.argwhere(different)[0]
        raise OutputError(
            f"the outline of {name} on slice {n + 1} is wrong in {int(np.count_nonzero(different))} "
            f"pixels, the first at row {row}, column {column}"
        )
