"""Draws bodies, given as distances in mm, into a volume of HU and labels."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantoms.anatomy import Anatomy
from phantoms.fields import FloatArray, Points, SmoothField, apply, cubic_weights, spread
from phantoms.shapes import Box, Vector, box_of_chain, chain

Distance = Callable[[Points], FloatArray]
Axes = tuple[FloatArray, FloatArray, FloatArray]

LATTICE_MM = 4.0
_SMALL = 400_000  # voxels that are drawn in one piece; more are drawn slice by slice, within the cache


@dataclass(frozen=True)
class Layer:
    """What fills a body from `depth_mm` below its surface inwards."""

    hu: float
    label: Anatomy
    depth_mm: float = 0.0


@dataclass(frozen=True)
class Brush:
    """How distances become HU and labels."""

    layers: tuple[Layer, ...]
    edge_mm: float
    only_over: tuple[Anatomy, ...] = ()


@dataclass(frozen=True)
class Pose:
    """How the patient's own coordinates follow from those of the image."""

    matrix: NDArray[np.float64]
    shift_mm: NDArray[np.float64]
    warp: tuple[SmoothField, SmoothField, SmoothField]
    reach_mm: float

    def to_patient(self, z: FloatArray, y: FloatArray, x: FloatArray) -> Points:
        """Patient coordinates of the grid points of three image axes."""
        axes = (z[:, None, None], y[None, :, None], x[None, None, :])
        moved = [
            sum(np.float32(m) * axis for m, axis in zip(row, axes, strict=True)) + np.float32(shift)
            for row, shift in zip(self.matrix, self.shift_mm, strict=True)
        ]
        weights = self.warp[0].weights(z, y, x)  # the three fields have the same nodes
        pz, py, px = (a + spread(weights, f.coefficients) for a, f in zip(moved, self.warp, strict=True))
        return Points(pz, py, px)

    def image_box(self, box: Box) -> Box:
        """Box in image coordinates that surely holds `box` of patient coordinates."""
        (z0, y0, x0), (z1, y1, x1) = box
        corners = np.array([(z, y, x) for z in (z0, z1) for y in (y0, y1) for x in (x0, x1)])
        image = (corners - self.shift_mm) @ np.linalg.inv(self.matrix).T
        low, high = image.min(0) - self.reach_mm, image.max(0) + self.reach_mm
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])


@dataclass
class Canvas:
    """A volume while it is being drawn."""

    axes: Axes
    pose: Pose
    edge_mm: float
    hu: FloatArray = field(init=False)
    anatomy: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        """Start with nothing but air."""
        shape = tuple(len(axis) for axis in self.axes)
        self.hu = np.full(shape, -1000, np.float32)
        self.anatomy = np.zeros(shape, np.uint8)

    def paint(
        self,
        distance: Distance,
        box: Box,
        layers: Sequence[Layer],
        *,
        lattice_mm: float = LATTICE_MM,
        wobble: SmoothField | None = None,
        edge_mm: float | None = None,
        only_over: Sequence[Anatomy] = (),
    ) -> None:
        """Draw a body.

        Parameters
        ----------
        distance
            Distance from its surface for points in patient coordinates, negative inside.
        box
            Corners, in patient coordinates, of a box that holds all of it.
        layers
            What fills it, from the surface inwards; a later layer covers an earlier one.
        lattice_mm
            Step of the grid on which `distance` is computed; voxels are interpolated from it.
        wobble
            Added to the distance, so that no two organs have the same smooth surface.
        edge_mm
            Width over which the surface fades, where it is softer than the images are.
        only_over
            What it may cover; everything if empty.
        """
        low, high = self.pose.image_box(box)
        parts = [slice(*np.searchsorted(a, (lo, hi))) for a, lo, hi in zip(self.axes, low, high, strict=True)]
        targets = [axis[part] for axis, part in zip(self.axes, parts, strict=True)]
        if any(len(target) == 0 for target in targets):
            return
        nodes = [lattice(target, lattice_mm) for target in targets]
        values = distance(self.pose.to_patient(*nodes))
        if wobble is not None:
            values = values + wobble.on(*nodes)
        weights = [cubic_weights(t, n) for t, n in zip(targets, nodes, strict=True)]
        brush = Brush(tuple(layers), edge_mm or self.edge_mm, tuple(only_over))
        self._blend(values, weights, (parts[0], parts[1], parts[2]), brush)

    def paint_tube(
        self,
        nodes: Sequence[Vector],
        radii: Sequence[float],
        layers: Sequence[Layer],
        *,
        lattice_mm: float = LATTICE_MM,
        wobble: SmoothField | None = None,
    ) -> None:
        """Draw a tube through `nodes` (patient mm) whose radius changes linearly between them."""
        box = box_of_chain(nodes, radii)
        self.paint(lambda p: chain(p, nodes, radii), box, layers, lattice_mm=lattice_mm, wobble=wobble)

    def _blend(
        self,
        values: FloatArray,
        weights: list[Any],
        where: tuple[slice, slice, slice],
        brush: Brush,
    ) -> None:
        """Draw distances given on a lattice, which `weights` take to the voxels `where` they belong."""
        hu, anatomy = self.hu[where], self.anatomy[where]
        if hu.size <= _SMALL:
            _blend(hu, anatomy, spread(weights, values), brush)
            return
        coarse = apply(weights[0], apply(weights[2], values, 2), 0)

        def one_slice(k: int) -> None:
            _blend(hu[k], anatomy[k], weights[1] @ coarse[k], brush)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(one_slice, range(len(hu))))


def lattice(axis: FloatArray, step: float) -> FloatArray:
    """Multiples of `step` that reach two steps beyond both ends, whatever the grid of `axis` is."""
    first, last = math.floor(axis[0] / step) - 1, math.ceil(axis[-1] / step) + 1
    return (np.arange(first, last + 1) * step).astype(np.float32)


def _blend(hu: FloatArray, anatomy: NDArray[np.uint8], distance: FloatArray, brush: Brush) -> None:
    """Mix each layer in by the share of the voxel that it fills; a voxel belongs to what fills half."""
    if brush.only_over:
        distance[~np.isin(anatomy, brush.only_over)] = 1e3
    for layer in brush.layers:
        depth = -distance if layer.depth_mm == 0 else -layer.depth_mm - distance
        anatomy[depth > 0] = layer.label
        depth *= np.float32(1 / brush.edge_mm)
        depth += np.float32(0.5)
        np.clip(depth, 0, 1, out=depth)
        depth *= np.float32(layer.hu) - hu
        hu += depth
