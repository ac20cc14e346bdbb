"""An archive with a model, unpacked within bounds: it is foreign, and may be made to fill a disk."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from stages.errors import InputError, printable

_MOST_FILES = 10_000
_MOST_TIMES = 20
"""How much larger what is in it may be: weights hardly compress."""

_FREE = 64 << 20  # bytes: what is small enough whatever its share, and what stays free on the disk
_OF_BUNDLES = ("configs", "models")
_CHUNK = 1 << 20


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip archive to unpack, by its name and content.

    Parameters
    ----------
    path
        The file.
    """
    return path.suffix.lower() == ".zip" and path.is_file() and zipfile.is_zipfile(path)


def unpack(path: Path, into: Path) -> Path:
    """Unpack an archive, and return the folder that it holds: its only one, or all of it.

    Parameters
    ----------
    path
        The archive.
    into
        An empty folder.

    Raises
    ------
    InputError
        If it is damaged, larger than it may be, or holds links or names that lead out of it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = list(_checked(archive, path, shutil.disk_usage(into).free))
            for entry in entries:
                _unpack(archive, entry, into)
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{printable(path)} is damaged, or no archive: {printable(str(error))}") from error
    top = sorted(into.iterdir())
    alone = len(top) == 1 and top[0].is_dir() and top[0].name not in _OF_BUNDLES
    return top[0] if alone else into


def _checked(archive: zipfile.ZipFile, path: Path, free: int) -> Iterator[zipfile.ZipInfo]:
    entries = archive.infolist()
    size, packed = sum(each.file_size for each in entries), sum(each.compress_size for each in entries)
    if len(entries) > _MOST_FILES or (size > _FREE and size > _MOST_TIMES * max(packed, 1)):
        raise InputError(
            f"{printable(path)} would unpack to {size} bytes in {len(entries)} files from {packed} bytes; a "
            f"model is "
            f"not like that, so it is refused"
        )
    if size + _FREE > free:
        raise InputError(f"{printable(path)} would unpack to {size} bytes, and there is room for {free}")
    for entry in entries:
        name = PurePosixPath(entry.filename)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if (
            name.is_absolute()
            or ".." in name.parts
            or "\\" in entry.filename
            or kind
            not in (
                0,
                stat.S_IFREG,
                stat.S_IFDIR,
            )
        ):
            raise InputError(
                f"{printable(path)} holds {printable(entry.filename)!r}, which leads out of it or is a link"
            )
        yield entry


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, into: Path) -> None:
    target = into / entry.filename
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    with archive.open(entry) as source, target.open("xb") as file:
        while left and (chunk := source.read(min(_CHUNK, left))):
            file.write(chunk)
            left -= len(chunk)


@contextmanager
def unpacked(path: Path, beside: Path) -> Iterator[Path]:
    """Yield a model's folder: an archive's content while it is needed, or the path itself.

    Parameters
    ----------
    path
        What the user has named.
    beside
        A folder for what is unpacked.
    """
    if not is_archive(path):
        yield path
        return
    into = beside / "unpacked" / path.stem
    into.mkdir(parents=True)
    try:
        yield unpack(path, into)
    finally:
        shutil.rmtree(into, ignore_errors=True)
