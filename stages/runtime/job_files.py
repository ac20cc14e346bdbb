"""The files of a job, which anybody in it may have made: never followed, never waited for, never read whole.

What stands where a file of a job belongs (a lock, a failure, a heartbeat, a log, a record) is a regular file
or it is refused: a link could lead out of the job, a FIFO or a device never ends, a second name of a file
elsewhere would have that file overwritten. How much is read is bounded by the reader, not by the file.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from stages.errors import InputError, OutputError, printable
from stages.runtime import atomic

LARGEST_RECORD = 32 << 20
"""Bytes of the largest JSON that is read, such as the lock of a stage with a hundred thousand outputs."""

_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class JobFileError(InputError):
    """Where a file of a job belongs stands something else, or a file that is too large."""


def is_there(path: Path) -> bool:
    """Return whether a file of a job is there.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    JobFileError
        If what is there is no regular file.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise _no_file(path, found.st_mode)
    return True


def open_to_read(path: Path, *, follow: bool = False) -> BinaryIO | None:
    """Open a file of a job; None if there is none.

    Parameters
    ----------
    path
        The file.
    follow
        Whether a link may lead to it, as where people put files together by hand.

    Raises
    ------
    JobFileError
        If what is there is no regular file, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | (_SAFE & ~os.O_NOFOLLOW if follow else _SAFE))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    return os.fdopen(_regular(descriptor, path), "rb")


def read(path: Path, *, most_bytes: int = LARGEST_RECORD, follow: bool = False) -> bytes | None:
    """Return what a file of a job holds; None if there is none.

    Parameters
    ----------
    path
        The file.
    most_bytes
        Size of the largest file that is read.
    follow
        Whether a link may lead to it.

    Raises
    ------
    JobFileError
        If what is there is no regular file, cannot be read, or is larger.
    """
    file = open_to_read(path, follow=follow)
    if file is None:
        return None
    with file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(most_bytes + 1) if size <= most_bytes else b""
    if max(size, len(content)) > most_bytes:
        raise JobFileError(f"{printable(path)} has {size} bytes; it may have {most_bytes} at most: remove it")
    return content


def read_end(path: Path, most_bytes: int) -> bytes:
    """Return the last bytes of a file of a job; none if it is not there.

    Parameters
    ----------
    path
        The file.
    most_bytes
        How many bytes from its end; a shorter file is read whole.

    Raises
    ------
    JobFileError
        If what is there is no regular file, or cannot be read.
    """
    file = open_to_read(path)
    if file is None:
        return b""
    with file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - most_bytes))
        return file.read(most_bytes)


def last_lines(log: Path, most_bytes: int = 64 << 10) -> Sequence[str]:
    """Return the lines at the end of a log; none if it is not there, or one that says why it is not read.

    Parameters
    ----------
    log
        The file.
    most_bytes
        How much of it is looked at.
    """
    try:
        return read_end(log, most_bytes).decode("utf-8", errors="backslashreplace").splitlines()
    except JobFileError as error:
        return [str(error)]


def parsed(content: bytes) -> Any:
    """Return what a JSON text says.

    Parameters
    ----------
    content
        The text, as bytes in UTF-8.

    Raises
    ------
    ValueError
        If it is no JSON in UTF-8, nested too deeply, says one thing twice, or holds what is no number.
    """
    try:
        return json.loads(
            content.decode("utf-8"), object_pairs_hook=_each_once, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_object(path: Path, *, most_bytes: int = LARGEST_RECORD, follow: bool = False) -> dict[str, Any]:
    """Return the JSON object that a file of a job holds; an empty one if it is not there or holds none.

    Parameters
    ----------
    path
        The file.
    most_bytes
        Size of the largest file that is read.
    follow
        Whether a link may lead to it.

    Raises
    ------
    JobFileError
        If what is there is no regular file, cannot be read, or is larger.
    """
    content = read(path, most_bytes=most_bytes, follow=follow)
    with suppress(ValueError):
        found = parsed(content or b"")
        return found if isinstance(found, dict) else {}
    return {}


def open_to_append(path: Path) -> BinaryIO:
    """Open a log of a job, made if it is not there, to write at its end.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    JobFileError
        If what is there is no regular file, or has another name elsewhere.
    OSError
        If it cannot be written.
    """
    return os.fdopen(_own(path, os.O_WRONLY | os.O_APPEND), "ab")


def open_own(path: Path) -> int:
    """Return a descriptor of a file of our own, made if it is not there, to read and write.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    JobFileError
        If what is there is no regular file, or has another name elsewhere.
    OSError
        If it cannot be written.
    """
    return _own(path, os.O_RDWR)


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file of a job so that others see all of it or nothing; a link that stands there is replaced.

    Parameters
    ----------
    path
        The file; its folder is there.
    content
        All that it holds then.
    durable
        Whether it is on disk when this returns.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    try:
        atomic.write(path, content, durable=durable)
    except OSError as error:
        raise OutputError(f"cannot publish {printable(path)}: {error}") from error


def remove(path: Path) -> None:
    """Remove a file of a job, or the link in its place, if it is there.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    OutputError
        If it cannot be removed, such as a folder.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        what = _kind(path.lstat().st_mode) if os.path.lexists(path) else "gone"
        raise OutputError(
            f"cannot remove {printable(path)}, which is {what}: {error.strerror}; remove it by hand"
        ) from error


def make_folder(folder: Path) -> None:
    """Make a folder of a job unless it is there.

    Parameters
    ----------
    folder
        The folder; those above it are made as well.

    Raises
    ------
    OutputError
        If it cannot be made, or something else stands there, such as a link to another folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = folder.lstat().st_mode
    except OSError as error:
        stands = f" (there is {_kind(folder.lstat().st_mode)})" if os.path.lexists(folder) else ""
        raise OutputError(f"cannot make the folder {printable(folder)}{stands}: {error.strerror}") from error
    if not stat.S_ISDIR(found):
        raise OutputError(
            f"{printable(folder)} is {_kind(found)}; a folder of the job belongs there: remove it"
        )


def _own(path: Path, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | os.O_CREAT | _SAFE, 0o644)
    except OSError as error:
        if os.path.lexists(path) and not stat.S_ISREG(mode := path.lstat().st_mode):
            raise _no_file(path, mode) from error
        raise
    if os.fstat(_regular(descriptor, path)).st_nlink > 1:
        os.close(descriptor)
        raise JobFileError(
            f"{printable(path)} has another name elsewhere, which would be overwritten with it: remove it"
        )
    return descriptor


def _regular(descriptor: int, path: Path) -> int:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise _no_file(path, mode)


def _unreadable(path: Path, error: OSError) -> JobFileError:
    with suppress(OSError):
        if not stat.S_ISREG(mode := path.lstat().st_mode):
            return _no_file(path, mode)
    return JobFileError(f"cannot read {printable(path)}: {error.strerror}")


def _no_file(path: Path, mode: int) -> JobFileError:
    return JobFileError(f"{printable(path)} is {_kind(mode)}; a regular file is expected there: remove it")


def _kind(mode: int) -> str:
    return next((name for is_so, name in _KINDS if is_so(mode)), "a file")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
