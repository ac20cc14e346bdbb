"""Distances in mm from simple bodies: negative inside, positive outside, nearly exact at the surface."""

from collections.abc import Sequence

import numpy as np

from phantoms.fields import FloatArray, Points

Vector = tuple[float, float, float]
Box = tuple[Vector, Vector]


def ellipsoid(p: Points, centre: Vector, radii: Vector) -> FloatArray:
    """Distance from an ellipsoid; (slice, row, column) order, as everywhere here."""
    z, y, x = ((a - np.float32(c)) / np.float32(r) for a, c, r in zip(p, centre, radii, strict=True))
    k0 = np.sqrt(z * z + y * y + x * x) + np.float32(1e-3)
    rz, ry, rx = (np.float32(1 / r) for r in radii)
    k1 = np.sqrt((z * rz) ** 2 + (y * ry) ** 2 + (x * rx) ** 2) + np.float32(1e-5)
    return np.asarray(k0 * (k0 - 1) / k1, np.float32)


def cylinder(
    p: Points, centre: tuple[float, float], radii: tuple[float, float], power: float = 2.0
) -> FloatArray:
    """Distance from an upright superelliptic cylinder; (row, column) order."""
    y = np.abs(p.y - np.float32(centre[0])) / np.float32(radii[0])
    x = np.abs(p.x - np.float32(centre[1])) / np.float32(radii[1])
    if power == 2.0:
        norm = np.sqrt(y * y + x * x)
    else:
        norm = (y ** np.float32(power) + x ** np.float32(power)) ** np.float32(1 / power)
    gradient = np.sqrt((y / radii[0]) ** 2 + (x / radii[1]) ** 2) / np.maximum(np.sqrt(y * y + x * x), 1e-3)
    return np.asarray((norm - 1) / gradient, np.float32)


def chain(p: Points, nodes: Sequence[Vector], radii: Sequence[float]) -> FloatArray:
    """Distance from a tube through `nodes` whose radius changes linearly between them."""
    best: FloatArray | None = None
    for a, b, ra, rb in zip(nodes[:-1], nodes[1:], radii[:-1], radii[1:], strict=True):
        length2 = sum((v - u) ** 2 for u, v in zip(a, b, strict=True)) + 1e-6
        dz, dy, dx = (axis - np.float32(c) for axis, c in zip(p, a, strict=True))
        ez, ey, ex = (np.float32(v - u) for u, v in zip(a, b, strict=True))
        t = np.clip((dz * ez + dy * ey + dx * ex) / np.float32(length2), 0, 1)
        distance = np.sqrt((dz - t * ez) ** 2 + (dy - t * ey) ** 2 + (dx - t * ex) ** 2)
        distance -= np.float32(ra) + t * np.float32(rb - ra)
        best = distance if best is None else np.minimum(best, distance)
    assert best is not None
    return np.asarray(best, np.float32)


def smooth_union(a: FloatArray, b: FloatArray, width: float) -> FloatArray:
    """Union of two bodies with a fillet of about `width` mm."""
    h = np.clip(np.float32(0.5) + (b - a) / np.float32(2 * width), 0, 1)
    return np.asarray(b + (a - b) * h - np.float32(width) * h * (1 - h), np.float32)


def intersection(*bodies: FloatArray) -> FloatArray:
    """Return what lies inside all of several bodies."""
    result = bodies[0]
    for body in bodies[1:]:
        result = np.maximum(result, body)
    return np.asarray(result, np.float32)


def without(a: FloatArray, b: FloatArray, gap: float = 0.0) -> FloatArray:
    """Take `a` and remove what lies within `gap` mm of `b`."""
    return np.asarray(np.maximum(a, np.float32(gap) - b), np.float32)


def box_around(centre: Vector, radii: Vector) -> Box:
    """Corners of the box that holds an ellipsoid."""
    low = (centre[0] - radii[0], centre[1] - radii[1], centre[2] - radii[2])
    return low, (centre[0] + radii[0], centre[1] + radii[1], centre[2] + radii[2])


def box_of_chain(nodes: Sequence[Vector], radii: Sequence[float]) -> Box:
    """Corners of the box that holds a tube."""
    points, reach = np.array(nodes), max(radii)
    low, high = points.min(0) - reach, points.max(0) + reach
    return (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))
