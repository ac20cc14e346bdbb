"""Memory that a question to a Triton server and its answer share with the server."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

import numpy as np

from stages.arrays import Array, empty, to_host
from stages.memory.gpu import count_outside_pool
from stages.memory.shared import Region
from stages.triton.connection import Connection

_ALIGNMENT = 4096
_DEADLINE_S = 2.0


Write: TypeAlias = Callable[[Array], None]
"""Writes windows into an array of the shape of the model's input tensor, on the host or on the device."""


class Slot(Protocol):
    """Memory shared with the server: a question, and behind it the answer."""

    name: str
    question_bytes: int
    answer_bytes: int

    def register(self) -> None:
        """Tell the server of it."""

    def put(self, write: Write, shape: tuple[int, ...], dtype: np.dtype[Any], *, on_device: bool) -> None:
        """Have a question written by what writes to the host or to the device."""

    def answer(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return the answer where it lies."""

    def close(self) -> None:
        """Free the memory, the server's hold on it first."""


class SystemSlot:
    """A slot in ``/dev/shm``."""

    def __init__(self, connection: Connection, question_bytes: int, answer_bytes: int) -> None:
        self.question_bytes = _aligned(question_bytes)
        self.answer_bytes = answer_bytes
        self._connection = connection
        self._region = Region(self.question_bytes + answer_bytes)
        self.name = self._region.name

    def register(self) -> None:
        """Tell the server of it."""
        self._connection.client.register_system_shared_memory(
            self.name, f"/{self.name}", self._region.size, client_timeout=_DEADLINE_S
        )

    def put(self, write: Write, shape: tuple[int, ...], dtype: np.dtype[Any], *, on_device: bool) -> None:
        """Have a question written by what writes to the host or to the device."""
        view = self._region.array(shape, dtype)
        if on_device:
            np.copyto(view, on_host(write, shape, dtype, on_device=True))
        else:
            write(view)

    def answer(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return the answer where it lies."""
        return self._region.array(shape, dtype, offset=self.question_bytes)

    def close(self) -> None:
        """Free the memory, the server's hold on it first."""
        try:
            with suppress(self._connection.protocol.InferenceServerException):
                self._connection.client.unregister_system_shared_memory(self.name, client_timeout=_DEADLINE_S)
        finally:
            self._region.close()


class CudaSlot:
    """A slot in the memory of the current CUDA device, apart from CuPy's pool, so that it can be shared."""

    def __init__(self, connection: Connection, question_bytes: int, answer_bytes: int) -> None:
        import cupy

        self._cupy = cupy
        self._connection = connection
        self.question_bytes = _aligned(question_bytes)
        self.answer_bytes = answer_bytes
        self.name = f"clara-windows-cuda-{os.urandom(8).hex()}"
        self._size = self.question_bytes + answer_bytes
        self._device = cupy.cuda.runtime.getDevice()
        self._pointer = cupy.cuda.runtime.malloc(self._size)
        count_outside_pool(self._size)

    def register(self) -> None:
        """Tell the server of it."""
        handle = self._cupy.cuda.runtime.ipcGetMemHandle(self._pointer)
        self._connection.client.register_cuda_shared_memory(
            self.name,
            base64.b64encode(handle),
            self._device,
            self._size,
            client_timeout=_DEADLINE_S,
        )

    def put(self, write: Write, shape: tuple[int, ...], dtype: np.dtype[Any], *, on_device: bool) -> None:
        """Have a question written by what writes to the host or to the device."""
        view = self._view(shape, dtype, 0)
        if on_device:
            write(view)
        else:
            view.set(on_host(write, shape, dtype, on_device=False))
        self._cupy.cuda.get_current_stream().synchronize()  # the server reads on a stream of its own

    def answer(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return the answer where it lies."""
        return self._view(shape, dtype, self.question_bytes)

    def close(self) -> None:
        """Free the memory, the server's hold on it first."""
        try:
            with suppress(self._connection.protocol.InferenceServerException):
                self._connection.client.unregister_cuda_shared_memory(self.name, client_timeout=_DEADLINE_S)
        finally:
            self._cupy.cuda.get_current_stream().synchronize()
            self._cupy.cuda.runtime.free(self._pointer)
            count_outside_pool(-self._size)

    def _view(self, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int) -> Array:
        memory = self._cupy.cuda.UnownedMemory(self._pointer, self._size, self, self._device)
        return self._cupy.ndarray(shape, dtype, self._cupy.cuda.MemoryPointer(memory, offset))


def on_host(
    write: Write, shape: tuple[int, ...], dtype: np.dtype[Any], *, on_device: bool
) -> np.ndarray[Any, Any]:
    """Return on the host, in order, what is written to the host or to the device."""
    made = empty(shape, dtype, on_device=on_device)
    write(made)
    return to_host(made)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
