"""Polygons as a reader takes them: which pixel centres they hold, by the even-odd rule.

Shares nothing with what draws outlines: any polygon will do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def filled(polygon: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels have their centre inside a polygon.

    Parameters
    ----------
    polygon
        Shape (points, 2), row and column; the centre of the first pixel is (0, 0).
    shape
        Rows and columns.
    """
    crossed = np.zeros((shape[0], shape[1] + 1), dtype=np.int32)
    row, column = _crossings(polygon)
    inside = (row >= 0) & (row < shape[0])
    first = np.clip(np.floor(column[inside]) + 1, 0, shape[1]).astype(np.int64)
    np.add.at(crossed, (row[inside], first), 1)
    return np.asarray(np.cumsum(crossed, axis=1)[:, :-1] % 2 == 1)


def _crossings(polygon: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the rows of pixel centres that edges cross, and the column of each crossing."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    first, last = np.ceil(low).astype(np.int64), np.ceil(high).astype(np.int64)  # low <= row < high
    count = last - first
    edge = np.repeat(np.arange(len(polygon)), count)
    row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    along = (row - start[edge, 0]) / (end[edge, 0] - start[edge, 0])
    return row, start[edge, 1] + along * (end[edge, 1] - start[edge, 1])


def area_and_centroid(points: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
    """Return the area of a closed polygon in space, and its centre of mass.

    Parameters
    ----------
    points
        Shape (points, 3), in one plane, mm.
    """
    origin = points[0]
    a, b = points - origin, np.roll(points, -1, axis=0) - origin
    triangles = np.cross(a, b) / 2
    whole = triangles.sum(axis=0)
    area = float(np.linalg.norm(whole))
    if not area:
        return 0.0, np.asarray(points.mean(axis=0))
    signed = triangles @ (whole / area)
    return area, np.asarray(origin + signed @ ((a + b) / 3) / area)
