"""Smooth functions of position in mm, and their values on regular grids."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Matrices = tuple[FloatArray, FloatArray, FloatArray]


class Points(NamedTuple):
    """Coordinates in mm, broadcastable against each other: up, back, and to the patient's left."""

    z: FloatArray
    y: FloatArray
    x: FloatArray


def spread(matrices: Matrices, values: FloatArray) -> FloatArray:
    """Apply one matrix along each axis of `values`: the separable resampling of a coarse grid."""
    mz, my, mx = matrices
    nz, ny, nx = values.shape
    slices: FloatArray = (mz @ values.reshape(nz, ny * nx)).reshape(-1, ny, nx)
    result: FloatArray = (my @ slices) @ mx.T
    return result


def spline_matrix(positions: FloatArray, first: float, step: float, count: int) -> FloatArray:
    """Weights of `count` uniform cubic B-splines, the first centred at `first`, at `positions`."""
    t = np.abs((positions[:, None] - first) / step - np.arange(count))
    near = 2 / 3 - t**2 + t**3 / 2
    far = np.clip(2 - t, 0, None) ** 3 / 6
    return np.where(t < 1, near, far).astype(np.float32)


def cubic_matrix(positions: FloatArray, nodes: FloatArray) -> FloatArray:
    """Catmull-Rom weights that interpolate values given at equidistant `nodes` at `positions`."""
    t = np.abs((positions[:, None] - nodes[None, :]) / (nodes[1] - nodes[0]))
    near = 1 - 2.5 * t**2 + 1.5 * t**3
    far = 2 - 4 * t + 2.5 * t**2 - 0.5 * t**3
    return np.where(t < 1, near, np.where(t < 2, far, 0)).astype(np.float32)


@dataclass(frozen=True)
class SmoothField:
    """A random function of position without edges: cubic B-splines with normal coefficients."""

    coefficients: FloatArray
    first: tuple[float, float, float]
    step: float

    def on(self, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        """Values on the grid spanned by three axes."""
        shape = self.coefficients.shape
        mz, my, mx = (
            spline_matrix(axis, first, self.step, count)
            for axis, first, count in zip((z, y, x), self.first, shape, strict=True)
        )
        return spread((mz, my, mx), self.coefficients)


def random_field(rng: np.random.Generator, *, step: float, amplitude: float) -> SmoothField:
    """Draw a field with features of about `step` mm and a standard deviation of about `amplitude`."""
    half = (360.0, 260.0, 300.0)
    shape = tuple(int(2 * extent / step) + 4 for extent in half)
    coefficients = rng.standard_normal(shape, dtype=np.float32) * np.float32(amplitude * 2.1)
    return SmoothField(coefficients, (-half[0] - step, -half[1] - step, -half[2] - step), step)
