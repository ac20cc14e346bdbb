"""Files, links and folders that others see whole or not at all.

What is made gets another name in the same folder, is synced to disk if it must outlive a power cut, and is
renamed; a rename is seen by everybody at once, and is on disk when the folder is synced.

References
----------
rename(2), renameat2(2), fsync(2). ``RENAME_NOREPLACE`` and ``RENAME_EXCHANGE`` are of Linux; where a file
system does not have them (NFS), a link and two renames do nearly the same.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

UNFINISHED = ".*.tmp"
"""A pattern of the names of what a process that was killed has left unfinished."""

_AT_FDCWD, _NO_REPLACE, _EXCHANGE = -100, 1, 2  # linux/fs.h
_NOT_THERE = (errno.EINVAL, errno.ENOSYS, errno.EPERM)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def writing(path: Path, *, mode: int = 0o644, durable: bool = True) -> Iterator[BinaryIO]:
    """Yield a file to write, which gets its name when the block has ended well and is removed otherwise.

    What has the name is replaced, also a link. Until the end of the block the file is found under its `name`.

    Parameters
    ----------
    path
        The name that the file gets.
    mode
        Its permissions, less what the umask takes.
    durable
        Whether file and name are on disk at the end of the block.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with open(str(beside), "wb", opener=lambda name, _: os.open(name, _NEW, mode)) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def write(path: Path, content: bytes | str, *, mode: int = 0o644, durable: bool = True) -> None:
    """Write a file, a text in UTF-8; see `writing`.

    Parameters
    ----------
    path
        Its name.
    content
        What it holds.
    mode
        Its permissions, less what the umask takes.
    durable
        Whether file and name are on disk when this returns.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with writing(path, mode=mode, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill, which gets its name when the block has ended well and is removed otherwise.

    If another process has been faster, its folder stays. Nothing is synced: what is made this way can be made
    again.

    Parameters
    ----------
    path
        The name that the folder gets.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    made = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    made.mkdir(parents=True)
    try:
        yield made
        with suppress(FileExistsError):
            rename_new(made, path)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def rename(made: Path, path: Path, *, durable: bool = True) -> None:
    """Rename a file, a link or a folder that is whole; what has the name is replaced, a folder as a whole.

    Parameters
    ----------
    made
        On the same file system as `path`.
    path
        The name that it gets.
    durable
        Whether the name is on disk when this returns; what was made is synced by whoever made it.

    Raises
    ------
    OSError
        If it cannot be renamed.
    """
    if made.is_dir() and not made.is_symlink() and path.is_dir() and not path.is_symlink():
        exchange(made, path)
        shutil.rmtree(made, ignore_errors=True)
    else:
        made.replace(path)
    if durable:
        sync_folder(path.parent)


def rename_new(made: Path, path: Path) -> None:
    """Rename a file or a folder unless the name is taken; nothing is synced.

    Parameters
    ----------
    made
        On the same file system as `path`.
    path
        The name that it gets.

    Raises
    ------
    FileExistsError
        If the name is taken; both stay as they are.
    OSError
        If it cannot be renamed.
    """
    number = _renamed(made, path, _NO_REPLACE)
    if not number:
        return
    if number not in _NOT_THERE:
        raise OSError(number, os.strerror(number), str(made), None, str(path))
    if made.is_dir():
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(made), None, str(path))
        made.rename(path)
    else:
        os.link(made, path)
        made.unlink()


def exchange(one: Path, other: Path) -> None:
    """Exchange two folders in one step where the system can, else in three.

    Parameters
    ----------
    one, other
        Folders of the same file system. After a crash half-way `other` lies beside `one`, as ``<one>.old``.

    Raises
    ------
    OSError
        If it cannot be done; they are as they were.
    """
    if not _renamed(one, other, _EXCHANGE):
        return
    aside = one.with_name(f"{one.name}.old")
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise
    aside.rename(one)


def sync_folder(folder: Path) -> None:
    """Sync the entries of a folder to disk.

    Parameters
    ----------
    folder
        The folder; what lies deeper is not synced.

    Raises
    ------
    OSError
        If it cannot be synced.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Sync every file below a folder, then every folder.

    Parameters
    ----------
    folder
        The uppermost folder, which is synced as the last.

    Raises
    ------
    OSError
        If something cannot be synced.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    for path in (*(each for each in folder.rglob("*") if each.is_dir()), folder):
        sync_folder(path)


def _renamed(made: Path, path: Path, flags: int) -> int:
    """Return 0 after a rename, or the number of the error."""
    if _renameat2 is None:
        return errno.ENOSYS
    failed = _renameat2(_AT_FDCWD, os.fsencode(made), _AT_FDCWD, os.fsencode(path), flags)
    return ctypes.get_errno() if failed else 0


def _found_renameat2() -> Any:
    """Return the C library's function; None where it has none."""
    try:
        return ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None


_renameat2 = _found_renameat2()
