"""The CUDA kernels of `stages.resample`, started on CuPy's current stream; compiled when first needed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.arrays import Array
from stages.errors import SettingsError

SOURCE = Path(__file__).parent / "cuda" / "resample.cu"
_THREADS = 256


def resample(
    array: Array, samples: Any, intensity: tuple[float, float, float, float, float], out: Array
) -> None:
    """Fill `out` (float32, in order) with what lies between the voxels of `array` (int16 or float32).

    Raises
    ------
    SettingsError
        If the array is of another type.
    """
    if array.dtype not in (np.int16, np.float32):
        raise SettingsError(f"volumes on the device are int16 or float32, found {array.dtype}")
    _run(
        f"resample_{array.dtype}",
        out.size,
        (array, *_steps(array), *_on_device(samples), *map(np.float32, intensity), out, *_sizes(out)),
    )


def label(scores: Array, threshold: float, samples: Any, values: NDArray[np.uint8], out: Array) -> None:
    """Label `out` (uint8, any view); a threshold that is no number means the best class.

    Parameters
    ----------
    values
        Label of each class, and of none.
    """
    import cupy

    given = (scores, np.int32(len(scores)), np.float32(threshold), *_steps(scores), *_on_device(samples))
    _run("label", out.size, (*given, cupy.asarray(values), out, *_steps(out), *_sizes(out)))


def _run(name: str, voxels: int, arguments: tuple[Any, ...]) -> None:
    if voxels:
        _kernels().get_function(name)((-(-voxels // _THREADS),), (_THREADS,), arguments)


@cache
def _kernels() -> Any:
    import cupy

    return cupy.RawModule(code=SOURCE.read_text(encoding="utf-8"), options=("--std=c++14",))


def _on_device(samples: Any) -> list[Array]:
    import cupy

    return [cupy.asarray(array) for axis in samples for array in axis.arrays]


def _steps(array: Array) -> list[Any]:
    return [np.int64(stride // array.itemsize) for stride in array.strides]


def _sizes(array: Array) -> list[Any]:
    return [np.int64(size) for size in array.shape]
