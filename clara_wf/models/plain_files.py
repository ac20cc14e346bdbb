"""What a model's folder consists of: plain files of its own, and nothing that leads out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from clara_wf.models.config_references import require_own_paths
from clara_wf.models.repository import TRUSTED
from stages.errors import InputError, printable
from stages.runtime import job_files

_MOST_FILES, _DEEPEST = 10_000, 16
_MARGIN = 64 << 20
_CHUNK = 1 << 20


def require_plain(folder: Path, *, room_bytes: int | None = None) -> None:
    """Look at what a model's folder consists of, without following anything.

    Parameters
    ----------
    folder
        The model's folder.
    room_bytes
        How much the repository has place for; None if it lies there already, where its files may have other
        names too.

    Raises
    ------
    InputError
        If it holds something else than files and folders and links among them, a file that has a name outside
        as well, a path in its configuration that leads elsewhere, or more than there is room for.
    """
    size = 0
    for count, path in enumerate(entries(folder), 1):
        if count > _MOST_FILES:
            raise InputError(
                f"{printable(folder)} has more than {_MOST_FILES} files; is it a model's folder?"
            )
        size += _plain_size(path, folder, is_ours=room_bytes is None)
        if room_bytes is not None and size > room_bytes - _MARGIN:
            raise InputError(
                f"{printable(folder)} has more than {size} bytes up to {printable(path.relative_to(folder))}"
                f", and the repository has room for {room_bytes}"
            )
    require_own_paths(folder)


def plain_file(path: Path) -> Path:
    """Return the path of a file that lies where it says, under this name alone.

    Raises
    ------
    InputError
        If it is a link, no regular file, has another name, or is not there.
    """
    try:
        _plain_size(path, path.parent, may_link=False)
    except FileNotFoundError:
        raise InputError(f"{printable(path)} is not there") from None
    return path


def copy_plain(source: Path, target: Path, folder: Path) -> None:
    """Copy a file or folder of a model; what it consists of is looked at once more.

    Parameters
    ----------
    source, target
        What is copied and where it is copied to.
    folder
        The model's, out of which no link may lead.

    Raises
    ------
    InputError
        If something has changed since it was looked at.
    """
    _plain_size(source, folder)
    if source.is_dir():
        target.mkdir()
        for entry in sorted(source.iterdir()):
            copy_plain(entry, target / entry.name, folder)
        return
    file = job_files.open_to_read(source.resolve())
    if file is None:
        raise InputError(f"{printable(source)} has gone meanwhile")
    with file, target.open("xb") as copy:
        while chunk := file.read(_CHUNK):
            copy.write(chunk)


def entries(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Yield all below a folder but what is hidden at its top, which is not added.

    Parameters
    ----------
    folder
        The folder.
    depth
        How many folders deep it may go.
    """
    if depth > _DEEPEST:
        raise InputError(f"{printable(folder)} lies more than {_DEEPEST} folders deep; is it a model's?")
    for path in sorted(folder.iterdir()):
        if depth == 0 and (path.name == TRUSTED or path.name.startswith(".")):
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from entries(path, depth + 1)


def _plain_size(path: Path, folder: Path, *, may_link: bool = True, is_ours: bool = False) -> int:
    """Return the size of a file, 0 for a folder; refuse what is neither, or leads out of a model's folder."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        target = Path(os.path.realpath(path))
        if not may_link or not target.is_relative_to(folder.resolve()) or not target.is_file():
            raise InputError(
                f"{printable(path)} is a symbolic link to {printable(os.readlink(path))}, which is no file "
                f"of this folder; nothing outside is read: put the file itself there"
            )
        return target.lstat().st_size
    if stat.S_ISDIR(found.st_mode):
        return 0
    if not stat.S_ISREG(found.st_mode):
        job_files.is_there(path)  # which says what it is
    if found.st_nlink > 1 and not is_ours:
        raise InputError(
            f"{printable(path)} is a hard link: the file has another name as well, by which it may change; "
            f"put a copy there (cp -r --no-preserve=links)"
        )
    return found.st_size
