"""Locks of files and folders between processes, by flock(2): whoever dies lets go.

A lock belongs to an open file: it lasts until that is closed, in this process and in every child that
inherited it. Who opens a file decides how (whether it may follow links, who may read it), so these functions
take descriptors. The library ``filelock`` does not serve here: it truncates what the holder has written, does
not lock folders or files that are mapped as memory, and cannot ask whether a lock is held without taking it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LONGEST_HOLDER = 4096  # bytes


def lock(descriptor: int) -> None:
    """Lock an open file or folder, and wait as long as another has it.

    Parameters
    ----------
    descriptor
        Of the open file or folder.

    Raises
    ------
    OSError
        If it cannot be locked.
    """
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def try_lock(descriptor: int) -> bool:
    """Lock an open file or folder if nobody has it, and return whether it is ours.

    Parameters
    ----------
    descriptor
        Of the open file or folder.

    Returns
    -------
    bool
        False if another has it.

    Raises
    ------
    OSError
        If it cannot be locked.
    """
    return _try(descriptor, fcntl.LOCK_EX)


def is_held(descriptor: int) -> bool:
    """Return whether another has the lock of an open file; two that ask do not disturb each other.

    If nobody has it, nobody takes it before the descriptor is closed.

    Parameters
    ----------
    descriptor
        Of the open file, which need not be open for writing.
    """
    return not _try(descriptor, fcntl.LOCK_SH)


def is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is the one of that name: a holder may have removed it before letting go.

    Parameters
    ----------
    descriptor
        Of the open file or folder.
    path
        Where it was opened.
    """
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


@contextmanager
def abandoned(path: Path) -> Iterator[os.stat_result | None]:
    """Yield the status of a file or folder of this user whose lock nobody has; None if it is in use.

    It is locked until the end of the block.

    Parameters
    ----------
    path
        A link is not followed.

    Raises
    ------
    OSError
        If it cannot be opened, such as one that has just been removed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        yield status if status.st_uid == os.geteuid() and try_lock(descriptor) else None
    finally:
        os.close(descriptor)


def holder(descriptor: int) -> str:
    """Return what the holder of a lock has written into its file; "" if nothing.

    Parameters
    ----------
    descriptor
        Of the open file.
    """
    with suppress(OSError):
        return os.pread(descriptor, _LONGEST_HOLDER, 0).decode(errors="replace").rstrip()
    return ""


def write_holder(descriptor: int, text: str) -> None:
    """Write into a file of which we have the lock who we are, for those who wait.

    Parameters
    ----------
    descriptor
        Of the open file.
    text
        A few words.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
