"""From a volume to its labels without ever holding more than a slab of image and scores.

::

    volume ─▶ slab of the model's input ─▶ windows ─▶ slab of scores ─▶ part of the labels
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

import numpy as np

from stages.arrays import Array, array_namespace
from stages.errors import GeometryError
from stages.volume.geometry import Grid
from stages.windows.blending import ScoreSlab
from stages.windows.source import LazyImage

MakeImage: TypeAlias = Callable[[Grid], Array]
"""Returns the model's input on a grid, which is a part of the model's whole grid."""


class MakeLabels(Protocol):
    """Writes the labels of a part of the volume's grid, uint8, into `out`."""

    def __call__(self, scores: Array, source: Grid, target: Grid, *, out: Array) -> Array:
        """Fill `out`, of the shape of the target, from scores and their grid; return it."""


def grid_part(grid: Grid, start: int, stop: int, *, axis: int = 0) -> Grid:
    """Return the part of a grid from one index to before another along an axis.

    Parameters
    ----------
    grid
        The whole grid.
    start, stop
        The first index, and the one behind the last.
    axis
        0 slices, 1 rows, 2 columns.
    """
    affine = grid.affine.copy()
    affine[:3, 3] += start * affine[:3, axis]
    slices, rows, columns = (stop - start if n == axis else size for n, size in enumerate(grid.shape))
    return Grid((slices, rows, columns), affine)


def lazy_image(grid: Grid, make: MakeImage) -> LazyImage:
    """Return the model's input on a grid, made when it is needed.

    Parameters
    ----------
    grid
        The whole grid.
    make
        Makes the slices of a part of it.
    """
    return LazyImage(grid.shape, lambda start, stop: make(grid_part(grid, start, stop)))


def labels_from_slabs(
    slabs: Iterable[ScoreSlab], source: Grid, target: Grid, make: MakeLabels, *, out: Array = None
) -> Array:
    """Return the labels of a volume from the scores on the model's grid, slab by slab.

    Parameters
    ----------
    slabs
        From `stages.windows.sliding.score_slabs`, with ``shared_slice=True``.
    source
        The grid of all scores.
    target
        The volume's grid; its axes are the source's, in any order and direction.
    make
        Usually `stages.compute.resample.labels_from_scores` with the labels filled in.
    out
        Where the labels go, uint8, shape ``target.shape``; by default a new array.

    Returns
    -------
    Array
        uint8, shape ``target.shape``, where the scores live.
    """
    axis, coordinates = _positions(source, target)
    order = np.argsort(coordinates, kind="stable")
    labels = out
    done = 0
    for slab in slabs:
        if labels is None:
            labels = array_namespace(slab.scores).zeros(target.shape, dtype=np.uint8)
        stop = slab.start + slab.scores.shape[1]
        ready = len(order) if stop == source.shape[0] else _count_up_to(coordinates[order], stop - 1)
        if ready > done:
            chosen = order[done:ready]
            first, last = int(chosen.min()), int(chosen.max()) + 1
            make(
                slab.scores,
                grid_part(source, slab.start, stop),
                grid_part(target, first, last, axis=axis),
                out=labels[(slice(None),) * axis + (slice(first, last),)],
            )
            done = ready
    return labels


def _count_up_to(ascending: np.ndarray[Any, Any], position: float) -> int:
    return int(np.searchsorted(ascending, position, side="right"))


def _positions(source: Grid, target: Grid) -> tuple[int, np.ndarray[Any, Any]]:
    """Return the target's axis that runs along the source's slices, and where on them its indices lie."""
    between = np.linalg.inv(source.affine) @ target.affine
    axis = int(np.abs(between[0, :3]).argmax())
    others = [n for n in range(3) if n != axis]
    drift = max(abs(between[0, n]) * target.shape[n] for n in others)
    if drift > 1e-3:
        raise GeometryError(f"the axes of the two grids are not parallel: they part by {drift:.3f} voxels")
    return axis, between[0, axis] * np.arange(target.shape[axis]) + between[0, 3]
