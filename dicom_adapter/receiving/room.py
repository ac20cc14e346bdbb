"""Room on the disk, and what is put there while it comes because memory is no place for it."""

from __future__ import annotations

import errno
import mmap
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from stages.errors import OutputError

_CHECK_EVERY = 1 << 26
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class FullError(OutputError):
    """There is no room for what came."""


def require_room(folder: Path, size: int, minimum_free: int) -> None:
    """Refuse what would leave less than a minimum free, in bytes.

    Raises
    ------
    FullError
        If there is no room.
    """
    free = shutil.disk_usage(folder).free
    if free - size < minimum_free:
        raise FullError(f"{free >> 20} MiB are free, and {minimum_free >> 20} MiB must stay so")


def cannot_keep(error: OSError) -> OutputError:
    """Return the error of an instance that cannot be written."""
    kind = FullError if error.errno in _NO_ROOM else OutputError
    return kind(f"an instance cannot be kept: {error.strerror}")


class Overflow:
    """Bytes in a file without a name, which is gone when this is closed, or the process dies.

    Parameters
    ----------
    folder
        Where the file takes its room.
    minimum_free
        Bytes of the disk that must stay free.

    Raises
    ------
    OutputError
        If there can be no such file; `FullError` where the reason is the room.
    """

    def __init__(self, folder: Path, minimum_free: int) -> None:
        self._folder, self._minimum_free = folder, minimum_free
        self._written = self._checked = 0
        self._open = ExitStack()
        try:
            file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - `close` does
        except OSError as error:
            raise cannot_keep(error) from error
        self._file = self._open.enter_context(file)

    def write(self, piece: memoryview) -> None:
        """Add bytes.

        Raises
        ------
        OutputError
            If they cannot be written; `FullError` where the reason is the room.
        """
        if self._written >= self._checked:
            require_room(self._folder, 0, self._minimum_free)
            self._checked = self._written + _CHECK_EVERY
        try:
            while piece:
                done = self._file.write(piece) or 0
                self._written, piece = self._written + done, piece[done:]
        except OSError as error:
            raise cannot_keep(error) from error

    def view(self) -> memoryview:
        """Return all of it, valid until this is closed; nothing may be added then."""
        mapped = self._open.enter_context(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))
        return self._open.enter_context(memoryview(mapped))

    def close(self) -> None:
        """Give the room back."""
        self._open.close()
