"""Shared-memory buffers: memory that an infer request and its output share with a Triton server."""

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
from stages.triton.connection import ModelConnection

_ALIGNMENT = 4096
_DEADLINE_S = 2.0


WriteWindows: TypeAlias = Callable[[Array], None]
"""Writes windows into an array of the shape of the model's input tensor, on the host or on the device."""


class SharedBuffer(Protocol):
    """Memory shared with the server: the windows, and behind them the model's output.

    Attributes
    ----------
    name
        Under which the server knows it.
    input_bytes, output_bytes
        How much of it there is for windows and for output, bytes.
    """

    name: str
    input_bytes: int
    output_bytes: int

    def register(self) -> None:
        """Register it with the server."""

    def write_input(
        self, write: WriteWindows, shape: tuple[int, ...], dtype: np.dtype[Any], *, on_device: bool
    ) -> None:
        """Have windows written into it.

        Parameters
        ----------
        write
            Writes them.
        shape, dtype
            Of the model's input tensor.
        on_device
            Whether `write` writes to the CUDA device, else to the host.
        """

    def output(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return the model's output where it lies; it holds until the buffer is used again.

        Parameters
        ----------
        shape, dtype
            Of the model's output tensor.
        """

    def close(self) -> None:
        """Unregister it, and free the memory."""


class SystemBuffer:
    """A buffer in ``/dev/shm``.

    Parameters
    ----------
    connection
        The server.
    input_bytes, output_bytes
        What it must hold, bytes.
    """

    def __init__(self, connection: ModelConnection, input_bytes: int, output_bytes: int) -> None:
        self.input_bytes = _aligned(input_bytes)
        self.output_bytes = output_bytes
        self._connection = connection
        self._region = Region(self.input_bytes + output_bytes)
        self.name = self._region.name

    def register(self) -> None:
        """Register it with the server."""
        self._connection.client.register_system_shared_memory(
            self.name, f"/{self.name}", self._region.size, client_timeout=_DEADLINE_S
        )

    def write_input(
        self, write: WriteWindows, shape: tuple[int, ...], dtype: np.dtype[Any], *, on_device: bool
    ) -> None:
        """Have windows written into it.

        Parameters
        ----------
        write, shape, dtype, on_device
            As for `SharedBuffer.write_input`.
        """
        view = self._region.array(shape, dtype)
        if on_device:
            np.copyto(view, written_on_host(write, shape, dtype, on_device=True))
        else:
            write(view)

    def output(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return the model's output where it lies.

        Parameters
        ----------
        shape, dtype
            Of the model's output tensor.
        """
        return self._region.array(shape, dtype, offset=self.input_bytes)

    def close(self) -> None:
        """Unregister it, and free the memory."""
        try:
            with suppress(self._connection.protocol.InferenceServerException):
                self._connection.client.unregister_system_shared_memory(self.name, client_timeout=_DEADLINE_S)
        finally:
            self._region.close()


class CudaBuffer:
    """A buffer in the memory of the current CUDA device, apart from CuPy's pool, so that it can be shared.

    Parameters
    ----------
    connection
        The server.
    input_bytes, output_bytes
        What it must hold, bytes.
    """

    def __init__(self, connection: ModelConnection, input_bytes: int, output_bytes: int) -> None:
        import cupy

        self._cupy = cupy
        self._connection = connection
        self.input_bytes = _aligned(input_bytes)
        self.output_bytes = output_bytes
        self.name = f"clara-windows-cuda-{os.urandom(8).hex()}"
        self._size = self.input_bytes + output_bytes
        self._device = cupy.cuda.runtime.getDevice()
        self._pointer = cupy.cuda.runtime.malloc(self._size)
        count_outside_pool(self._size)

    def register(self) -> None:
        """Register it with the server."""
        handle = self._cupy.cuda.runtime.ipcGetMemHandle(self._pointer)
        self._connection.client.register_cuda_shared_memory(
            self.name,
            base64.b64encode(handle),
            self._device,
            self._size,
            client_timeout=_DEADLINE_S,
        )

    def write_input(
        self, write: WriteWindows, shape: tuple[int, ...], dtype: np.dtype[Any], *, on_device: bool
    ) -> None:
        """Have windows written into it.

        Parameters
        ----------
        write, shape, dtype, on_device
            As for `SharedBuffer.write_input`.
        """
        view = self._view(shape, dtype, 0)
        if on_device:
            write(view)
        else:
            view.set(written_on_host(write, shape, dtype, on_device=False))
        self._cupy.cuda.get_current_stream().synchronize()  # the server reads on a stream of its own

    def output(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return the model's output where it lies.

        Parameters
        ----------
        shape, dtype
            Of the model's output tensor.
        """
        return self._view(shape, dtype, self.input_bytes)

    def close(self) -> None:
        """Unregister it, and free the memory."""
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


def written_on_host(
    write: WriteWindows, shape: tuple[int, ...], dtype: np.dtype[Any], *, on_device: bool
) -> np.ndarray[Any, Any]:
    """Return windows as an array of the host, in order, wherever they are written.

    Parameters
    ----------
    write, shape, dtype, on_device
        As for `SharedBuffer.write_input`.
    """
    made = empty(shape, dtype, on_device=on_device)
    write(made)
    return to_host(made)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
