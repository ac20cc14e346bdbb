"""A volume on another grid, one axis after the other: splines, and values that are clipped before.

Along an axis each new voxel is a weighted sum of neighbours, so that rows are combined with rows and nothing
is solved for: the weights of an interpolating cubic spline fall to a quarter from voxel to voxel, and the few
that are taken leave out less than 1e-8 of the volume's range. A part of the new grid is thus made
of a part of the old one. The loops are in `stages.compute.separable_host` and, for the device, in
`stages.compute.separable_device`.

References
----------
Unser, Splines: a perfect fit for signal and image processing, IEEE Signal Processing Magazine 16, 1999.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stages.arrays import Array, array_namespace, to_host
from stages.compute.intensity import UNCHANGED, Intensity
from stages.compute.resample import axis_places, nearest_index
from stages.compute.strides import order_in_memory, parts_of, turned
from stages.compute.threads import cores
from stages.volume.geometry import Grid

Kind: TypeAlias = Literal["linear", "cubic", "nearest"]
Edge: TypeAlias = Literal["nearest", "mirror"]

REACH = 15
"""How far from a place the voxels lie that a spline takes, on both sides of its two neighbours."""

_POLE = math.sqrt(3) - 2
_NO_BOUND = np.array([-np.inf, np.inf], np.float32)


@dataclass(frozen=True, eq=False)
class AxisWeights:
    """What the voxels of a new grid are made of along one axis of the old one.

    Attributes
    ----------
    first
        The first old index of each, shape (n,), int64.
    weights
        Of the old voxels from there on, shape (n, voxels), float32.
    """

    first: NDArray[np.int64]
    weights: NDArray[np.float32]

    @property
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Both."""
        return self.first, self.weights

    @property
    def used(self) -> slice:
        """The old voxels that count for any of the new ones."""
        return slice(int(self.first.min()), int(self.first.max()) + self.weights.shape[1])

    def of_reversed(self, size: int) -> AxisWeights:
        """Return the weights for an axis of so many voxels that is read from its end.

        Parameters
        ----------
        size
            Voxels of the old grid along the axis.
        """
        first = size - self.weights.shape[1] - self.first
        return AxisWeights(first, np.ascontiguousarray(self.weights[:, ::-1]))

    def from_start(self, start: int) -> AxisWeights:
        """Return the weights for an axis whose first voxels are left out.

        Parameters
        ----------
        start
            How many of the old voxels are.
        """
        return AxisWeights(self.first - start, self.weights)


Weights: TypeAlias = tuple[AxisWeights, AxisWeights, AxisWeights]


@dataclass(frozen=True, kw_only=True, eq=False)
class Separable:
    """How a volume is brought to another grid axis by axis.

    Attributes
    ----------
    kinds
        For slices, rows and columns: what is between voxels.
    ties_to_even
        As for `stages.compute.resample.Between`.
    edge
        How the volume goes on for a spline beyond its outermost voxels: as they are, or mirrored at their
        centres.
    clip
        Bounds to which values are clipped before anything else.
    bounds
        For slices, rows and columns of the old grid: bounds to which what is made of them is clipped, shape
        (2,) for all of an axis, or (n, 2) for each of its voxels (of an axis whose kind is ``nearest``).
    truncate
        Whether what is made loses its fraction, towards zero, before its intensity is changed. What lies less
        than 1/512 below a whole number is taken for it.
    """

    kinds: tuple[Kind, Kind, Kind] = ("linear", "linear", "linear")
    ties_to_even: bool = False
    edge: Edge = "nearest"
    clip: tuple[float, float] = (-np.inf, np.inf)
    bounds: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]] = (_NO_BOUND,) * 3
    truncate: bool = False


def axis_weights(
    places: NDArray[np.float64], size: int, kind: Kind, *, edge: Edge = "nearest"
) -> AxisWeights:
    """Return what values at places along an axis are made of.

    Parameters
    ----------
    places
        Indices, fractions too.
    size
        Voxels of the axis.
    kind
        ``linear`` or ``cubic``; for the nearest voxel give its index and ``linear``.
    edge
        As for `Separable`.
    """
    if kind == "cubic":
        return _folded(*_cubic(_within_reach(places, size)), size, edge)
    inside = np.clip(places, 0, size - 1)
    share = inside - np.floor(inside)
    return _folded(np.floor(inside).astype(int), np.stack([1 - share, share], axis=1), size, "nearest")


def _within_reach(places: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return places, those far outside moved to where a volume that goes on as it is has but one value."""
    return np.clip(places, -REACH - 1, size + REACH)


def _cubic(places: NDArray[np.float64]) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
    """Return the first voxel that counts at each place, and the weights from there on, of an endless axis."""
    below = np.floor(places).astype(int)
    share = places - below
    left = 1 - share
    basis = [left**3 / 6, 2 / 3 - share**2 * (1 + left) / 2, 2 / 3 - left**2 * (1 + share) / 2, share**3 / 6]
    offsets = np.arange(-REACH, REACH + 2)
    weights = sum(
        of_one[:, None] * math.sqrt(3) * _POLE ** np.abs(offsets - n)
        for n, of_one in zip(range(-1, 3), basis, strict=True)
    )
    return below - REACH, np.asarray(weights / np.sum(weights, axis=1, keepdims=True))


def _folded(first: NDArray[np.int_], weights: NDArray[np.float64], size: int, edge: Edge) -> AxisWeights:
    """Return the weights with those of voxels beyond the edges added to the ones that stand for these."""
    count = min(weights.shape[1], size)
    begin = np.clip(first, 0, size - count)
    index = first[:, None] + np.arange(weights.shape[1])
    if edge == "nearest":
        index = np.clip(index, 0, size - 1)
    else:
        period = max(2 * (size - 1), 1)
        index = np.abs((index + size - 1) % period - (size - 1)) if size > 1 else np.zeros_like(index)
    made = np.zeros((len(first), count))
    np.add.at(made, (np.arange(len(first))[:, None], index - begin[:, None]), weights)
    return AxisWeights(begin.astype(np.int64), np.ascontiguousarray(made, np.float32))


def weights_between(source: Grid, target: Grid, how: Separable) -> Weights:
    """Return, for slices, rows and columns, what `target`'s voxels are made of on `source`.

    Parameters
    ----------
    source
        The old grid.
    target
        The new one.
    how
        What is between voxels.

    Raises
    ------
    GeometryError
        If the axes of the two grids are not parallel.
    """
    slices, rows, columns = (
        axis_weights(nearest_index(places, size, ties_to_even=how.ties_to_even).astype(float), size, "linear")
        if kind == "nearest"
        else axis_weights(places, size, kind, edge=how.edge)
        for places, size, kind in zip(axis_places(source, target), source.shape, how.kinds, strict=True)
    )
    return slices, rows, columns


def resample_separable(
    array: Array, source: Grid, target: Grid, how: Separable, *, intensity: Intensity = UNCHANGED
) -> Array:
    """Return the array, which lies on `source`, on `target`; float32, shape ``target.shape``, in order.

    Parameters
    ----------
    array
        Shape ``source.shape``; int16 HU or float32, any view of it, on the host or on the device.
    source
        The grid that the array lies on.
    target
        The grid that is wanted, its axes parallel to those of `source`.
    how
        What is between voxels, and what is clipped.
    intensity
        What is made of the interpolated values.

    Raises
    ------
    GeometryError
        If the axes of the two grids are not parallel.
    SettingsError
        If an array of the device is neither int16 nor float32.
    """
    weights = weights_between(source, target, how)
    used = tuple(each.used for each in weights)
    read = array[used]
    weights = _shifted(weights, used)
    bounds = bounds_of(source, target, how)
    out = array_namespace(array).empty(target.shape, dtype=np.float32)
    if array_namespace(array) is not np:
        from stages.compute import separable_device

        arrays = [each.arrays for each in weights]
        separable_device.resample(read, arrays, how.clip, bounds, intensity, out, truncate=how.truncate)
        return out
    from stages.compute import separable_host

    axes, flips = order_in_memory(read)
    ordered = tuple(
        weights[axis].of_reversed(read.shape[axis]) if flip else weights[axis]
        for axis, flip in zip(axes, flips, strict=True)
    )
    separable_host.resample(
        turned(read, axes, flips),
        (ordered[0].arrays, ordered[1].arrays, ordered[2].arrays),
        how.clip,
        (bounds[axes[0]], bounds[axes[1]], bounds[axes[2]]),
        intensity,
        out.transpose(axes),
        truncate=how.truncate,
    )
    return out


def _shifted(weights: Weights, used: Sequence[slice]) -> Weights:
    slices, rows, columns = (each.from_start(part.start) for each, part in zip(weights, used, strict=True))
    return slices, rows, columns


def bounds_of(source: Grid, target: Grid, how: Separable) -> list[NDArray[np.float32]]:
    """Return, for slices, rows and columns of `target`, the bounds of what is made, each of shape (n, 2).

    Parameters
    ----------
    source, target, how
        As for `resample_separable`.
    """
    made = []
    for places, size, given in zip(axis_places(source, target), source.shape, how.bounds, strict=True):
        each = np.broadcast_to(given, (size, 2))
        index = nearest_index(places, size, ties_to_even=how.ties_to_even)
        made.append(np.ascontiguousarray(each[index], np.float32))
    return made


def scratch_bytes(array: Array, source: Grid, target: Grid, how: Separable, *, on_device: bool) -> int:
    """Return what `resample_separable` takes beside what it returns, bytes.

    Parameters
    ----------
    array
        As it will be given, for its order in memory.
    source, target, how
        As for `resample_separable`.
    on_device
        Whether it will be on the CUDA device then.
    """
    weights = weights_between(source, target, how)
    used = [each.used.stop - each.used.start for each in weights]
    made: Sequence[int] = target.shape
    if on_device:  # rows, then columns, then slices
        return int(4 * used[0] * made[1] * (used[2] + made[2]))
    first, second, third = order_in_memory(array)[0]
    of_a_core = used[second] * used[third] + 2 * made[second] * (used[third] + made[third])
    return int(4 * (used[first] * made[second] * made[third] + cores() * of_a_core))


def ranges(array: Array, axis: int | None, *, clip: tuple[float, float]) -> NDArray[np.float32]:
    """Return the lowest and the highest value of a volume, clipped, of all (2,) or along an axis (n, 2).

    Parameters
    ----------
    array
        Shape (slices, rows, columns), any view.
    axis
        The axis along which they are told one by one; None for all together.
    clip
        The bounds that values are clipped to.
    """
    if axis is None:
        return np.array(_range_of_all(array, clip), np.float32)
    xp = array_namespace(array)
    others = tuple(n for n in range(3) if n != axis)
    found = xp.stack([array.min(axis=others), array.max(axis=others)], axis=-1)
    return to_host(found).astype(np.float32).clip(np.float32(clip[0]), np.float32(clip[1]))


def _range_of_all(array: Array, clip: tuple[float, float]) -> list[float]:
    """Return the range of what is clipped, for which a part of the array may be enough."""
    axes, flips = order_in_memory(array)
    lowest, highest = np.inf, -np.inf
    for part in parts_of(turned(array, axes, flips)):
        lowest, highest = min(lowest, float(part.min())), max(highest, float(part.max()))
        if lowest <= clip[0] and highest >= clip[1]:
            break
    return [min(max(each, clip[0]), clip[1]) for each in (lowest, highest)]


def with_bounds(how: Separable, found: NDArray[np.float32], axis: int | None) -> Separable:
    """Return the same way with bounds to what is made.

    Parameters
    ----------
    how
        The way.
    found
        From `ranges`.
    axis
        As for `ranges`.
    """
    bounds = [_NO_BOUND] * 3
    bounds[axis or 0] = found
    return replace(how, bounds=(bounds[0], bounds[1], bounds[2]))
