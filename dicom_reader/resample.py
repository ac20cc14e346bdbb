"""Slices -> a regular grid: each slice moved within its plane, and planes between slices interpolated.

Linear interpolation. One slice after another is read and used up, so that beside the volume there are
never more than a few planes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NEGLIGIBLE = 1e-4  # of a pixel, or of the distance between planes

Index = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class _PlacedSlice:
    """A slice in the frame of the grid: its pixels on the grid's, and where they begin."""

    height: float
    row: int
    column: int
    pixels: NDArray[np.float32]

    @property
    def window(self) -> tuple[slice, slice]:
        rows, columns = self.pixels.shape
        return slice(self.row, self.row + rows), slice(self.column, self.column + columns)


def resample_onto_grid(
    planes: Iterable[NDArray[np.int16]],
    first_pixels: Sequence[Index],
    shape: tuple[int, int, int],
    *,
    fill: int,
) -> NDArray[np.int16]:
    """Return slices, each at its own place, as one array.

    Parameters
    ----------
    planes
        The pixels of each slice, in the order of the grid's planes, all of one shape.
    first_pixels
        Where the first pixel of each lies: index (slice, row, column) on the grid.
    shape
        Of the grid. Its first and last plane are at the first and the last slice.
    fill
        The value of voxels that no slice covers.

    Returns
    -------
    array
        int16, of the grid's shape.
    """
    result = np.full(shape, fill, dtype=np.int16)
    before: _PlacedSlice | None = None
    done = 0
    for pixels, first in zip(planes, first_pixels, strict=True):
        placed = _place(pixels, first)
        while done < shape[0] and done <= placed.height + _NEGLIGIBLE:
            _interpolate(before or placed, placed, done, result[done])
            done += 1
        before = placed
    return result


def _place(pixels: NDArray[np.int16], first: Index) -> _PlacedSlice:
    """Move a slice by the fraction of a pixel, so that its pixels are those of the grid."""
    moved = pixels.astype(np.float32)
    begin = []
    for axis, at in enumerate(first[1:]):
        begin.append(int(np.floor(at + 0.5)))
        offset = at - begin[-1]
        if abs(offset) > _NEGLIGIBLE:
            moved = _shift(moved, offset, axis)
    return _PlacedSlice(first[0], begin[0], begin[1], moved)


def _shift(pixels: NDArray[np.float32], offset: float, axis: int) -> NDArray[np.float32]:
    """Return pixels that lie up to half a pixel further (or back); past the end the nearest holds."""
    moved = np.empty_like(pixels)
    source, target = np.moveaxis(pixels, axis, 0), np.moveaxis(moved, axis, 0)
    if offset < 0:
        source, target = source[::-1], target[::-1]
    share = np.float32(abs(offset))
    np.multiply(source[:-1], share, out=target[1:])
    target[1:] += (1 - share) * source[1:]
    target[0] = source[0]
    return moved


def _interpolate(lower: _PlacedSlice, upper: _PlacedSlice, height: int, out: NDArray[np.int16]) -> None:
    """Write the plane at a height between two slices; where only one has a pixel, that one holds."""
    between = upper.height - lower.height
    weight = (height - lower.height) / between if between > 0 else 1.0
    if weight > 1 - _NEGLIGIBLE or weight < _NEGLIGIBLE:
        nearest = upper if weight > 0.5 else lower
        out[nearest.window] = np.rint(nearest.pixels)
        return
    for placed in (lower, upper):
        out[placed.window] = np.rint(placed.pixels)
    rows, columns = (
        slice(max(a.start, b.start), min(a.stop, b.stop))
        for a, b in zip(lower.window, upper.window, strict=True)
    )
    first, second = (
        p.pixels[rows.start - p.row : rows.stop - p.row, columns.start - p.column : columns.stop - p.column]
        for p in (lower, upper)
    )
    mixed = first * np.float32(1 - weight)
    mixed += np.float32(weight) * second
    out[rows, columns] = np.rint(mixed, out=mixed)
