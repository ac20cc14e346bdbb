"""Processes that share one GPU tell each other what they will take of its memory, and wait for each other.

What a GPU has free says nothing of what those who have just begun will take. So each process that works there
keeps a small file in shared memory, named after the GPU, with two numbers: what it has reserved, and how much
of that it has taken already. It holds a lock on the file while it lives, so a crash gives the memory back::

    available = free + taken by me - reserved by me - what the others have reserved and not yet taken

One more file is locked by whoever reads them all and decides; nobody else decides then. What was taken is
never said to be more than it is: it grows after memory was taken, and sinks, under that lock, before it is
freed.

A container with a ``/dev/shm`` of its own neither sees the others nor is seen: there the GPU's free memory
alone counts.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stages.errors import StageTimeoutError
from stages.memory.limits import MemoryLimit, MemoryLimitError
from stages.memory.shared import SHARED_MEMORY
from stages.runtime import file_lock
from stages.runtime.sizes import in_words

logger = logging.getLogger(__name__)

_PREFIX = "clara-gpu-"
_NUMBERS = struct.Struct("<qq")  # reserved, taken
_POLL_S = 0.05
_LOG_EVERY_S = 30.0
_SETTLES_WITHIN_S = 2.0  # the driver frees the memory of a process that was killed a moment after its end


class Gpu(Protocol):
    """One GPU, as seen by this process.

    Attributes
    ----------
    uuid
        What tells it from others, the same for every process.
    total
        Bytes of its memory.
    """

    uuid: str
    total: int

    def free(self) -> int:
        """Return the bytes that nobody holds."""

    def taken(self) -> int:
        """Return the bytes that this process holds, its CUDA context not counted."""


@dataclass(frozen=True)
class AvailableMemory:
    """What can be reserved of a GPU's memory.

    Attributes
    ----------
    now
        Bytes that can be reserved now.
    alone
        Bytes that could be if no other stage held any.
    others
        How many other stages hold memory there or have reserved some.
    """

    now: int
    alone: int
    others: int


class Reservations:
    """What this process has reserved of one GPU, among those of all others on this host.

    Parameters
    ----------
    gpu
        The GPU.
    folder
        Shared memory that the other processes see too.
    """

    def __init__(self, gpu: Gpu, *, folder: Path = SHARED_MEMORY) -> None:
        if not os.access(folder, os.W_OK | os.X_OK):
            logger.warning("%s cannot be written to: other stages on the GPU do not see this one", folder)
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._gpu = gpu
        self._folder = folder
        name = f"{_PREFIX}{re.sub('[^0-9A-Za-z]', '', gpu.uuid)}"
        self._mutex = folder / f"{name}.lock"
        self._file = re.compile(re.escape(name) + r"-[0-9a-f]{16}")
        self._pattern = f"{name}-*"
        self._path = folder / f"{name}-{os.urandom(8).hex()}"
        self._descriptor = -1
        self._threads = threading.RLock()
        self._taken = 0
        self.reserved = 0

    def reserve(
        self,
        sizes: Sequence[int],
        *,
        most: MemoryLimit | None = None,
        wait_s: float = 0.0,
        before_waiting: Callable[[], None] | None = None,
    ) -> tuple[int, MemoryLimit]:
        """Reserve the first of some sizes that fits, and return which, with the limit.

        Parameters
        ----------
        sizes
            Bytes, from what is wanted to what will just do.
        most
            A limit of the user's own.
        wait_s
            How long to wait for other stages to end where nothing fits now, seconds.
        before_waiting
            Gives up what this process holds and does not use: another may wait for that.

        Raises
        ------
        MemoryLimitError
            If the last size fits neither now nor without the other stages.
        StageTimeoutError
            If the others did not end in time.
        """
        began = time.monotonic()
        told = began - _LOG_EVERY_S
        while True:
            with self._sole():
                available = self._look()
                limit = _lower(available.now, most)
                for n, size in enumerate(sizes):
                    if size <= limit.size:
                        self._write(self.reserved + size)
                        return n, limit
            alone = _lower(available.alone, most)
            waited = time.monotonic() - began
            never = sizes[-1] > (most.size if most else self._gpu.total)
            if never or (sizes[-1] > alone.size and waited >= _SETTLES_WITHIN_S):
                error = MemoryLimitError(f"{in_words(sizes[-1])} of {in_words(alone.size)} ({alone.source})")
                error.limit = alone
                raise error
            if waited >= wait_s and (sizes[-1] <= alone.size or not available.others):
                raise StageTimeoutError(_waited(sizes[-1], available, waited))
            if time.monotonic() - told >= _LOG_EVERY_S and available.others:
                told = time.monotonic()
                logger.info(_WAITING, in_words(sizes[-1]), in_words(max(0, available.now)), available.others)
            if before_waiting is not None:
                before_waiting()
                before_waiting = None
            try:
                time.sleep(_POLL_S)
            except StageTimeoutError as error:
                raise StageTimeoutError(
                    f"{error}; {_waited(sizes[-1], available, time.monotonic() - began)}"
                ) from error

    def grow(self, size: int, *, most: MemoryLimit | None = None) -> bool:
        """Reserve more, at once or not at all, and return whether it was enough.

        Parameters
        ----------
        size
            Bytes more.
        most
            A limit of the user's own on them.
        """
        with self._sole():
            if size > _lower(self._look().now, most).size:
                return False
            self._write(self.reserved + size)
            return True

    def give_back(self, size: int) -> None:
        """Reserve so many bytes less, down to none.

        Parameters
        ----------
        size
            Bytes.
        """
        with self._sole():
            self._write(max(0, self.reserved - size))

    def note_taken(self) -> None:
        """Publish how much has been taken, after it was; only if that is more than before."""
        taken = self._gpu.taken()
        if taken > self._taken and self._descriptor >= 0:
            self._taken = taken
            os.pwrite(self._descriptor, _NUMBERS.pack(self.reserved, taken), 0)

    @contextmanager
    def freeing(self) -> Iterator[None]:
        """Free memory in the block: nobody counts on it before it is done."""
        with self._sole():
            self._taken = 0
            self._write(self.reserved)
            yield
            self._taken = self._gpu.taken()
            self._write(self.reserved)

    def close(self) -> None:
        """Release everything."""
        with self._threads:
            self.reserved = 0
            self._path.unlink(missing_ok=True)
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def available(self) -> AvailableMemory:
        """Return what can be reserved now."""
        with self._sole():
            return self._look()

    # What is done while nobody else decides

    @contextmanager
    def _sole(self) -> Iterator[None]:
        with self._threads:
            descriptor = self._open_mutex()
            try:
                file_lock.lock(descriptor)
                yield
            finally:
                os.close(descriptor)

    def _open_mutex(self) -> int:
        """Open the file that is locked; another user's can be opened, but not with the flag that makes it."""
        while True:
            try:
                return os.open(self._mutex, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.close(_made(self._mutex))

    def _look(self) -> AvailableMemory:
        others = list(filter(None, map(self._read, self._folder.glob(self._pattern))))
        # after what the others have taken: that never grows before it is gone from here
        free = self._gpu.free()
        mine = self._gpu.taken()
        promised = sum(max(0, reserved - taken) for reserved, taken in others)
        alone = free + mine - self.reserved + sum(taken for _, taken in others)
        return AvailableMemory(
            now=free + mine - self.reserved - promised,
            alone=min(alone, self._gpu.total),
            others=len(others),
        )

    def _read(self, path: Path) -> tuple[int, int] | None:
        """Return the numbers of another process; None for one that is gone, whose file is removed."""
        if path == self._path or not self._file.fullmatch(path.name):
            return None
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # just removed
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            if file_lock.is_held(descriptor):
                read = os.pread(descriptor, _NUMBERS.size, 0)
                found = _NUMBERS.unpack(read) if len(read) == _NUMBERS.size else (0, 0)
                reserved, taken = (min(max(0, number), self._gpu.total) for number in found)
                return reserved, taken
            with suppress(OSError):  # another user's
                path.unlink()
            return None
        finally:
            os.close(descriptor)

    def _write(self, reserved: int) -> None:
        if self._descriptor < 0:
            self._descriptor = _made(self._path)
            file_lock.lock(self._descriptor)
        self.reserved = reserved
        os.pwrite(self._descriptor, _NUMBERS.pack(reserved, self._taken), 0)


def _made(path: Path) -> int:
    """Open a new file that every user may read."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    os.fchmod(descriptor, 0o644)  # whatever the umask
    return descriptor


_WAITING = "waiting for GPU memory: %s are needed, %s are free and not reserved; %d other stages work there"


def _lower(now: int, most: MemoryLimit | None) -> MemoryLimit:
    free = MemoryLimit(now, "the GPU's memory that is free and not reserved by other stages")
    return free if most is None or free.size <= most.size else most


def _waited(size: int, available: AvailableMemory, seconds: float) -> str:
    return (
        f"waited {seconds:.0f} s for GPU memory: {in_words(size)} are needed, "
        f"{in_words(max(0, available.now))} are free and not reserved by the {available.others} other stages "
        f"there; let fewer stages run at a time, or give them more time"
    )
