"""The way back: a mask on a volume's grid -> one mask for each original slice, where it was acquired.

A volume whose slices formed a regular grid has them as they were, and nothing is computed. Where the
reader corrected gantry tilt, uneven spacing or missing slices, `Origin.correction` says where each
original slice lies on the grid, and the labels are interpolated there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.arrays import to_host
from stages.errors import GeometryError
from stages.volume.geometry import Affine, points_at
from stages.volume.origin import Correction
from stages.volume.volume import Volume

logger = logging.getLogger(__name__)

_NEGLIGIBLE = 1e-4  # of a voxel


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceMasks:
    """A mask on the original slices of a series.

    Attributes
    ----------
    array
        Labels, uint8, shape (slices, rows, columns) of the original slices.
    sop_instance_uids
        *SOP Instance UID* (0008,0018) of each slice; empty when the volume did not come from DICOM.
    affine
        Of the volume that the mask was made on.
    first_pixels
        The index (slice, row, column) in that volume at which the first pixel of each slice lies,
        shape (slices, 3).
    """

    array: NDArray[np.uint8]
    sop_instance_uids: tuple[str, ...]
    affine: Affine
    first_pixels: NDArray[np.float64]

    def positions(self, n: int, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """Return where pixels (row, column) of slice n lie, LPS mm.

        Parameters
        ----------
        n
            Index of the slice, from 0.
        pixels
            (row, column), fractions too, shape (..., 2).
        """
        return points_at(
            self.affine, np.insert(pixels.astype(np.float64), 0, 0.0, axis=-1) + self.first_pixels[n]
        )

    @property
    def thickness_mm(self) -> NDArray[np.float64]:
        """What each slice stands for: half the way to its neighbours, mm, shape (slices,)."""
        step = float(np.linalg.norm(self.affine[:3, 0]))
        heights = self.first_pixels[:, 0]
        return np.gradient(heights) * step if len(heights) > 1 else np.array([step])


def on_original_slices(mask: Volume) -> SliceMasks:
    """Return a mask on the slices that its volume was made of.

    Between voxels each label is interpolated linearly and the heaviest one wins. A label that would
    reach no slice, since it lies between two of them, is drawn on the nearest ones instead and
    logged, so that no finding is lost.

    Parameters
    ----------
    mask
        Labels on the grid of the volume, with the volume's origin.

    Raises
    ------
    GeometryError
        If the mask has another shape than the volume it names.
    """
    array = to_host(mask.array).astype(np.uint8, copy=False)
    correction = mask.origin.correction
    uids = tuple(s.sop_instance_uid for s in mask.origin.slices)
    if correction is None:
        first = np.zeros((len(array), 3))
        first[:, 0] = np.arange(len(array))
        return SliceMasks(array=array, sop_instance_uids=uids, affine=mask.affine, first_pixels=first)
    _require_grid(array, correction)
    first = np.array(correction.first_pixels)
    drawn = np.empty((len(first), *correction.matrix), dtype=np.uint8)
    for plane, index in zip(drawn, first, strict=True):
        plane[...] = _labels_at(array, index, correction.matrix)
    for label in sorted(_labels_in(array) - _labels_in(drawn)):
        count = _draw_on_nearest(drawn, array == label, label, first)
        logger.warning("label %d lies between slices; drawn on the nearest, %d pixels", label, count)
    return SliceMasks(array=drawn, sop_instance_uids=uids, affine=mask.affine, first_pixels=first)


def _require_grid(array: NDArray[np.uint8], correction: Correction) -> None:
    last = np.array(correction.first_pixels).max(axis=0) + np.subtract((1, *correction.matrix), 1)
    expected = tuple(int(np.floor(v + 0.5)) + 1 for v in last)
    if array.shape != expected:
        raise GeometryError(
            f"the mask has shape {array.shape}, the volume it was made of {expected}; "
            "write the mask on the grid of the input volume"
        )


def _labels_at(
    array: NDArray[np.uint8], first: NDArray[np.float64], matrix: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return the labels of the plane whose first pixel lies at an index of the array."""
    corners = [(planes, weight) for planes, weight in _neighbours(first, array, matrix) if planes.any()]
    result = np.zeros(matrix, dtype=np.uint8)
    if not corners:
        return result
    heaviest = np.float32(1) - sum(weight * (plane != 0) for plane, weight in corners)
    for label in sorted(_labels_in([plane for plane, _ in corners])):
        weights = sum(weight * (plane == label) for plane, weight in corners)
        result[weights > heaviest] = label
        np.maximum(heaviest, weights, out=heaviest)
    return result


def _labels_in(planes: Iterable[NDArray[np.uint8]]) -> set[int]:
    """Return the labels that planes hold, without background."""
    found: set[int] = set()
    for plane in planes:
        found.update(n for n in range(1, int(plane.max()) + 1) if n not in found and (plane == n).any())
    return found


def _neighbours(
    first: NDArray[np.float64], array: NDArray[np.uint8], matrix: tuple[int, int]
) -> list[tuple[NDArray[np.uint8], np.float32]]:
    """Return the up to eight shifted planes around a plane, each with its weight."""
    whole = np.floor(first + _NEGLIGIBLE).astype(int)
    fraction = np.where(first - whole > _NEGLIGIBLE, first - whole, 0.0)
    found = []
    for step in np.ndindex(2, 2, 2):
        weight = float(np.prod(np.where(step, fraction, 1 - fraction)))
        if weight > 0:
            found.append((_cut(array, whole + step, matrix), np.float32(weight)))
    return found


def _cut(array: NDArray[np.uint8], start: NDArray[np.int64], matrix: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a plane of the array from a row and column on; past its edges the nearest voxel holds."""
    plane = array[min(start[0], len(array) - 1)]
    rows, columns = (slice(int(at), int(at) + n) for at, n in zip(start[1:], matrix, strict=True))
    inside = plane[rows, columns]
    lacking = [(0, n - have) for n, have in zip(matrix, inside.shape, strict=True)]
    return np.pad(inside, lacking, mode="edge") if any(n for _, n in lacking) else inside


def _draw_on_nearest(
    drawn: NDArray[np.uint8], where: NDArray[np.bool_], label: int, first: NDArray[np.float64]
) -> int:
    """Draw each voxel on the slice nearest to it, where that has no label; return how many pixels."""
    count = 0
    for plane, row, column in np.argwhere(where):
        n = int(np.argmin(np.abs(first[:, 0] - plane)))
        at = np.floor(np.array([row, column]) - first[n, 1:] + 0.5).astype(int)
        at = np.clip(at, 0, np.array(drawn.shape[1:]) - 1)
        drawn[n, at[0], at[1]] = label
        count += 1
    return count
