"""Arrays between the host and the CUDA device, by several threads through pinned memory.

A copy out of memory that the driver cannot trust to stay where it is goes through a small buffer of its own,
at an eighth of what the bus can carry. Here the threads of `stages.compute.cuda.copiers` share it
out. An array may be used before all of it has arrived.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import wait
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.arrays import Array
from stages.compute.cuda.copiers import Bytes, Copier, Threads, cuda_threads


class Upload:
    """An array on its way to the device.

    Parameters
    ----------
    source
        What is copied; any view of any array of the host, a mapped file's too.
    array
        Where it goes: in order, of the same shape and type.
    threads
        What copies.
    after
        An event of the stream that `array` was made on: nothing is written there before.
    backwards
        Whether the last slices go first.
    """

    def __init__(
        self,
        source: NDArray[Any],
        array: Array,
        *,
        threads: Threads,
        after: Any = None,
        backwards: bool = False,
    ) -> None:
        self.array = array
        self._bounds = list(_blocks(source, threads.block_bytes))
        order = reversed(self._bounds) if backwards else self._bounds
        begun = {
            start: threads.submit(partial(_put, _part(source, start, stop), array, start, after))
            for start, stop in order
        }
        self._copies = [begun[start] for start, _ in self._bounds]

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until nothing is written any more."""
        for copy in self._copies:
            copy.cancel()
        wait(self._copies)

    def wait_for(self, view: Array) -> None:
        """Wait until a view of the array holds what it shall; what went wrong on the way is raised.

        Whatever is then started on a stream of the device finds it there.

        Parameters
        ----------
        view
            A view of `array`; only what it reaches is waited for.
        """
        if view.size == 0:
            return
        first, last = _extent(view, self.array)
        for (start, stop), copy in zip(self._bounds, self._copies, strict=True):
            if start < last and first < stop:
                copy.result()


def upload(source: NDArray[Any], *, backwards: bool = False) -> Upload:
    """Begin to copy an array to the current CUDA device.

    Parameters
    ----------
    source
        Any view of any array of the host, a mapped file's too.
    backwards
        Whether the last slices go first.
    """
    import cupy

    array = cupy.empty(source.shape, source.dtype.newbyteorder("="))
    threads = cuda_threads(cupy.cuda.runtime.getDevice())
    return Upload(source, array, threads=threads, after=stream_event(), backwards=backwards)


def stream_event() -> Any:
    """Return an event behind all that CuPy's current stream has been told to do."""
    import cupy

    event = cupy.cuda.Event(disable_timing=True)
    event.record()
    return event


class Download:
    """A place on the host for an array of the device, whose pages are there before the array is.

    Parameters
    ----------
    shape, dtype
        Of the array.
    threads
        What copies.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, *, threads: Threads) -> None:
        self._array: NDArray[Any] = np.empty(shape, dtype)
        self._threads = threads
        flat = self._array.reshape(-1).view(np.uint8)
        self._blocks = [
            flat[start : start + threads.block_bytes] for start in range(0, flat.size, threads.block_bytes)
        ]
        self._touched = [threads.submit(partial(_touch, block)) for block in self._blocks]

    def fill(self, source: Array, *, after: Any = None) -> NDArray[Any]:
        """Copy an array of the device, which lies in order, and return the copy.

        Parameters
        ----------
        source
            Of the shape and type that the place was made for, in order.
        after
            An event of the stream that `source` was made on, behind the last that was written to it.
        """
        wait(self._touched)
        size = self._threads.block_bytes
        copies = [
            self._threads.submit(partial(_get, source, n * size, block, after))
            for n, block in enumerate(self._blocks)
        ]
        for copy in copies:
            copy.result()
        return self._array


def download_place(shape: tuple[int, ...], dtype: Any) -> Download:
    """Return a place on the host for an array of the current CUDA device, made ready by its threads.

    Parameters
    ----------
    shape, dtype
        Of the array.
    """
    import cupy

    return Download(shape, dtype, threads=cuda_threads(cupy.cuda.runtime.getDevice()))


def _touch(block: Bytes, copier: Copier, buffer: Bytes) -> None:
    block.fill(0)


def _put(source: NDArray[Any], array: Array, start: int, after: Any, copier: Copier, buffer: Bytes) -> None:
    bytes_ = buffer[: source.size * array.dtype.itemsize]
    np.copyto(bytes_.view(array.dtype).reshape(source.shape), source)
    copier.to_device(bytes_, array, start, after)


def _get(source: Array, start: int, target: Bytes, after: Any, copier: Copier, buffer: Bytes) -> None:
    bytes_ = buffer[: target.size]
    copier.to_host(source, start, bytes_, after)
    target[:] = bytes_


def _blocks(source: NDArray[Any], most: int) -> Iterator[tuple[int, int]]:
    """Yield the bounds of blocks, in bytes of the array in order: whole slices, or else rows of one slice."""
    if source.size == 0:
        return
    slice_bytes = source[0].nbytes
    if slice_bytes <= most:
        step = most // slice_bytes * slice_bytes
        for start in range(0, source.nbytes, step):
            yield start, min(start + step, source.nbytes)
        return
    for n in range(len(source)):
        for start, stop in _blocks(source[n], most):
            yield n * slice_bytes + start, n * slice_bytes + stop


def _part(source: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
    """Return the elements of a block, as a view."""
    slice_bytes = source[0].nbytes
    first, behind = divmod(start, slice_bytes)
    if behind or stop - start < slice_bytes:
        return _part(source[first], behind, behind + stop - start)
    return source[first : -(-stop // slice_bytes)]


def _extent(view: Array, whole: Array) -> tuple[int, int]:
    """Return the first byte of a view in the memory of an array, and the one behind its last."""
    reach = [stride * (size - 1) for stride, size in zip(view.strides, view.shape, strict=True)]
    first = _address(view) - _address(whole) + sum(step for step in reach if step < 0)
    return first, first + sum(map(abs, reach)) + int(view.dtype.itemsize)


def _address(array: Array) -> int:
    return int(array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr)
