"""Smooth functions of position in mm, and their values on regular grids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

FloatArray = NDArray[np.float32]


class Points(NamedTuple):
    """Coordinates in mm, broadcastable against each other: up, back, and to the patient's left."""

    z: FloatArray
    y: FloatArray
    x: FloatArray


def apply(weights: Any, values: FloatArray, axis: int) -> FloatArray:
    """Resample one axis of `values` by a sparse matrix of weights."""
    front = np.moveaxis(values, axis, 0)
    result = weights @ front.reshape(front.shape[0], -1)
    return np.moveaxis(result.reshape(-1, *front.shape[1:]), 0, axis)


def spread(weights: Sequence[Any], values: FloatArray) -> FloatArray:
    """Resample each axis by its own weights, the last axis first since the copy is smallest there."""
    for axis in (2, 0, 1):
        values = apply(weights[axis], values, axis)
    return values


def spline_weights(positions: FloatArray, first: float, step: float, count: int) -> Any:
    """Weights of `count` uniform cubic B-splines, the first centred at `first`, at `positions`."""
    t = np.clip((positions - first) / step, 0, count - 1)
    f = t - np.floor(t)
    near = [(1 - f) ** 3 / 6, 2 / 3 - f**2 + f**3 / 2, 1 / 6 + (f + f**2 - f**3) / 2, f**3 / 6]
    return _four_taps(t, near, count)


def cubic_weights(positions: FloatArray, nodes: FloatArray) -> Any:
    """Catmull-Rom weights that interpolate values given at equidistant `nodes` at `positions`."""
    t = (positions - nodes[0]) / (nodes[1] - nodes[0])
    f = t - np.floor(t)
    near = [
        (-f + 2 * f**2 - f**3) / 2,
        1 - 2.5 * f**2 + 1.5 * f**3,
        (f + 4 * f**2 - 3 * f**3) / 2,
        (f**3 - f**2) / 2,
    ]
    return _four_taps(t, near, len(nodes))


def _four_taps(t: FloatArray, taps: Sequence[FloatArray], count: int) -> Any:
    """One row per position: four weights for the nodes around it."""
    index = np.floor(t).astype(np.int32)[:, None] + np.arange(-1, 3, dtype=np.int32)
    data = np.stack(taps, axis=1).astype(np.float32)
    rows = np.arange(0, 4 * len(t) + 1, 4, dtype=np.int32)
    return csr_array((data.ravel(), np.clip(index, 0, count - 1).ravel(), rows), shape=(len(t), count))


@dataclass(frozen=True)
class SmoothField:
    """A random function of position without edges: cubic B-splines with normal coefficients."""

    coefficients: FloatArray
    first: tuple[float, float, float]
    step: float

    def weights(self, z: FloatArray, y: FloatArray, x: FloatArray) -> list[Any]:
        """Return what takes the coefficients to the grid spanned by three axes."""
        return [
            spline_weights(axis, first, self.step, count)
            for axis, first, count in zip((z, y, x), self.first, self.coefficients.shape, strict=True)
        ]

    def on(self, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        """Values on the grid spanned by three axes."""
        return spread(self.weights(z, y, x), self.coefficients)


def random_field(rng: np.random.Generator, *, step: float, amplitude: float) -> SmoothField:
    """Draw a field with features of about `step` mm and a standard deviation of about `amplitude`."""
    half = (360.0, 260.0, 300.0)
    shape = tuple(int(2 * extent / step) + 4 for extent in half)
    coefficients = rng.standard_normal(shape, dtype=np.float32) * np.float32(amplitude * 2.1)
    return SmoothField(coefficients, (-half[0] - step, -half[1] - step, -half[2] - step), step)
