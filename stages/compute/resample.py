"""A volume on another grid whose axes are parallel to the first one's, and scores as labels there.

Linear interpolation between voxel centres, or the nearest voxel, axis by axis; beyond the outermost centres
the nearest value holds. Splines are for `stages.compute.separable`.
Each is one pass, on the host by Numba (`stages.compute.resample_host`) or on the device by CUDA
(`stages.compute.resample_device`): the array says where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stages.arrays import Array, array_namespace
from stages.compute.intensity import UNCHANGED, Intensity
from stages.compute.strides import flat, order_in_memory, rows_in_order, turned
from stages.compute.threads import in_parts
from stages.errors import GeometryError
from stages.volume.geometry import Grid


@dataclass(frozen=True)
class AxisSamples:
    """Where the voxels of a new grid fall on one axis of the old one.

    Attributes
    ----------
    lower, upper
        Old indices on both sides, shape (n,), uint32.
    weight
        Share of `upper`, from 0 to 1, shape (n,), float32.
    """

    lower: NDArray[np.uint32]
    upper: NDArray[np.uint32]
    weight: NDArray[np.float32]

    @property
    def arrays(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float32]]:
        """All three."""
        return self.lower, self.upper, self.weight

    def of_reversed(self, size: int) -> AxisSamples:
        """Return the samples for an axis of so many voxels that is read from its end.

        Parameters
        ----------
        size
            Voxels of the old grid along the axis.
        """
        return AxisSamples(np.uint32(size - 1) - self.lower, np.uint32(size - 1) - self.upper, self.weight)

    def reversed(self) -> AxisSamples:
        """Return the samples of the new grid's axis from its end."""
        return AxisSamples(self.lower[::-1].copy(), self.upper[::-1].copy(), self.weight[::-1].copy())


Samples: TypeAlias = tuple[AxisSamples, AxisSamples, AxisSamples]


@dataclass(frozen=True)
class Between:
    """How values between voxels are found.

    Attributes
    ----------
    nearest
        For slices, rows and columns: whether the nearest voxel counts alone, rather than both neighbours.
    ties_to_even
        Which voxel is the nearest halfway between two: the one of an even index, rather than the later one.
    """

    nearest: tuple[bool, bool, bool] = (False, False, False)
    ties_to_even: bool = False


LINEAR = Between()


def axis_samples(source: Grid, target: Grid, between: Between = LINEAR) -> Samples:
    """Return, for slices, rows and columns, where `target`'s voxels fall on `source`.

    Parameters
    ----------
    source
        The old grid.
    target
        The new one.
    between
        What counts between voxels.

    Raises
    ------
    GeometryError
        If the axes of the two grids are not parallel.
    """
    slices, rows, columns = (
        _nearest(places, size, between) if nearest else _samples(places, size)
        for places, size, nearest in zip(
            axis_places(source, target), source.shape, between.nearest, strict=True
        )
    )
    return slices, rows, columns


def axis_places(source: Grid, target: Grid) -> list[NDArray[np.float64]]:
    """Return, for slices, rows and columns, the index on `source` of each of `target`'s voxels.

    Parameters
    ----------
    source
        The old grid.
    target
        The new one.

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
    return [scale[axis] * np.arange(target.shape[axis]) + between[axis, 3] for axis in range(3)]


def nearest_index(
    places: NDArray[np.float64], size: int, *, ties_to_even: bool = False
) -> NDArray[np.uint32]:
    """Return the index of the voxel that is nearest to each place.

    Parameters
    ----------
    places
        Indices, fractions too.
    size
        Voxels of the axis.
    ties_to_even
        As for `Between`.
    """
    places = np.round(places, 6)  # so that a half is one, wherever a grid was cut
    found = np.rint(places) if ties_to_even else np.floor(places + 0.5)
    return np.clip(found, 0, size - 1).astype(np.uint32)


def _nearest(places: NDArray[np.float64], size: int, between: Between) -> AxisSamples:
    index = nearest_index(places, size, ties_to_even=between.ties_to_even)
    return AxisSamples(index, index, np.zeros(len(index), np.float32))


def _samples(coordinates: NDArray[np.float64], size: int) -> AxisSamples:
    inside = np.clip(coordinates, 0, size - 1)
    lower = np.floor(inside).astype(np.uint32)
    upper = np.minimum(lower + 1, size - 1).astype(np.uint32)
    return AxisSamples(lower, upper, (inside - lower).astype(np.float32))


def resample_linear(
    array: Array,
    source: Grid,
    target: Grid,
    *,
    intensity: Intensity = UNCHANGED,
    between: Between = LINEAR,
) -> Array:
    """Return the array, which lies on `source`, on `target`, its intensities changed in the same pass.

    Parameters
    ----------
    array
        Shape ``source.shape``; int16 HU or float32, any view of it, on the host or on the device.
    source
        The grid that the array lies on.
    target
        The grid that is wanted, its axes parallel to those of `source`.
    intensity
        What is made of the interpolated values.
    between
        What counts between voxels.

    Returns
    -------
    Array
        float32, shape ``target.shape``, in order.

    Raises
    ------
    GeometryError
        If the axes of the two grids are not parallel.
    SettingsError
        If an array of the device is neither int16 nor float32.
    """
    samples = axis_samples(source, target, between)
    out = array_namespace(array).empty(target.shape, dtype=np.float32)
    if array_namespace(array) is not np:
        from stages.compute import resample_device

        resample_device.resample(array, samples, intensity.numbers, out)
        return out
    from stages.compute import resample_host

    axes, flips = order_in_memory(array)
    read = turned(array, axes, flips)
    lies_in, steps = flat(read if rows_in_order(read) else np.ascontiguousarray(read))
    ordered = tuple(
        (samples[axis].of_reversed(array.shape[axis]) if flip else samples[axis]).arrays
        for axis, flip in zip(axes, flips, strict=True)
    )
    made = out.transpose(axes)
    in_parts(
        lambda start, stop: resample_host.resample(
            lies_in, steps, read.shape[2], ordered, intensity.numbers, made, start, stop
        ),
        len(made),
    )
    return out


def labels_from_scores(
    scores: Array,
    source: Grid,
    target: Grid,
    *,
    labels: Sequence[int],
    threshold: float | None = None,
    between: Between = LINEAR,
    out: Array | None = None,
) -> Array:
    """Interpolate class scores linearly onto another grid and take the best class of each voxel.

    No score volume of the target's size ever exists: where one class is best at all eight corners of a
    cell it is best inside, so that scores are interpolated on the surfaces of things only.

    Parameters
    ----------
    scores
        Shape (classes, slices, rows, columns) on `source`, float32.
    source
        The grid of the scores.
    target
        The grid of the labels, its axes parallel to those of `source`.
    labels
        Label value of each class; ties go to the earlier one.
    threshold
        Take the label of the last class with a score above it instead, 0 where there is none.
    between
        What counts between the scores' voxels.
    out
        Where the labels go, uint8, shape ``target.shape``, any view; by default a new array.

    Returns
    -------
    Array
        `out`.

    Raises
    ------
    GeometryError
        If the axes of the two grids are not parallel.
    """
    xp = array_namespace(scores)
    values = np.append(np.asarray(labels, dtype=np.uint8), np.uint8(0))
    found = xp.empty(target.shape, dtype=np.uint8) if out is None else out
    limit = np.nan if threshold is None else float(threshold)
    samples = axis_samples(source, target, between)
    if xp is np:
        _label_on_host(scores, limit, samples, values, found)
    else:
        from stages.compute import resample_device

        resample_device.label(scores, limit, samples, values, found)
    return found


def _label_on_host(
    scores: NDArray[np.float32],
    limit: float,
    samples: Samples,
    values: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    from stages.compute import resample_host

    classes = len(scores)
    axes, flips = order_in_memory(out)
    made = turned(out, axes, flips)
    given = scores.transpose(0, *(1 + axis for axis in axes))
    ordered = tuple(
        (samples[axis].reversed() if flip else samples[axis]).arrays
        for axis, flip in zip(axes, flips, strict=True)
    )
    best = np.empty(given.shape[1:], np.uint8 if classes < 255 else np.uint16)
    in_parts(lambda start, stop: resample_host.find_best(given, limit, best, start, stop), len(best))
    ground = 0 if np.isnan(limit) else classes
    out.fill(values[ground])
    reach = _reach(ordered[2], given.shape[3])
    in_parts(
        lambda start, stop: resample_host.label(
            given, best, limit, ordered, reach, values, ground, made, start, stop
        ),
        len(made),
    )


def _reach(samples: Any, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each old index the first and the last new one that touches it."""
    low, high = np.minimum(*samples[:2]), np.maximum(*samples[:2])
    old, last = np.arange(size), len(low) - 1
    if low[0] > low[-1]:  # new indices fall while old ones grow
        low, high = low[::-1], high[::-1]
        return last + 1 - np.searchsorted(low, old, side="right"), last - np.searchsorted(high, old)
    return np.searchsorted(high, old), np.searchsorted(low, old, side="right") - 1
