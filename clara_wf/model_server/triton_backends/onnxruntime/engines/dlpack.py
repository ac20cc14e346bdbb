"""Where the memory of a DLPack capsule lies, without a library that can open it.

References
----------
DLPack 0.8, ``dlpack.h``: ``DLManagedTensor`` begins with its ``DLTensor``.
"""

import ctypes

CPU, CUDA, CUDA_HOST = 1, 2, 3
"""Of ``DLDeviceType``; pinned host memory is the host's."""

_NAME = b"dltensor"
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]
_pointer_of.restype = ctypes.c_void_p


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("id", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class Memory:
    """The contiguous memory of a tensor; it is valid while the capsule lives.

    Attributes
    ----------
    pointer
        Address of its first element.
    on_device
        Whether that is memory of a CUDA device.
    device_id
        Which one.
    shape
        Of the tensor.
    """

    def __init__(self, capsule):
        tensor = _Tensor.from_address(_pointer_of(capsule, _NAME))
        if tensor.device.type not in (CPU, CUDA, CUDA_HOST):
            raise ValueError(
                f"a tensor lies on a device of DLPack's type {tensor.device.type}, not 1, 2 or 3"
            )
        self.pointer = (tensor.data or 0) + tensor.byte_offset
        self.on_device = tensor.device.type == CUDA
        self.device_id = tensor.device.id if self.on_device else 0
        self.shape = tuple(tensor.shape[: tensor.ndim])
