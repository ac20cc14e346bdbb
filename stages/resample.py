"""A volume on another grid whose axes are parallel to the first one's.

Linear interpolation between voxel centres; beyond the outermost centres the nearest value holds.
Runs on the host and on the device: the array says where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.arrays import Array, array_namespace, to_host
from stages.errors import GeometryError
from stages.geometry import Grid


@dataclass(frozen=True)
class AxisSamples:
    """Where the voxels of a new grid fall on one axis of the old one.

    Attributes
    ----------
    lower, upper
        Old indices on both sides, shape (n,), int64.
    weight
        Share of `upper`, from 0 to 1, shape (n,), float32.
    """

    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    weight: NDArray[np.float32]

    def part(self, start: int, stop: int) -> AxisSamples:
        """Return the samples from `start` to before `stop`."""
        return AxisSamples(self.lower[start:stop], self.upper[start:stop], self.weight[start:stop])


def axis_samples(source: Grid, target: Grid) -> tuple[AxisSamples, AxisSamples, AxisSamples]:
    """Return, for slices, rows and columns, where `target`'s voxels fall on `source`.

    Raises
    ------
    GeometryError
        If the axes of the two grids are not parallel.
    """
    between = np.linalg.inv(source.affine) @ target.affine
    scale = np.diag(between)[:3]
    drift = np.abs(between[:3, :3] - np.diag(scale)).max() * max(target.shape)
    if drift > 1e-3:
        raise GeometryError(f"the axes of the two grids are not parallel: they part by {drift:.3f} voxels")
    samples = [
        _samples(scale[axis] * np.arange(target.shape[axis]) + between[axis, 3], source.shape[axis])
        for axis in range(3)
    ]
    return samples[0], samples[1], samples[2]


def _samples(coordinates: NDArray[np.float64], size: int) -> AxisSamples:
    inside = np.clip(coordinates, 0, size - 1)
    lower = np.floor(inside).astype(np.int64)
    upper = np.minimum(lower + 1, size - 1)
    return AxisSamples(lower, upper, (inside - lower).astype(np.float32))


def interpolate_axis(array: Array, samples: AxisSamples, *, axis: int) -> Array:
    """Interpolate one axis of an array linearly; the result is float32."""
    xp = array_namespace(array)
    shape = [1] * array.ndim
    shape[axis] = -1
    lower = xp.take(array, xp.asarray(samples.lower), axis=axis).astype(np.float32)
    upper = xp.take(array, xp.asarray(samples.upper), axis=axis).astype(np.float32)
    upper -= lower
    upper *= xp.asarray(samples.weight).reshape(shape)
    lower += upper
    return lower


def resample_linear(array: Array, source: Grid, target: Grid) -> Array:
    """Return the array, which lies on `source`, on `target`: float32, shape ``target.shape``.

    Axes that shrink most go first, so that little is computed twice.
    """
    samples = axis_samples(source, target)
    order = sorted(range(3), key=lambda axis: (target.shape[axis] / source.shape[axis], axis == 2))
    for axis in order:
        array = interpolate_axis(array, samples[axis], axis=axis)
    return array


def labels_from_scores(
    scores: Array, source: Grid, target: Grid, *, labels: Sequence[int], threshold: float | None = None
) -> Array:
    """Interpolate class scores linearly onto another grid and take the best class of each voxel.

    Only the box in which some class beats the first one is computed, a slice at a time: where the
    first class wins at every corner of a cell, it wins inside it, so nothing is missed and no score
    volume of the target's size ever exists.

    Parameters
    ----------
    scores
        Shape (classes, slices, rows, columns) on `source`, float32; the first class is background.
    labels
        Label value of each class; ties go to the earlier one.
    threshold
        Take the label of the last class with a score above it instead, 0 where there is none; no class is
        background then.

    Returns
    -------
    Array
        uint8, shape ``target.shape``.
    """
    xp = array_namespace(scores)
    result = xp.full(target.shape, labels[0] if threshold is None else 0, dtype=np.uint8)
    foreground = _foreground(scores) if threshold is None else scores.max(axis=0) > threshold
    samples = axis_samples(source, target)
    box = [_reached(samples[axis], _any_along(foreground, axis)) for axis in range(3)]
    if any(start == stop for start, stop in box):
        return result
    slices, rows, columns = (samples[axis].part(*box[axis]) for axis in range(3))
    values = xp.asarray(labels, dtype=np.uint8)
    for n in range(len(slices.lower)):
        plane = interpolate_axis(scores, slices.part(n, n + 1), axis=1)[:, 0]
        plane = interpolate_axis(interpolate_axis(plane, rows, axis=1), columns, axis=2)
        found = values[plane.argmax(axis=0)] if threshold is None else _above(plane, threshold, labels)
        result[box[0][0] + n, box[1][0] : box[1][1], box[2][0] : box[2][1]] = found
    return result


def _foreground(scores: Array) -> Array:
    return (scores[1:].max(axis=0) > scores[0]) if len(scores) > 1 else scores[0] < -np.inf


def _above(plane: Array, threshold: float, labels: Sequence[int]) -> Array:
    found = array_namespace(plane).zeros(plane.shape[1:], dtype=np.uint8)
    for score, label in zip(plane, labels, strict=True):
        found[score > threshold] = label
    return found


def _any_along(foreground: Array, axis: int) -> NDArray[np.bool_]:
    others = tuple(a for a in range(3) if a != axis)
    return to_host(foreground.any(axis=others))


def _reached(samples: AxisSamples, foreground: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the range of target indices that touch a foreground index of the source."""
    touched = np.flatnonzero(foreground[samples.lower] | foreground[samples.upper])
    return (int(touched[0]), int(touched[-1]) + 1) if touched.size else (0, 0)
