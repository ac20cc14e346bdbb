"""The CUDA kernels of `stages.compute.resample`, started on CuPy's current stream."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.arrays import Array
from stages.compute.cuda import kernels
from stages.errors import SettingsError

SOURCE = Path(__file__).parent / "cuda" / "resample.cu"


def resample(
    array: Array, samples: Any, intensity: tuple[float, float, float, float, float], out: Array
) -> None:
    """Fill `out` (float32, in order) with what lies between the voxels of `array` (int16 or float32).

    Parameters
    ----------
    array
        Shape (slices, rows, columns), int16 HU or float32, any view.
    samples
        An `AxisSamples` for slices, rows and columns.
    intensity
        Low, high, zero, scale and offset of `stages.compute.intensity.Intensity`.
    out
        float32, a voxel for each triple of samples, in order.

    Raises
    ------
    SettingsError
        If the array is of another type.
    """
    if array.dtype not in (np.int16, np.float32):
        raise SettingsError(f"volumes on the device are int16 or float32, found {array.dtype}")
    kernels.launch(
        SOURCE,
        f"resample_{array.dtype}",
        out.size,
        (array, *_steps(array), *_on_device(samples), *map(np.float32, intensity), out, *_sizes(out)),
    )


def label(scores: Array, threshold: float, samples: Any, values: NDArray[np.uint8], out: Array) -> None:
    """Label `out` (uint8, any view); a threshold that is no number means the best class.

    Parameters
    ----------
    scores
        Shape (classes, slices, rows, columns), float32.
    threshold
        The last class with a score above it is taken, or none.
    samples
        An `AxisSamples` for slices, rows and columns.
    values
        Label of each class, and of none.
    out
        uint8, a voxel for each triple of samples, any view.
    """
    *sampled, labels = _on_device(samples, values)
    given = (scores, np.int32(len(scores)), np.float32(threshold), *_steps(scores), *sampled, labels)
    kernels.launch(SOURCE, "label", out.size, (*given, out, *_steps(out), *_sizes(out)))


def _on_device(samples: Any, *more: NDArray[Any]) -> list[Array]:
    """Return arrays on the device, whose bytes went there together: what a copy costs is to begin it."""
    import cupy

    arrays = [*(array for axis in samples for array in axis.arrays), *more]
    packed, starts = _packed_bytes(arrays)
    there = cupy.asarray(packed)
    return [there[start : start + array.nbytes] for start, array in zip(starts, arrays, strict=True)]


def _packed_bytes(arrays: Sequence[NDArray[Any]]) -> tuple[NDArray[np.uint8], list[int]]:
    """Return the bytes of arrays one after the other, and where each begins, at a multiple of 16."""
    sizes = [-(-array.nbytes // 16) * 16 for array in arrays]
    starts = [0, *itertools.accumulate(sizes)]
    packed = np.zeros(starts.pop(), np.uint8)
    for start, array in zip(starts, arrays, strict=True):
        packed[start : start + array.nbytes] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    return packed, starts


def _steps(array: Array) -> list[Any]:
    return [np.int64(stride // array.itemsize) for stride in array.strides]


def _sizes(array: Array) -> list[Any]:
    return [np.int64(size) for size in array.shape]
