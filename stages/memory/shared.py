"""Memory that this process shares with a server on the same host: files in ``/dev/shm``.

A region bears a name of its own, and the process that made it holds a lock on its file while it lives. So
whatever a crash leaves behind is told from what is in use, and swept up by the next that starts.
"""

from __future__ import annotations

import mmap
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from stages.runtime import file_lock

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where shm_open has its files

_PREFIX = "clara-windows-"
_NAME = re.compile(_PREFIX + r"[0-9a-f]{16}")
_UNLOCKED_FOR_S = 60.0  # longer, and nobody is between making a region and locking it


class Region:
    """Shared memory that exists until `close`, at the latest until this process ends and another sweeps.

    Parameters
    ----------
    size
        Bytes; they are reserved at once, so that writing to them cannot fail.
    folder
        Where the server looks for shared memory.

    Raises
    ------
    OSError
        If there is too little shared memory for it, or none.
    """

    def __init__(self, size: int, *, folder: Path = SHARED_MEMORY) -> None:
        self.name = f"{_PREFIX}{os.urandom(8).hex()}"
        self.size = size
        self._path = folder / self.name
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            file_lock.lock(self._descriptor)
            os.posix_fallocate(self._descriptor, 0, size)
            self._map = mmap.mmap(self._descriptor, size)
        except BaseException:
            self._remove()
            raise

    def array(self, shape: tuple[int, ...], dtype: Any, *, offset: int = 0) -> np.ndarray[Any, Any]:
        """Return a part of the region as an array; it must not be used after `close`.

        Parameters
        ----------
        shape
            Of the array.
        dtype
            Of its elements.
        offset
            Where it begins in the region, bytes.
        """
        count = int(np.prod(shape))
        return np.frombuffer(self._map, dtype, count, offset).reshape(shape)

    def close(self) -> None:
        """Remove the region; arrays that somebody still holds keep their memory until they are gone."""
        self._remove()
        with suppress(BufferError):
            self._map.close()

    def _remove(self) -> None:
        self._path.unlink(missing_ok=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def sweep(folder: Path = SHARED_MEMORY) -> list[str]:
    """Remove this user's regions whose process is gone, and return their names.

    Parameters
    ----------
    folder
        Where the regions' files are.
    """
    swept = []
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or just removed
            if _NAME.fullmatch(path.name):
                with file_lock.abandoned(path) as status:
                    if status is not None and not _is_new(status):
                        path.unlink()
                        swept.append(path.name)
    return swept


def _is_new(status: os.stat_result) -> bool:
    return status.st_size == 0 and time.time() - status.st_ctime < _UNLOCKED_FOR_S
