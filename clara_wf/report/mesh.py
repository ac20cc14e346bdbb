"""The surface of a label as triangles, for the 3-D view of the report page.

Surface nets: one vertex in each cell that the surface passes, at the mean of where it crosses the
cell's edges; then smoothed without shrinking.

References
----------
Gibson, Constrained Elastic Surface Nets, MICCAI 1998. Taubin, A signal processing approach to fair
surface design, SIGGRAPH 1995.
"""

from __future__ import annotations

import base64
import itertools
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clara_wf.report.slices import Box, Triple, labelled_box, reducing_factors
from stages.volume.geometry import Affine, points_at, spacing_of

UNIT_MM = 0.02  # what a vertex is rounded to
_MAX_CELLS = 400_000
_SMOOTHING = (0.5, -0.53)
_SMOOTHING_ROUNDS = 8
_CORNERS = np.array(list(itertools.product((0, 1), repeat=3)))
_EDGES = [
    (a, b) for a, b in itertools.combinations(range(8), 2) if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1
]

Points = NDArray[np.float64]
Triangles = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class EncodedMesh:
    """A surface for the page: base64 of zlib streams.

    Attributes
    ----------
    label
        The label's value in the mask.
    vertices
        Int16 triples, in `UNIT_MM` from the centre that was given, LPS.
    triangles
        Int32, the differences between successive indices of `vertices`, three a triangle.
    """

    label: int
    vertices: str
    triangles: str


def surface_of(
    labels: NDArray[np.uint8], affine: Affine, *, label: int, box: Box
) -> tuple[Points, Triangles]:
    """Return the surface of a label: vertices in LPS mm, and triangles seen from outside.

    Parameters
    ----------
    labels
        Label of each voxel, ``[slice, row, column]``.
    affine
        From indices to patient coordinates, LPS, mm.
    label
        The label's value in the mask.
    box
        Where the label, which is there, lies within `labels`.
    """
    inside = labels[box] == label
    own = labelled_box(inside.view(np.uint8))
    assert own is not None
    inside = inside[own]
    first = np.array([outer.start + inner.start for outer, inner in zip(box, own, strict=True)])
    factors = _cubes(_triple(inside.shape), spacing_of(affine))
    field = _with_small_parts(_block_shares(inside, factors))
    vertices, quads = surface_net(np.pad(field, 1))
    indices = (vertices - 1 + 0.5) * np.array(factors) - 0.5 + first
    points = smoothed(points_at(affine, indices), quads)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    if np.linalg.det(affine[:3, :3]) < 0:
        triangles = triangles[:, ::-1]
    return points, np.ascontiguousarray(triangles)


def surface_net(field: NDArray[np.float32]) -> tuple[Points, Triangles]:
    """Return the surface on which a field is one half: vertices in indices, and quadrilaterals.

    The field has to be below one half all along its border.

    Parameters
    ----------
    field
        One value a voxel, ``[slice, row, column]``.
    """
    inside = field > 0.5
    around = sum(inside[_shifted(corner, field.shape)].astype(np.uint8) for corner in _CORNERS)
    cells = np.argwhere((np.asarray(around) > 0) & (np.asarray(around) < 8))
    numbers = np.full(np.array(field.shape) - 1, -1, dtype=np.int32)
    numbers[tuple(cells.T)] = np.arange(len(cells))
    return cells + _mean_crossings(field, cells), _quads(inside, numbers)


def smoothed(points: Points, quads: Triangles) -> Points:
    """Move each vertex toward its neighbours and back out again, which keeps the volume.

    Parameters
    ----------
    points
        Vertices, shape ``(n, 3)``.
    quads
        Corners of each quadrilateral, numbers of vertices, shape ``(n, 4)``.
    """
    if not len(points):
        return points
    pairs = np.concatenate([quads[:, [a, (a + 1) % 4]] for a in range(4)])
    one, other = np.concatenate([pairs, pairs[:, ::-1]]).T
    neighbours = np.bincount(one, minlength=len(points))[:, None]
    for step in _SMOOTHING * _SMOOTHING_ROUNDS:
        sums = [np.bincount(one, points[other, axis], len(points)) for axis in range(3)]
        points = points + step * (np.stack(sums, axis=1) / neighbours - points)
    return points


def encode_mesh(
    points: Points, triangles: Triangles, *, label: int, centre: NDArray[np.float64]
) -> EncodedMesh:
    """Return a surface as the page carries it.

    Parameters
    ----------
    points
        Vertices, shape ``(n, 3)``.
    triangles
        Corners of each triangle, numbers of vertices, shape ``(n, 3)``.
    label
        The label's value in the mask.
    centre
        What vertices are told from, LPS, mm.
    """
    limits = np.iinfo(np.int16)
    rounded = np.clip(np.rint((points - centre) / UNIT_MM), limits.min, limits.max).astype("<i2")
    steps = np.diff(triangles.ravel(), prepend=np.int32(0)).astype("<i4")
    return EncodedMesh(label=label, vertices=_deflated(rounded), triangles=_deflated(steps))


def _mean_crossings(field: NDArray[np.float32], cells: NDArray[np.int64]) -> Points:
    """Return where, within each cell, the surface crosses its edges on average."""
    values = np.stack([field[tuple((cells + corner).T)] for corner in _CORNERS], axis=1).astype(np.float64)
    total, crossings = np.zeros((len(cells), 3)), np.zeros((len(cells), 1))
    for a, b in _EDGES:
        crossed = (values[:, a] > 0.5) != (values[:, b] > 0.5)
        share = (0.5 - values[crossed, a]) / (values[crossed, b] - values[crossed, a])
        total[crossed] += _CORNERS[a] + share[:, None] * (_CORNERS[b] - _CORNERS[a])
        crossings[crossed] += 1
    return np.asarray(total / np.maximum(crossings, 1))


def _quads(inside: NDArray[np.bool_], numbers: NDArray[np.int32]) -> Triangles:
    """Return one quadrilateral for each edge of the lattice that the surface crosses, seen from outside."""
    found = []
    for axis in range(3):
        here = np.moveaxis(inside, axis, 0)
        for leaving in (True, False):
            low, high = (here[:-1], here[1:]) if leaving else (here[1:], here[:-1])
            edges = np.moveaxis((low & ~high), 0, axis)
            at = np.argwhere(edges)
            second, third = np.eye(3, dtype=int)[[(axis + 1) % 3, (axis + 2) % 3]]
            corners = [at, at - second, at - second - third, at - third]
            quad = np.stack([numbers[tuple(corner.T)] for corner in corners], axis=1)
            found.append(quad if leaving else quad[:, ::-1])
    return np.concatenate(found)


def _cubes(shape: Triple, spacing_mm: tuple[float, float, float]) -> Triple:
    """Return by how much each axis is reduced, to few cells that are about cubes."""
    slices, rows, columns = reducing_factors(shape, spacing_mm, at_most=_MAX_CELLS)
    largest = max(slices * spacing_mm[0], rows * spacing_mm[1], columns * spacing_mm[2])
    down, across, through = (max(1, round(largest / mm)) for mm in (*spacing_mm[1:], spacing_mm[0]))
    return through, down, across


def _with_small_parts(shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fill the blocks of parts so small that no block is half full; a small lesion has to be seen."""
    parts, count = ndimage.label(shares > 0, structure=np.ones((3, 3, 3)))
    most = ndimage.maximum(shares, parts, range(1, count + 1))
    small = 1 + np.flatnonzero(np.asarray(most) <= 0.5)
    return np.where(np.isin(parts, small), np.float32(1), shares)


def _block_shares(inside: NDArray[np.bool_], factors: Triple) -> NDArray[np.float32]:
    """Return which share of each block of voxels is inside."""
    padded = np.pad(inside, [(0, -size % factor) for size, factor in zip(inside.shape, factors, strict=True)])
    parts = [size // factor for size, factor in zip(padded.shape, factors, strict=True)]
    z, y, x = factors
    total = np.zeros(parts, dtype=np.uint16)
    for dz, dy, dx in itertools.product(range(z), range(y), range(x)):
        total += padded[dz::z, dy::y, dx::x]
    return (total / np.float32(z * y * x)).astype(np.float32)


def _shifted(corner: NDArray[np.int64], shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(int(c), size - 1 + int(c)) for c, size in zip(corner, shape, strict=True))


def _triple(shape: tuple[int, ...]) -> Triple:
    return shape[0], shape[1], shape[2]


def _deflated(array: NDArray[np.int16] | NDArray[np.int32]) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).data, 6)).decode("ascii")
