"""The outline of a mask in one slice: closed polygons along the edges of pixels, holes and islands right.

A polygon holds the pixels of the mask and no other, whatever rule fills it: each pixel's centre is half
a pixel away from every edge, and each hole is joined to the outline around it by a channel of no width
("keyhole"), which no rule can take for an island.

References
----------
DICOM PS3.3 C.8.8.6.3, Representing Inner and Outer Contours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # right, down, left, up: (row, column)


def outlines(plane: NDArray[Any]) -> list[NDArray[np.float64]]:
    """Return the outlines of the pixels of a plane that are not 0.

    Pixels that touch at a corner only are different islands.

    Parameters
    ----------
    plane
        Shape (rows, columns).

    Returns
    -------
    list of array
        One polygon an island, shape (points, 2), row and column; the centre of the first pixel is
        (0, 0), so that all are halves. The first point is not repeated.
    """
    there = plane != 0
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    if not len(rows):
        return []
    corner = np.array([rows[0], columns[0]])
    closed = _rings(there[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    outer = [ring for ring in closed if _area(ring) > 0]
    holes = [ring for ring in closed if _area(ring) < 0]
    joined = _join(outer, holes) if holes else outer
    return [corner + np.array(_corners(ring), dtype=np.float64) - 0.5 for ring in joined]


def _rings(there: NDArray[np.bool_]) -> list[list[Point]]:
    """Return each closed walk along edges of pixels, with the pixels of the mask to the right."""
    edges = _edges(there)
    _, rows, columns = edges.shape
    identifiers = np.flatnonzero(edges)
    follower = np.searchsorted(identifiers, _followers(edges)).tolist()
    points = list(zip(*(x.tolist() for x in np.divmod(identifiers % (rows * columns), columns)), strict=True))
    walked = [False] * len(points)
    found = []
    for start in range(len(points)):
        ring, at = [], start
        while not walked[at]:
            walked[at] = True
            ring.append(points[at])
            at = follower[at]
        if ring:
            found.append(ring)
    return found


def _edges(there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether an edge leads from a corner of pixels to the right, down, left, up; shape (4, r, c)."""
    padded = np.pad(there, 1)
    above_left, above = padded[:-1, :-1], padded[:-1, 1:]
    left, here = padded[1:, :-1], padded[1:, 1:]
    return np.stack([here & ~above, left & ~here, above_left & ~left, above & ~above_left])


def _followers(edges: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return for each edge the one after it: to the right if there is one, ahead, or to the left.

    Where two pixels touch at a corner, turning right stays at the same pixel.
    """
    _, rows, columns = edges.shape
    found = np.empty(0, dtype=np.int64)
    for direction, (down, right) in enumerate(_STEPS):
        row, column = np.nonzero(edges[direction])
        row, column = row + down, column + right
        turned, back = (direction + 1) % 4, (direction + 3) % 4
        chosen = np.where(
            edges[turned, row, column], turned, np.where(edges[direction, row, column], direction, back)
        )
        found = np.append(found, (chosen * rows + row) * columns + column)
    return found


def _area(ring: Sequence[Point]) -> float:
    """Return the area a ring is around, in pixels, negative where it is around a hole."""
    row, column = np.array(ring).T
    return float(np.sum(column * np.roll(row, -1) - np.roll(column, -1) * row)) / 2


def _join(outer: Sequence[list[Point]], holes: Sequence[list[Point]]) -> list[list[Point]]:
    """Return the outer rings, each hole joined to the ring to its left by a channel there and back.

    Left of the leftmost corner of a hole (the upper one) lie pixels of the mask, up to the ring around
    it, or to a hole that begins further left.
    """
    known = {point for ring in (*outer, *holes) for point in ring}
    attached: dict[Point, list[list[Point]]] = {}
    for hole in holes:
        first = min(range(len(hole)), key=lambda n: hole[n][::-1])
        channel = list(_to_the_left(hole[first], known))
        around = [*hole[first:], *hole[:first], hole[first]]
        attached.setdefault(channel[-1], []).append([*channel[-2::-1], *around, *channel])
    return [list(_with_attached(ring, attached)) for ring in outer]


def _with_attached(ring: Sequence[Point], attached: dict[Point, list[list[Point]]]) -> Iterator[Point]:
    """Yield the points of a ring, behind each those of the holes attached there."""
    pending = [iter(ring)]
    while pending:
        for point in pending[-1]:
            yield point
            if point in attached:
                pending += [iter(walk) for walk in attached.pop(point)]
                break
        else:
            pending.pop()


def _to_the_left(point: Point, known: Collection[Point]) -> Iterator[Point]:
    """Yield corners left of a point, up to the first that belongs to a ring."""
    row, column = point
    while True:
        column -= 1
        yield row, column
        if (row, column) in known:
            return


def _corners(ring: Sequence[Point]) -> NDArray[np.int64]:
    """Return the points of a ring where it turns."""
    points = np.array(ring)
    before, behind = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns: NDArray[np.int64] = points[(before != behind).any(axis=1)]
    return turns
