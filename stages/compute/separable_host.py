"""The loops of `stages.compute.separable` for the host: slices first, then across them, on all cores.

A slice, row and column here are those of memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from stages.compute.intensity import Intensity
from stages.compute.numba_cache import compiled, read_only
from stages.compute.threads import in_parts

_PLANE, _STACK = types.float32[:, ::1], types.float32[:, :, ::1]
_AXIS = types.Tuple((types.int64[::1], types.float32[:, ::1]))
_INDEX, _FLOAT = types.int64, types.float64
_TILE = 16

Floats = NDArray[np.float32]
Axis = tuple[NDArray[np.int64], Floats]


def resample(
    array: NDArray[Any],
    weights: tuple[Axis, Axis, Axis],
    clip: tuple[float, float],
    bounds: tuple[Floats, Floats, Floats],
    intensity: Intensity,
    out: Floats,
    *,
    truncate: bool,
) -> None:
    """Fill `out` with what is made of a volume.

    Parameters
    ----------
    array
        Shape (slices, rows, columns), int16 or float32, best as it lies in memory.
    weights
        What the voxels of `out` are made of, for slices, rows and columns: the first old one, and the weights
        from there on.
    clip
        Bounds to which values are clipped before.
    bounds
        Lowest and highest of what is made, shape (n, 2), for slices, rows and columns.
    intensity
        What is made of it then.
    out
        float32, any view.
    truncate
        Whether fractions are lost.
    """
    across, rows, columns = weights
    stack = np.empty((array.shape[0], *out.shape[1:]), np.float32)
    low, high = clip
    in_parts(lambda start, stop: in_slices(array, low, high, rows, columns, stack, start, stop), len(stack))
    in_parts(
        lambda start, stop: across_slices(
            stack, across, bounds, truncate, intensity.numbers, out, start, stop
        ),
        out.shape[1],
    )


@compiled(types.void(read_only(types.float32, 1, "C"), _INDEX, _AXIS, _PLANE))
def combine(voxels: Floats, step: int, weights: Axis, out: Floats) -> None:
    """Fill the rows of `out` with weighted sums of rows.

    Parameters
    ----------
    voxels
        Memory in which the rows lie.
    step
        Voxels from one row to the next.
    weights
        The first row of each, and the weights from there on.
    out
        A row for each.
    """
    first, shares = weights
    count, columns = shares.shape[1], out.shape[1]
    whole = count // 4 * 4
    for n in range(len(first)):
        into, share = out[n], shares[n]
        into[:] = 0
        for k in range(0, whole, 4):
            begin = (first[n] + k) * step
            a = voxels[begin : begin + columns]
            b = voxels[begin + step : begin + step + columns]
            c = voxels[begin + 2 * step : begin + 2 * step + columns]
            d = voxels[begin + 3 * step : begin + 3 * step + columns]
            wa, wb, wc, wd = share[k], share[k + 1], share[k + 2], share[k + 3]
            for x in range(columns):
                into[x] += (a[x] * wa + b[x] * wb) + (c[x] * wc + d[x] * wd)
        for k in range(whole, count):
            begin = (first[n] + k) * step
            row, weight = voxels[begin : begin + columns], share[k]
            for x in range(columns):
                into[x] += row[x] * weight


@compiled(types.void(_PLANE, _PLANE))
def transpose(plane: Floats, out: Floats) -> None:
    """Write a plane with its rows as columns.

    Parameters
    ----------
    plane
        The plane, in order.
    out
        Where it goes, in order.
    """
    rows, columns = plane.shape
    for top in range(0, rows, _TILE):
        for left in range(0, columns, _TILE):
            for y in range(top, min(top + _TILE, rows)):
                for x in range(left, min(left + _TILE, columns)):
                    out[x, y] = plane[y, x]


@compiled(
    *(
        types.void(read_only(kind, 3), _FLOAT, _FLOAT, _AXIS, _AXIS, _STACK, _INDEX, _INDEX)
        for kind in (types.int16, types.float32)
    )
)
def in_slices(
    array: NDArray[Any],
    low: float,
    high: float,
    rows: Axis,
    columns: Axis,
    out: Floats,
    start: int,
    stop: int,
) -> None:
    """Fill the slices from `start` to before `stop` of `out` with new rows and columns.

    Parameters
    ----------
    array
        Shape (slices, rows, columns).
    low, high
        Bounds to which values are clipped before.
    rows, columns
        What the new ones are made of.
    out
        As many slices as the array has.
    start, stop
        The slices to fill.
    """
    given = np.empty((array.shape[1], array.shape[2]), np.float32)
    fewer = np.empty((out.shape[1], array.shape[2]), np.float32)
    turned = np.empty((array.shape[2], out.shape[1]), np.float32)
    made = np.empty((out.shape[2], out.shape[1]), np.float32)
    least, most = np.float32(low), np.float32(high)
    for z in range(start, stop):
        for y in range(array.shape[1]):
            for x in range(array.shape[2]):
                given[y, x] = min(max(np.float32(array[z, y, x]), least), most)
        combine(given.ravel(), given.shape[1], rows, fewer)
        transpose(fewer, turned)
        combine(turned.ravel(), turned.shape[1], columns, made)
        transpose(made, out[z])


@compiled(
    types.void(
        _STACK,
        _AXIS,
        types.UniTuple(_PLANE, 3),
        types.bool_,
        types.UniTuple(_FLOAT, 5),
        types.float32[:, :, :],
        _INDEX,
        _INDEX,
    )
)
def across_slices(
    stack: Floats,
    weights: Axis,
    bounds: tuple[Floats, Floats, Floats],
    truncate: bool,
    intensity: tuple[float, float, float, float, float],
    out: Floats,
    start: int,
    stop: int,
) -> None:
    """Fill the rows from `start` to before `stop` of all slices of `out`.

    Parameters
    ----------
    stack
        Old slices with new rows and columns.
    weights
        What new slices are made of.
    bounds
        Lowest and highest of what is made, for slices, rows and columns.
    truncate
        Whether fractions are lost.
    intensity
        Low, high, zero, scale and offset of `stages.compute.intensity.Intensity`.
    out
        Any view.
    start, stop
        The rows to fill.
    """
    of_slices, of_rows, of_columns = bounds
    low, high, zero = np.float32(intensity[0]), np.float32(intensity[1]), np.float32(intensity[2])
    scale, offset = np.float32(intensity[3]), np.float32(intensity[4])
    lines = np.empty((out.shape[0], stack.shape[2]), np.float32)
    voxels, columns = stack.ravel(), stack.shape[2]
    for y in range(start, stop):
        combine(voxels[y * columns :], stack.shape[1] * columns, weights, lines)
        for z in range(out.shape[0]):
            least, most = max(of_slices[z, 0], of_rows[y, 0]), min(of_slices[z, 1], of_rows[y, 1])
            line = lines[z]
            for x in range(len(line)):
                value = min(max(line[x], max(least, of_columns[x, 0])), min(most, of_columns[x, 1]))
                if truncate:
                    value = np.trunc(value + np.copysign(np.float32(1 / 512), value))
                out[z, y, x] = (min(max(value, low), high) - zero) * scale + offset
