"""Where the pixels of source images lie in the patient, by the formula of the standard.

References
----------
DICOM PS3.3 C.7.6.2.1.1, Image Position and Image Orientation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import Dataset

from stages import GeometryError, InputError
from stages.volume.original_slices import SliceMasks

TOLERANCE_MM = 0.1


def require_same_place(
    masks: SliceMasks, sources: Sequence[Dataset], *, tolerance_mm: float = TOLERANCE_MM
) -> None:
    """Check that the pixels of masks lie where those of the source images lie.

    Parameters
    ----------
    masks
        Label values on the original slices.
    sources
        Header of the source image of each slice, in slice order.
    tolerance_mm
        How far a corner of a slice may lie from where the source has it, mm.

    Raises
    ------
    GeometryError
        If the number of slices or the matrix differs, or a corner of a slice lies further than the
        tolerance from where the source image has it; the message says which, and by how many mm.
    """
    slices, rows, columns = masks.array.shape
    if slices != len(sources):
        raise GeometryError(f"the mask has {slices} slices, its source series {len(sources)} images")
    for n, dataset in enumerate(sources):
        if (dataset.Rows, dataset.Columns) != (rows, columns):
            raise GeometryError(
                f"slice {n + 1} of the mask has {rows} x {columns} pixels, its source image "
                f"{dataset.SOPInstanceUID} {dataset.Rows} x {dataset.Columns}"
            )
    corners = np.array([(r, c) for r in (0, rows - 1) for c in (0, columns - 1)])
    there = np.stack([pixel_positions(d, corners) for d in sources])
    meant = np.stack([masks.positions(n, corners) for n in range(slices)])
    apart = np.linalg.norm(meant - there, axis=2)
    if not apart.max() <= tolerance_mm:
        n = int(np.argmax(apart.max(axis=1)))
        raise GeometryError(
            f"the mask does not lie on its source series: a corner of slice {n + 1} is "
            f"{apart[n].max():.2f} mm from where {sources[n].SOPInstanceUID} has it; "
            "write the mask on the grid of the input volume"
        )


def pixel_positions(dataset: Dataset, pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Return where pixels (row, column) of an image lie, LPS mm, by the formula of the standard.

    Parameters
    ----------
    dataset
        An image, or one of its frames.
    pixels
        Row and column, shape (..., 2).
    """
    try:
        with config.disable_value_validation():
            cosines = np.array(dataset.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
            between_rows, between_columns = (float(mm) for mm in dataset.PixelSpacing)
            position = np.array(dataset.ImagePositionPatient, dtype=np.float64).reshape(3)
    except (AttributeError, TypeError, ValueError, OverflowError, NotImplementedError) as error:
        raise InputError(f"source image {dataset.SOPInstanceUID}: its geometry is no numbers") from error
    along_row, along_column = cosines[0] * between_columns, cosines[1] * between_rows
    return np.asarray(position + pixels[..., 1:] * along_row + pixels[..., :1] * along_column)


def pixel_indices(dataset: Dataset, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return at which row and column of an image points lie, and how far they are off its plane, mm.

    Parameters
    ----------
    dataset
        An image, or one of its frames.
    points
        LPS mm, shape (points, 3).
    """
    corners = pixel_positions(dataset, np.array([[0, 0], [1, 0], [0, 1]]))
    steps = (corners[1:] - corners[0]).T
    away = points - corners[0]
    pixels, *_ = np.linalg.lstsq(steps, away.T, rcond=None)
    off = np.linalg.norm(away - (steps @ pixels).T, axis=1)
    return pixels.T, float(off.max(initial=0.0))
