"""The loops of `stages.compute.components` for the host.

A component is found from its runs: a run is what lies side by side in a row. There are far fewer runs than
voxels, so that finding them takes one look at the mask, and joining them next to nothing.

References
----------
K. Wu, E. Otoo, K. Suzuki, Optimizing two-pass connected-component labeling algorithms, 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import types
from numpy.typing import NDArray

from stages.compute.numba_cache import compiled
from stages.compute.strides import flat
from stages.compute.threads import in_parts

_BYTES, _STEPS, _INDEX = types.uint8[::1], types.UniTuple(types.int64, 5), types.int64
_MEMBER, _COUNTS, _COLUMNS = types.bool_[::1], types.int64[::1], types.int32[::1]

Mask = NDArray[np.uint8]
Steps = tuple[int, int, int, int, int]
"""Slices, rows and columns of a mask; voxels from one slice to the next, and from one row to the next."""
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Runs:
    """The runs of a mask, in the order of its voxels.

    Attributes
    ----------
    of_row
        Where the runs of each row begin, shape (slices * rows + 1,).
    start, stop
        First column of each run, and the one behind its last.
    component
        The component's first run, which names it, for each run.
    """

    of_row: Indices
    start: NDArray[np.int32]
    stop: NDArray[np.int32]
    component: Indices

    @property
    def sizes(self) -> Indices:
        """Voxels of each component, at the place of its first run."""
        return np.bincount(self.component, self.stop - self.start, len(self.start)).astype(np.int64)


def keep_largest_component(mask: Mask, group: Sequence[int]) -> None:
    """Set to 0, in place, what is labelled with one of `group` but not in their largest component.

    Parameters
    ----------
    mask
        Shape (slices, rows, columns), uint8, its rows in order in memory; changed in place.
    group
        The labels, 0 to 255, that together make the components.
    """
    runs = _runs_of(mask, _members(group))
    if len(runs.start):
        goes = np.ones(len(runs.start), np.bool_)
        goes[runs.sizes.argmax()] = False
        _paint_components(mask, runs, goes, 0)


def remove_small(mask: Mask, label: int, minimum_voxels: float) -> None:
    """Set to 0, in place, each component of `label` with fewer voxels.

    Parameters
    ----------
    mask
        Shape (slices, rows, columns), uint8, its rows in order in memory; changed in place.
    label
        The label, 0 to 255.
    minimum_voxels
        The smallest size that stays, voxels.
    """
    runs = _runs_of(mask, _members([label]))
    _paint_components(mask, runs, runs.sizes < minimum_voxels, 0)


def keep_inside(mask: Mask, label: int, organ: int) -> None:
    """Set to 0, in place, each component of `label` that touches no voxel of `organ` over a face.

    Parameters
    ----------
    mask
        Shape (slices, rows, columns), uint8, its rows in order in memory; changed in place.
    label
        The label, 0 to 255.
    organ
        The label, 0 to 255, of what surrounds it.
    """
    runs = _runs_of(mask, _members([label]))
    _paint_components(mask, runs, ~_touching_components(mask, runs, organ), 0)


def fill_holes(mask: Mask, label: int) -> None:
    """Set to `label`, in place, the background (0) that it surrounds on all sides.

    Parameters
    ----------
    mask
        Shape (slices, rows, columns), uint8, its rows in order in memory; changed in place.
    label
        The label, 0 to 255.
    """
    runs = _runs_of(mask, _members([label]))
    if len(runs.start):
        part = mask[_box_of(mask, runs)]
        around = _runs_of(part, ~_members([label]))
        _paint_components(part, around, ~_on_the_edge(part.shape, around), label, ground_only=True)


def _runs_of(mask: Mask, member: NDArray[np.bool_]) -> _Runs:
    """Return the runs of the values that are members, and which hang together over faces.

    Parameters
    ----------
    mask
        Shape (slices, rows, columns).
    member
        Which of the 256 values belong to it.
    """
    slices, rows, _ = mask.shape
    lies_in, steps = _flat(mask)
    count = np.zeros(slices * rows + 1, np.int64)
    in_parts(lambda start, stop: _count(lies_in, steps, member, count[1:], start, stop), slices)
    of_row = np.cumsum(count)
    start, stop = np.empty((2, int(of_row[-1])), np.int32)
    in_parts(lambda first, last: _find(lies_in, steps, member, of_row, start, stop, first, last), slices)
    return _Runs(of_row, start, stop, _joined(rows, of_row, start, stop))


def _flat(mask: Mask) -> tuple[NDArray[np.uint8], Steps]:
    lies_in, (to_slice, to_row) = flat(mask, writeable=True)
    return lies_in, (*mask.shape, to_slice, to_row)


def _paint_components(
    mask: Mask, runs: _Runs, components: NDArray[np.bool_], value: int, *, ground_only: bool = False
) -> None:
    """Set the voxels of components to a value, which are chosen at the places of their first runs."""
    chosen = components[runs.component]
    if chosen.any():
        _paint(*_flat(mask), runs.of_row, runs.start, runs.stop, chosen, value, ground_only)


def _touching_components(mask: Mask, runs: _Runs, organ: int) -> NDArray[np.bool_]:
    """Return which components have a voxel of the organ beside them, at the places of their first runs."""
    found = np.zeros(len(runs.start), np.bool_)
    found[runs.component[_touching(*_flat(mask), runs.of_row, runs.start, runs.stop, organ)]] = True
    return found


def _members(labels: Sequence[int]) -> NDArray[np.bool_]:
    """Return which of the 256 values are among the labels."""
    member = np.zeros(256, np.bool_)
    member[list(labels)] = True
    return member


def _box_of(mask: Mask, runs: _Runs) -> tuple[slice, slice, slice]:
    """Return the smallest box that holds all runs, of which there must be one."""
    row = np.flatnonzero(np.diff(runs.of_row))
    rows, slices = row % mask.shape[1], row // mask.shape[1]
    return (
        slice(int(slices[0]), int(slices[-1]) + 1),
        slice(int(rows.min()), int(rows.max()) + 1),
        slice(int(runs.start.min()), int(runs.stop.max())),
    )


def _on_the_edge(shape: tuple[int, ...], runs: _Runs) -> NDArray[np.bool_]:
    """Return which components reach a face of the box, at the places of their first runs."""
    slices, rows, columns = shape
    row = np.repeat(np.arange(slices * rows), np.diff(runs.of_row))
    plane, line = row // rows, row % rows
    edge = (plane == 0) | (plane == slices - 1) | (line == 0) | (line == rows - 1)
    edge |= (runs.start == 0) | (runs.stop == columns)
    reached = np.zeros(len(runs.start), np.bool_)
    reached[runs.component[edge]] = True
    return reached


@compiled(types.void(_BYTES, _STEPS, _MEMBER, _COUNTS, _INDEX, _INDEX))
def _count(
    voxels: NDArray[np.uint8], steps: Steps, member: NDArray[np.bool_], count: Indices, first: int, last: int
) -> None:
    """Count the runs of each row."""
    _, rows, columns, to_slice, to_row = steps
    for z in range(first, last):
        for y in range(rows):
            begin = z * to_slice + y * to_row
            row, seen = voxels[begin : begin + columns], np.uint8(0)
            if not member[0]:
                for x in range(columns):
                    seen |= row[x]
                if seen == 0:
                    continue
            found, inside = 0, False
            for x in range(columns):
                now = member[row[x]]
                found += now and not inside
                inside = now
            count[z * rows + y] = found


@compiled(types.void(_BYTES, _STEPS, _MEMBER, _COUNTS, _COLUMNS, _COLUMNS, _INDEX, _INDEX))
def _find(
    voxels: NDArray[np.uint8],
    steps: Steps,
    member: NDArray[np.bool_],
    of_row: Indices,
    start: NDArray[np.int32],
    stop: NDArray[np.int32],
    first: int,
    last: int,
) -> None:
    """Find where the runs of each row begin and end."""
    _, rows, columns, to_slice, to_row = steps
    for z in range(first, last):
        for y in range(rows):
            n = of_row[z * rows + y]
            if n == of_row[z * rows + y + 1]:
                continue
            begin = z * to_slice + y * to_row
            row, inside = voxels[begin : begin + columns], False
            for x in range(columns):
                now = member[row[x]]
                if now and not inside:
                    start[n] = x
                elif inside and not now:
                    stop[n] = x
                    n += 1
                inside = now
            if inside:
                stop[n] = columns


@compiled(types.int64(_COUNTS, _INDEX))
def _first(parent: Indices, n: int) -> int:
    """Return the first run of the component that a run is known to belong to."""
    while parent[n] != n:
        parent[n] = parent[parent[n]]
        n = parent[n]
    return n


@compiled(types.void(_COUNTS, _COUNTS, _COLUMNS, _COLUMNS, _INDEX, _INDEX))
def _join_rows(
    parent: Indices, of_row: Indices, start: NDArray[np.int32], stop: NDArray[np.int32], row: int, other: int
) -> None:
    """Join the runs of two rows that lie side by side."""
    n, m = of_row[row], of_row[other]
    while n < of_row[row + 1] and m < of_row[other + 1]:
        if start[n] < stop[m] and start[m] < stop[n]:
            one, two = _first(parent, n), _first(parent, m)
            parent[max(one, two)] = min(one, two)
        if stop[n] < stop[m]:
            n += 1
        else:
            m += 1


@compiled(types.int64[::1](_INDEX, _COUNTS, _COLUMNS, _COLUMNS))
def _joined(rows: int, of_row: Indices, start: NDArray[np.int32], stop: NDArray[np.int32]) -> Indices:
    """Return the first run of each run's component."""
    parent = np.arange(len(start))
    for row in range(len(of_row) - 1):
        if row % rows:
            _join_rows(parent, of_row, start, stop, row, row - 1)
        if row >= rows:
            _join_rows(parent, of_row, start, stop, row, row - rows)
    for n in range(len(parent)):  # a parent comes before its children
        parent[n] = parent[parent[n]]
    return parent


@compiled(types.void(_BYTES, _STEPS, _COUNTS, _COLUMNS, _COLUMNS, _MEMBER, types.int64, types.bool_))
def _paint(
    voxels: NDArray[np.uint8],
    steps: Steps,
    of_row: Indices,
    start: NDArray[np.int32],
    stop: NDArray[np.int32],
    chosen: NDArray[np.bool_],
    value: int,
    ground_only: bool,
) -> None:
    for row in range(len(of_row) - 1):
        begin = row // steps[1] * steps[3] + row % steps[1] * steps[4]
        for n in range(of_row[row], of_row[row + 1]):
            if chosen[n]:
                for x in range(begin + start[n], begin + stop[n]):
                    if not ground_only or voxels[x] == 0:
                        voxels[x] = value


@compiled(types.bool_[::1](_BYTES, _STEPS, _COUNTS, _COLUMNS, _COLUMNS, types.int64))
def _touching(
    voxels: NDArray[np.uint8],
    steps: Steps,
    of_row: Indices,
    start: NDArray[np.int32],
    stop: NDArray[np.int32],
    organ: int,
) -> NDArray[np.bool_]:
    """Return which runs have a voxel of the organ over one of their faces."""
    slices, rows, columns, to_slice, to_row = steps
    touches = np.zeros(len(start), np.bool_)
    for row in range(len(of_row) - 1):
        z, y = row // rows, row % rows
        begin = z * to_slice + y * to_row
        for n in range(of_row[row], of_row[row + 1]):
            near = (start[n] > 0 and voxels[begin + start[n] - 1] == organ) or (
                stop[n] < columns and voxels[begin + stop[n]] == organ
            )
            for dz, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                if not near and 0 <= z + dz < slices and 0 <= y + dy < rows:
                    side = begin + dz * to_slice + dy * to_row
                    for x in range(side + start[n], side + stop[n]):
                        near = near or voxels[x] == organ
            touches[n] = near
    return touches
