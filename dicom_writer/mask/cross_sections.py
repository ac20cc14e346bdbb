"""The largest cross-section of a label: a report refers to its outline where it speaks of the label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_writer.mask.contours import outlines
from stages.volume.geometry import spacing_of
from stages.volume.labels import Label
from stages.volume.original_slices import SliceMasks


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossSection:
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


def pixel_counts(masks: SliceMasks, labels: Sequence[Label]) -> dict[int, NDArray[np.int64]]:
    """Return how many pixels of each label each slice has, by its value.

    Parameters
    ----------
    masks
        Label values on the original slices.
    labels
        Which labels are counted.

    Returns
    -------
    dict of int to array
        Shape (slices,).
    """
    counts = {label.value: np.zeros(len(masks.array), dtype=np.int64) for label in labels}
    for n, plane in enumerate(masks.array):
        if plane.any():
            here = np.bincount(plane.ravel(), minlength=256)
            for value, count in counts.items():
                count[n] = here[value]
    return counts


def largest_cross_sections(masks: SliceMasks, labels: Sequence[Label]) -> dict[int, CrossSection]:
    """Return the largest cross-section of each label, by its value.

    Parameters
    ----------
    masks
        Label values on the original slices.
    labels
        Of which labels.
    """
    pixel_mm2 = float(np.prod(spacing_of(masks.affine)[1:]))
    found = {}
    for value, count in pixel_counts(masks, labels).items():
        n = int(count.argmax())
        if count[n]:
            outline = max(outlines(masks.array[n] == value), key=_pixels_within)
            found[value] = CrossSection(
                slice=n, outline=outline, area_mm2=_pixels_within(outline) * pixel_mm2
            )
        else:
            found[value] = _whole_image(masks)
    return found


def _whole_image(masks: SliceMasks) -> CrossSection:
    slices, rows, columns = masks.array.shape
    corners = [(0, 0), (0, columns), (rows, columns), (rows, 0)]
    return CrossSection(slice=slices // 2, outline=np.array(corners, dtype=np.float64) - 0.5, area_mm2=0.0)


def _pixels_within(outline: NDArray[np.float64]) -> float:
    """Return the pixels that an outline is around, less its holes."""
    row, column = outline.T
    return abs(float(np.sum(column * np.roll(row, -1) - np.roll(column, -1) * row))) / 2
