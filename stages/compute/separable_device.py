"""The CUDA kernels of `stages.compute.separable`, started on CuPy's current stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stages.arrays import Array, array_namespace
from stages.compute.cuda import kernels
from stages.compute.intensity import Intensity
from stages.errors import SettingsError

SOURCE = Path(__file__).parent / "cuda" / "separable.cu"

Launch: TypeAlias = Callable[[str, int, Sequence[Any]], None]
"""Runs a kernel by its name: how many threads, and its arguments."""

Axis: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float32]]
"""The first old voxel of each new one, and the weights from there on."""


def launch(name: str, threads: int, arguments: Sequence[Any]) -> None:
    """Start a kernel on CuPy's current stream.

    Parameters
    ----------
    name, threads, arguments
        As for `stages.compute.cuda.kernels.launch`.
    """
    kernels.launch(SOURCE, name, threads, arguments)


def resample(
    array: Array,
    weights: Sequence[Axis],
    clip: tuple[float, float],
    bounds: Sequence[NDArray[np.float32]],
    intensity: Intensity,
    out: Array,
    *,
    truncate: bool,
    run: Launch = launch,
) -> None:
    """Fill `out` with what is made of a volume: new rows, then new columns, then new slices.

    Parameters
    ----------
    array
        Shape (slices, rows, columns), int16 or float32, any view.
    weights
        What the voxels of `out` are made of, for slices, rows and columns.
    clip
        Bounds to which values are clipped before.
    bounds
        Lowest and highest of what is made, shape (n, 2), for slices, rows and columns.
    intensity
        What is made of it then.
    out
        float32, in order.
    truncate
        Whether fractions are lost.
    run
        Runs the kernels.

    Raises
    ------
    SettingsError
        If the array is of another type.
    """
    if array.dtype not in (np.int16, np.float32):
        raise SettingsError(f"volumes on the device are int16 or float32, found {array.dtype}")
    xp = array_namespace(array)
    slices, rows, columns = (_on_device(each, xp) for each in weights)
    old, new = array.shape, out.shape
    high = xp.empty((old[0], new[1], old[2]), np.float32)
    given = [array, *_steps(array), *map(np.float32, clip), *rows, high, *map(np.int64, high.shape)]
    run(f"rows_{array.dtype}", high.size, given)
    stack = xp.empty((old[0], *new[1:]), np.float32)
    lines = np.int64(old[0] * new[1])
    run("columns", stack.size, [high, np.int64(old[2]), *columns, stack, lines, np.int64(new[2])])
    del high
    limits = [xp.asarray(each) for each in bounds]
    numbers = map(np.float32, intensity.numbers)
    last = [np.int32(truncate), *numbers, out, *map(np.int64, new)]
    run("slices", out.size, [stack, *slices, *limits, *last])


def _on_device(axis: Axis, xp: Any) -> list[Any]:
    first, weights = axis
    return [xp.asarray(first), xp.asarray(weights), np.int32(weights.shape[1])]


def _steps(array: Array) -> list[Any]:
    return [np.int64(stride // array.itemsize) for stride in array.strides]
