"""Tensors between Triton and the engines, by DLPack."""

import ctypes

import numpy as np
import triton_python_backend_utils as pb_utils

_USED = b"used_dltensor"
_set_capsule_name = ctypes.pythonapi.PyCapsule_SetName
_set_capsule_name.argtypes = [ctypes.py_object, ctypes.c_char_p]


def as_array(tensor):
    """Return a tensor's values where they lie, on the host."""
    return np.from_dlpack(tensor)


def as_tensor(name, array):
    """Hand an array to Triton, and its memory with it."""
    return from_capsule(name, np.ascontiguousarray(array).__dlpack__())


def from_capsule(name, capsule):
    """Hand what is in a DLPack capsule to Triton, wherever it lies.

    Triton marks the capsule as used by a name that NumPy does not know, which NumPy would report as an
    error each time it is freed; so it gets the name that the DLPack protocol gives it.
    """
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    _set_capsule_name(capsule, _USED)
    return tensor
