"""The loops of `stages.compute.resample` for the host: one pass, on all cores.

A slice, row and column here are those of memory: `stages.compute.resample` turns arrays and samples so
that the large array (the volume that comes in, the mask that goes out) is read or written in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from stages.compute.numba_cache import compiled, read_only

_INDEX, _PAIR = types.int64, types.UniTuple(types.int64, 2)
_AXIS = types.Tuple((types.uint32[::1], types.uint32[::1], types.float32[::1]))
_AXES, _SCORES = types.UniTuple(_AXIS, 3), read_only(types.float32, 4)
_INTENSITY = types.UniTuple(types.float64, 5)
_BEST = (types.uint8[:, :, ::1], types.uint16[:, :, ::1])
_SIDES = types.Tuple((types.uint32, types.uint32, types.float32))

Floats = NDArray[np.float32]
Samples = tuple[NDArray[np.uint32], NDArray[np.uint32], Floats]
"""Old indices on both sides of each new one, and the share of the second."""


@compiled(
    *(
        types.void(
            read_only(kind, 1, "C"), _PAIR, _INDEX, _AXES, _INTENSITY, types.float32[:, :, :], _INDEX, _INDEX
        )
        for kind in (types.int16, types.float32)
    )
)
def resample(
    voxels: NDArray[Any],
    steps: tuple[int, ...],
    sizes: int,
    samples: tuple[Samples, ...],
    intensity: tuple[float, float, float, float, float],
    out: Floats,
    start: int,
    stop: int,
) -> None:
    """Fill the slices from `start` to before `stop` of `out`.

    Parameters
    ----------
    voxels
        The volume's as they lie in memory; neighbours along a row are neighbours.
    steps
        Voxels from one slice to the next, and from one row to the next.
    sizes
        Voxels of a row.
    samples
        For slices, rows and columns.
    intensity
        Low, high, zero, scale and offset of `stages.compute.intensity.Intensity`.
    out
        float32, a voxel for each triple of samples.
    start, stop
        The slices to fill.
    """
    (below, above, share_z), (before, behind, share_y), (left, right, share_x) = samples
    low, high, zero = np.float32(intensity[0]), np.float32(intensity[1]), np.float32(intensity[2])
    scale, offset = np.float32(intensity[3]), np.float32(intensity[4])
    line = np.empty(sizes, np.float32)
    for z in range(start, stop):
        first, second = np.int64(below[z]) * steps[0], np.int64(above[z]) * steps[0]
        wz = share_z[z]
        for y in range(out.shape[1]):
            near, far = np.int64(before[y]) * steps[1], np.int64(behind[y]) * steps[1]
            a, b = voxels[first + near : first + near + sizes], voxels[first + far : first + far + sizes]
            c, d = voxels[second + near : second + near + sizes], voxels[second + far : second + far + sizes]
            wy = share_y[y]
            for x in range(sizes):
                p = np.float32(a[x]) + (np.float32(c[x]) - np.float32(a[x])) * wz
                q = np.float32(b[x]) + (np.float32(d[x]) - np.float32(b[x])) * wz
                line[x] = p + (q - p) * wy
            for x in range(out.shape[2]):
                value = line[left[x]] + (line[right[x]] - line[left[x]]) * share_x[x]
                out[z, y, x] = (min(max(value, low), high) - zero) * scale + offset


@compiled(*(types.void(_SCORES, types.float64, best, _INDEX, _INDEX) for best in _BEST))
def find_best(scores: Floats, threshold: float, best: NDArray[Any], start: int, stop: int) -> None:
    """Write for the slices from `start` to before `stop` which class is best, into `best`.

    Without a threshold (not a number) the first with the highest score; else the last with a score above it,
    and ``len(scores)`` where there is none.

    Parameters
    ----------
    scores
        Shape (classes, slices, rows, columns), float32.
    threshold
        The score to exceed, or not a number.
    best
        Shape (slices, rows, columns), uint8 or uint16, in order.
    start, stop
        The slices to fill.
    """
    classes = scores.shape[0]
    highest = np.empty(scores.shape[3], np.float32)
    for z in range(start, stop):
        for y in range(scores.shape[2]):
            row = best[z, y]
            if np.isnan(threshold):
                for x in range(len(row)):
                    row[x], highest[x] = 0, scores[0, z, y, x]
                for n in range(1, classes):
                    score = scores[n, z, y]
                    for x in range(len(row)):
                        better = score[x] > highest[x]
                        highest[x] = score[x] if better else highest[x]
                        row[x] = n if better else row[x]
            else:
                for x in range(len(row)):
                    row[x] = classes
                for n in range(classes):
                    score = scores[n, z, y]
                    for x in range(len(row)):
                        row[x] = n if score[x] > np.float32(threshold) else row[x]


@compiled(types.float32(read_only(types.float32, 3), _SIDES, _SIDES, types.uint32))
def _between(score: Floats, slices: Any, rows: Any, x: int) -> Any:
    """Return the score between four voxels of one column."""
    near = score[slices[0], rows[0], x]
    near += (score[slices[1], rows[0], x] - near) * slices[2]
    far = score[slices[0], rows[1], x]
    far += (score[slices[1], rows[1], x] - far) * slices[2]
    return near + (far - near) * rows[2]


@compiled(types.int64(_SCORES, types.float64, _SIDES, _SIDES, _SIDES))
def _best_between(scores: Floats, threshold: float, slices: Any, rows: Any, columns: Any) -> int:
    """Return the best class at one place between eight voxels."""
    best, highest = len(scores), np.float32(-np.inf)
    for n in range(len(scores)):
        left = _between(scores[n], slices, rows, columns[0])
        score = left + (_between(scores[n], slices, rows, columns[1]) - left) * columns[2]
        if np.isnan(threshold):
            if n == 0 or score > highest:
                best, highest = n, score
        elif score > np.float32(threshold):
            best = n
    return best


@compiled(
    *(
        types.void(
            _SCORES,
            best,
            types.float64,
            _AXES,
            types.UniTuple(types.int64[::1], 2),
            types.uint8[::1],
            _INDEX,
            types.uint8[:, :, :],
            _INDEX,
            _INDEX,
        )
        for best in _BEST
    )
)
def label(
    scores: Floats,
    best: NDArray[Any],
    threshold: float,
    samples: tuple[Samples, ...],
    reach: tuple[NDArray[np.int64], NDArray[np.int64]],
    values: NDArray[np.uint8],
    ground: int,
    out: NDArray[np.uint8],
    start: int,
    stop: int,
) -> None:
    """Label the slices from `start` to before `stop` of `out`, which is filled with the ground's label.

    Where one class is best at all corners of a cell, it is best inside, so that scores are interpolated
    on the surfaces of things only.

    Parameters
    ----------
    scores
        Shape (classes, slices, rows, columns), float32.
    best
        From `find_best`.
    threshold
        As for `find_best`.
    samples
        For slices, rows and columns.
    reach
        For each old column the first new one that it touches, and the last.
    values
        Label of each class, and of none.
    values
        Label of each class, and of none.
    ground
        The class that most voxels belong to.
    ground
        Index in `values` of what `out` is filled with.
    out
        uint8, a voxel for each triple of samples.
    start, stop
        The slices to label.
    """
    (below, above, share_z), (before, behind, share_y), (left, right, share_x) = samples
    columns, mixed = scores.shape[3], len(values)
    code = np.empty(columns, best.dtype)
    for z in range(start, stop):
        low, high, wz = below[z], above[z], share_z[z]
        for y in range(out.shape[1]):
            near, far, wy = before[y], behind[y], share_y[y]
            a, b, c, d = best[low, near], best[low, far], best[high, near], best[high, far]
            for x in range(columns):
                code[x] = a[x] if (a[x] == b[x]) & (a[x] == c[x]) & (a[x] == d[x]) else mixed
            begin = 0
            while begin < columns and code[begin] == ground:
                begin += 1
            if begin == columns:
                continue
            end = columns - 1
            while code[end] == ground:
                end -= 1
            first, last = min(reach[0][begin], reach[0][end]), max(reach[1][begin], reach[1][end])
            for x in range(first, last + 1):
                found = code[left[x]]
                if found == mixed or found != code[right[x]]:
                    found = _best_between(
                        scores, threshold, (low, high, wz), (near, far, wy), (left[x], right[x], share_x[x])
                    )
                out[z, y, x] = values[found]
