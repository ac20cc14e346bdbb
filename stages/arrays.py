"""One array backend at a time: NumPy on the host or CuPy on the device.

A function asks its input where it lives, works there and returns there. Only `to_host` and
`to_device` cross. CuPy is not imported before a CuPy array arrives or `to_device` is called.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np

from stages.errors import SettingsError

Array: TypeAlias = Any
"""A `numpy.ndarray` or a `cupy.ndarray`."""


def array_namespace(array: Array) -> Any:
    """Return the module (`numpy` or `cupy`) that the array belongs to.

    Parameters
    ----------
    array
        Of any shape and type.

    Raises
    ------
    TypeError
        If the array belongs to neither.
    """
    if isinstance(array, np.ndarray):
        return np
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        return cupy
    raise TypeError(f"expected a NumPy or a CuPy array, got {type(array).__module__}.{type(array).__name__}")


def device_available() -> bool:
    """Return whether CuPy is installed and sees a CUDA device."""
    try:
        import cupy

        return bool(cupy.cuda.runtime.getDeviceCount() > 0)
    except Exception:  # a broken CUDA installation raises anything; it means "no device" here
        return False


def empty(shape: tuple[int, ...], dtype: Any, *, on_device: bool) -> Array:
    """Return an array that is not filled yet, on the host or on the CUDA device.

    Parameters
    ----------
    shape
        Its size along each axis.
    dtype
        Its NumPy type.
    on_device
        Whether it is made on the current CUDA device.

    Raises
    ------
    ImportError
        If it is wanted on the device and CuPy is not installed.
    """
    if not on_device:
        return np.empty(shape, dtype)
    import cupy

    return cupy.empty(shape, dtype)


def to_device(array: Array) -> Array:
    """Copy an array to the CUDA device (a CuPy array stays as it is).

    Parameters
    ----------
    array
        Of any shape and type, NumPy or CuPy.

    Raises
    ------
    SettingsError
        If CuPy is not installed.
    """
    try:
        import cupy
    except ImportError as error:
        raise SettingsError(
            "CuPy is not installed; install the extra cuda12 or cuda13, or work on the host"
        ) from error
    return cupy.asarray(array)


def to_host(array: Array) -> np.ndarray[Any, Any]:
    """Copy an array to the host (a NumPy array stays as it is).

    Parameters
    ----------
    array
        Of any shape and type, NumPy or CuPy.

    Raises
    ------
    TypeError
        If the array is neither.
    """
    if array_namespace(array) is np:
        return np.asarray(array)
    return np.asarray(array.get())
