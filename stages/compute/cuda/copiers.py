"""The threads that copy to and from the CUDA device, each with pinned memory and a stream of its own.

While one waits for its block, others fill or empty theirs; they are kept from one array to the next.

References
----------
CUDA C++ Programming Guide, Page-Locked Host Memory; Asynchronous Concurrent Execution.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import cache, partial
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stages.arrays import Array
from stages.compute.threads import cores

BLOCK_BYTES = 8 * 2**20
"""Size of a pinned buffer; a slice that is larger goes in parts."""

_MOST_THREADS = 8  # more do not make the bus faster
Bytes: TypeAlias = NDArray[np.uint8]


class Copier(Protocol):
    """What one thread copies with; all calls come from that thread."""

    def buffer(self, size: int) -> Bytes:
        """Return pinned memory of the host.

        Parameters
        ----------
        size
            Bytes.
        """

    def to_device(self, source: Bytes, target: Array, start: int, after: Any) -> None:
        """Copy bytes to a place in the memory of an array on the device, and wait until they are there.

        Parameters
        ----------
        source
            Pinned memory.
        target
            An array of the device, in order.
        start
            Where in `target` they go, bytes.
        after
            A CUDA event before which nothing is written; None for none.
        """

    def to_host(self, source: Array, start: int, target: Bytes, after: Any) -> None:
        """Copy bytes from a place in the memory of an array on the device, and wait until they are there.

        Parameters
        ----------
        source
            An array of the device, in order.
        start
            Where in `source` they lie, bytes.
        target
            Pinned memory.
        after
            A CUDA event before which nothing is read; None for none.
        """


class _CudaCopier:
    """Copies on a stream of its own.

    Parameters
    ----------
    device
        Number of the CUDA device.
    """

    def __init__(self, device: int) -> None:
        import cupy

        self._cuda = cupy.cuda
        self._cuda.Device(device).use()
        self._stream = self._cuda.Stream(non_blocking=True)

    def buffer(self, size: int) -> Bytes:
        """Return pinned memory of the host."""
        return np.frombuffer(self._cuda.alloc_pinned_memory(size), np.uint8, size)

    def to_device(self, source: Bytes, target: Array, start: int, after: Any) -> None:
        """Copy bytes to a place in the memory of an array on the device, and wait until they are there."""
        self._copy(target.data.ptr + start, source.ctypes.data, source.nbytes, after)

    def to_host(self, source: Array, start: int, target: Bytes, after: Any) -> None:
        """Copy bytes from a place in the memory of an array on the device, and wait until they are there."""
        self._copy(target.ctypes.data, source.data.ptr + start, target.nbytes, after)

    def _copy(self, target: int, source: int, size: int, after: Any) -> None:
        self._stream.wait_event(after)
        runtime = self._cuda.runtime
        runtime.memcpyAsync(target, source, size, runtime.memcpyDefault, self._stream.ptr)
        self._stream.synchronize()


class Threads:
    """The threads that copy, each with its buffer; they and their buffers are kept for the next array.

    Parameters
    ----------
    make
        Makes what a thread copies with.
    count
        How many threads there are.
    block_bytes
        Size of a buffer.
    """

    def __init__(self, make: Callable[[], Copier], *, count: int, block_bytes: int = BLOCK_BYTES) -> None:
        self.block_bytes = block_bytes
        self.count = count
        self._make = make
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(count, "transfer")

    def submit(self, work: Callable[[Copier, Bytes], None]) -> Future[None]:
        """Start work on a thread, with what it copies with and its buffer, and return its future.

        Parameters
        ----------
        work
            Called on a thread with what it copies with, and its buffer.
        """
        return self._pool.submit(self._run, work)

    def warm_up(self) -> None:
        """Wait until every thread has its buffer; raise what kept one from having it."""
        met = threading.Barrier(self.count)  # so that none does the work of two
        try:
            begun = [self.submit(lambda copier, buffer: _meet(met)) for _ in range(self.count)]
            for ended in wait(begun, return_when=FIRST_EXCEPTION).done:
                ended.result()
        finally:
            met.abort()  # nobody waits for one that will not come

    def _run(self, work: Callable[[Copier, Bytes], None]) -> None:
        own = self._own
        if not hasattr(own, "copier"):
            copier = self._make()
            own.buffer = copier.buffer(self.block_bytes)
            own.copier = copier
        work(own.copier, own.buffer)


def _meet(barrier: threading.Barrier) -> None:
    barrier.wait()


@cache
def cuda_threads(device: int) -> Threads:
    """Return the threads that copy to and from a CUDA device: a core each, and eight at most.

    Parameters
    ----------
    device
        Number of the CUDA device.
    """
    return Threads(partial(_CudaCopier, device), count=min(cores(), _MOST_THREADS))


def buffer_bytes() -> int:
    """Return the pinned memory that transfers will yet take of the host: nothing where there are threads."""
    return 0 if cuda_threads.cache_info().currsize else BLOCK_BYTES * min(cores(), _MOST_THREADS)
