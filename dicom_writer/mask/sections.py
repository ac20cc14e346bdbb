"""Where a label is largest: the outline to which a report ties what it says of the whole label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_writer.mask.contours import outlines
from dicom_writer.request.result_request import Given
from stages.volume.geometry import spacing_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """The largest piece of a label in the slice that has most of it.

    Attributes
    ----------
    slice
        Which slice, from 0; of a label without a voxel the middle one.
    outline
        Row and column of the corners, shape (points, 2); the centre of the first pixel is (0, 0). Of a label
        without a voxel that of the whole image, which was examined.
    area_mm2
        Of the label within the outline.
    """

    slice: int
    outline: NDArray[np.float64]
    area_mm2: float


def pixel_counts(given: Given) -> dict[int, NDArray[np.int64]]:
    """Return how many pixels of each label each slice has, by its value."""
    counts = {label.value: np.zeros(len(given.masks.array), dtype=np.int64) for label in given.labels}
    for n, plane in enumerate(given.masks.array):
        if plane.any():
            here = np.bincount(plane.ravel(), minlength=256)
            for value, count in counts.items():
                count[n] = here[value]
    return counts


def largest_sections(given: Given) -> dict[int, Section]:
    """Return the section of each label, by its value."""
    pixel_mm2 = float(np.prod(spacing_of(given.masks.affine)[1:]))
    found = {}
    for value, count in pixel_counts(given).items():
        n = int(count.argmax())
        if count[n]:
            outline = max(outlines(given.masks.array[n] == value), key=_pixels_within)
            found[value] = Section(slice=n, outline=outline, area_mm2=_pixels_within(outline) * pixel_mm2)
        else:
            found[value] = _whole_image(given)
    return found


def _whole_image(given: Given) -> Section:
    slices, rows, columns = given.masks.array.shape
    corners = [(0, 0), (0, columns), (rows, columns), (rows, 0)]
    return Section(slice=slices // 2, outline=np.array(corners, dtype=np.float64) - 0.5, area_mm2=0.0)


def _pixels_within(outline: NDArray[np.float64]) -> float:
    """Return the pixels that an outline is around, less its holes."""
    row, column = outline.T
    return abs(float(np.sum(column * np.roll(row, -1) - np.roll(column, -1) * row))) / 2
