"""What a stage takes of its GPU's memory: estimated before, reserved among others, held, and measured.

CuPy takes memory from CUDA in blocks and keeps what is freed for the next array. That pool is given a limit,
the bytes that were reserved. Before a run that reaches it fails, free blocks of other sizes are given up and,
if other stages leave enough free, more is reserved. The memory shared with a server lies outside of the
pool and is counted here.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from stages.errors import StageError
from stages.memory.limits import MemoryLimit, parse_share
from stages.memory.reservations import Reservations
from stages.memory.shared import SHARED_MEMORY
from stages.runtime.sizes import MIB, in_words

logger = logging.getLogger(__name__)

_LEAST_GROWTH = 32 * MIB
_outside_pool = 0


class DeviceMemoryError(StageError, MemoryError):
    """The GPU had less memory than a run needed while it ran."""

    retryable = True


def count_outside_pool(size: int) -> None:
    """Count bytes of the device's memory that were taken apart from CuPy's pool, or freed if negative.

    Parameters
    ----------
    size
        Bytes, negative for those freed.
    """
    global _outside_pool
    _outside_pool += size


class CudaGpu:
    """The current CUDA device, its context made, through CuPy.

    Attributes
    ----------
    uuid
        As the driver has it, in hexadecimal digits.
    total
        Bytes of its memory.
    """

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        runtime = cupy.cuda.runtime
        _, self.total = runtime.memGetInfo()  # this makes the context
        self.uuid = _uuid(runtime.getDevice()) or runtime.deviceGetPCIBusId(runtime.getDevice())
        self.pool: Any = cupy.get_default_memory_pool()
        self.using_allocator = cupy.cuda.using_allocator

    def free(self) -> int:
        """Return the bytes that nobody holds."""
        return int(self._cupy.cuda.runtime.memGetInfo()[0])

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Return whether an error says that there was no memory left.

        Parameters
        ----------
        error
            What CuPy or CUDA raised.
        """
        cuda = self._cupy.cuda
        if isinstance(error, cuda.memory.OutOfMemoryError):
            return True
        wrong = isinstance(error, cuda.runtime.CUDARuntimeError) and error.status
        return bool(wrong == cuda.runtime.errorMemoryAllocation)

    def taken(self) -> int:
        """Return the bytes that this process holds, its CUDA context not counted."""
        return int(self.pool.total_bytes()) + _outside_pool


class GpuMemory:
    """What this process may take of one GPU, and what it took.

    Parameters
    ----------
    gpu
        The GPU, with the pool that its memory is taken from.
    wanted
        The user's own limit: a size, or a share of the GPU's memory such as ``50%``.
    wait_s
        How long a run waits for other stages to end, seconds.
    folder
        Shared memory in which the stages of this host see each other.

    Attributes
    ----------
    peak
        The most bytes taken since `reset_peak`, the CUDA context not counted.
    reserved
        What the last run reserved, bytes.

    Raises
    ------
    SettingsError
        If the user's limit is neither a size nor a share.
    """

    def __init__(
        self,
        gpu: Any,
        *,
        wanted: str | None = None,
        wait_s: float = 300.0,
        folder: Path = SHARED_MEMORY,
    ) -> None:
        self._gpu = gpu
        self._reservations = Reservations(self._gpu, folder=folder)
        self._most = (
            MemoryLimit(parse_share(wanted, self._gpu.total), "--gpu-memory-limit") if wanted else None
        )
        self._wait_s = wait_s
        gpu.pool.free_all_blocks()  # what others have left there would be counted among what a run takes
        self.peak = self._seen = self._gpu.taken()
        self.reserved = self._outside = 0

    def reserve(self, sizes: Sequence[int]) -> tuple[int, MemoryLimit]:
        """Reserve the first of some sizes that fits, as `Reservations.reserve`; return which, with the limit.

        What is reserved is a limit from now on, until `release`. Before it waits for others it gives up the
        free blocks that the last run has left.

        Parameters
        ----------
        sizes
            Bytes, from what is wanted to what will just do.

        Raises
        ------
        MemoryLimitError
            If the last size fits neither now nor without the other stages.
        StageTimeoutError
            If the others did not end in time.
        """
        n, limit = self._reservations.reserve(
            sizes, most=self._most, wait_s=self._wait_s, before_waiting=self.shrink
        )
        self.reserved = sizes[n]
        self._reservations.note_taken()
        self._set_limit()
        return n, limit

    def held(self, volume_bytes: int) -> int:
        """Return the bytes in use beyond a volume that lies on the device, a run's own not yet among them.

        Parameters
        ----------
        volume_bytes
            Size of the volume on the device, bytes; 0 where it is on the host.
        """
        return max(0, int(self._gpu.pool.used_bytes()) - volume_bytes)

    @property
    def shared(self) -> int:
        """The bytes that are shared with a server."""
        return _outside_pool

    def release(self) -> None:
        """Release what is reserved; memory that is held for the next run is held on."""
        self._reservations.give_back(self._reservations.reserved)
        self._gpu.pool.set_limit(size=0)

    def shrink(self) -> None:
        """Return the pool's free blocks to the GPU."""
        with self._reservations.freeing():
            self._gpu.pool.free_all_blocks()

    def close(self) -> None:
        """Release all that is not in use."""
        self.release()
        self.shrink()
        self._reservations.close()

    def reset_peak(self) -> None:
        """Start to measure the peak anew."""
        self.peak = self._gpu.taken()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Take the block's memory from what is reserved, and release what is reserved at its end.

        Raises
        ------
        DeviceMemoryError
            If that does not suffice, and there is no more.
        """
        try:
            with self._gpu.using_allocator(self.malloc):
                yield
        except Exception as error:
            if isinstance(error, StageError) or not self._gpu.is_out_of_memory(error):
                raise
            raise self._failure(str(error)) from error
        finally:
            self.release()

    def malloc(self, size: int) -> Any:
        """Return memory as the pool does; CuPy's allocator while a run goes on.

        Parameters
        ----------
        size
            Bytes.

        Raises
        ------
        DeviceMemoryError
            If more is needed than was reserved, and other stages or the user's limit leave no more.
        """
        if self._outside != _outside_pool and self._reservations.reserved:
            self._set_limit()
        memory = self._take(size)
        taken = self._gpu.taken()
        if taken != self._seen:
            self._seen = taken
            self.peak = max(self.peak, taken)
            self._reservations.note_taken()
        return memory

    def _take(self, size: int) -> Any:
        for free_up in (self.shrink, partial(self._grow, size)):
            try:
                return self._gpu.pool.malloc(size)
            except Exception as error:
                if not self._gpu.is_out_of_memory(error):
                    raise
            free_up()
        return self._gpu.pool.malloc(size)

    def _grow(self, size: int) -> None:
        """Reserve more than was estimated, where other stages leave it."""
        more = max(size, _LEAST_GROWTH)
        if not self._reservations.grow(more, most=self._left_of_most()):
            raise self._failure(f"{in_words(size)} more were needed")
        logger.warning("the run takes %s more of the GPU's memory than was estimated", in_words(more))
        self._set_limit()

    def _left_of_most(self) -> MemoryLimit | None:
        if self._most is None:
            return None
        return MemoryLimit(self._most.size - self._reservations.reserved, self._most.source)

    def _set_limit(self) -> None:
        """Set the pool's limit to what is reserved, less what lies outside of it."""
        self._outside = _outside_pool
        self._gpu.pool.set_limit(size=max(1, self._reservations.reserved - self._outside))

    def _failure(self, reason: str) -> DeviceMemoryError:
        others = self._reservations.available().others
        return DeviceMemoryError(
            f"out of GPU memory: {reason}; {in_words(self._gpu.taken())} were taken of "
            f"{in_words(self._reservations.reserved)} reserved, {in_words(self._gpu.free())} are free, "
            f"{others} other stages work there; let fewer stages run at a time, allow more "
            f"(--gpu-memory-limit), or run on the host (--device cpu)"
        )


@cache
def gpu_memory() -> GpuMemory:
    """Return what this process may take of the current CUDA device, where nobody has set a limit."""
    return GpuMemory(CudaGpu())


def device_peak_bytes() -> int:
    """Return the most bytes of the device that `gpu_memory` has seen taken, the CUDA context not counted."""
    peak: int = gpu_memory().peak
    return peak


def _uuid(ordinal: int) -> str:
    """Return the driver's UUID of a device or of the part of it that is seen here; "" for none."""
    try:
        driver, uuid, device = ctypes.CDLL("libcuda.so.1"), (ctypes.c_ubyte * 16)(), ctypes.c_int()
        failed = driver.cuDeviceGet(ctypes.byref(device), ordinal)
        failed = failed or driver.cuDeviceGetUuid_v2(ctypes.byref(uuid), device)
    except (OSError, AttributeError):
        return ""
    return "" if failed else bytes(uuid).hex()
