"""Folders: made to stay, synced once for all who wait, and removed whole."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from stages.runtime.atomic import sync_folder

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def make_folder(folder: Path, above: Path, mode: int) -> None:
    """Make a folder and those that it lies in, whatever the umask, and sync the names of the new ones.

    Parameters
    ----------
    folder
        The folder.
    above
        Is there already.
    mode
        Of each that is made.

    Raises
    ------
    OSError
        If one cannot be made.
    """
    missing = []
    for each in (folder, *folder.parents):
        if each == above or each.is_dir():
            break
        missing.append(each)
    for each in reversed(missing):
        try:
            each.mkdir()
            each.chmod(mode)
        except FileExistsError:
            if not each.is_dir():
                raise
    for each in (folder, *folder.parents):
        if each == above:
            break
        sync_folder(each.parent)


@dataclass
class _Folder:
    busy: threading.Lock = field(default_factory=threading.Lock)
    asked: int = 0
    done: int = 0


class FolderSync:
    """Syncs folders; who asks while one is synced shares the next sync with all others who ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: dict[Path, _Folder] = defaultdict(_Folder)

    def sync(self, path: Path) -> None:
        """Return when all names that were in a folder before this call are on disk.

        Raises
        ------
        OSError
            If they cannot be.
        """
        with self._lock:
            folder = self._folders[path]
            folder.asked += 1
            mine = folder.asked
        with folder.busy:
            if folder.done >= mine:
                return
            with self._lock:
                asked = folder.asked
            _sync(path)
            folder.done = asked

    def forget(self, path: Path) -> None:
        """Forget a folder that nobody writes into any more."""
        with self._lock:
            self._folders.pop(path, None)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it; one that is not there is fine.

    Raises
    ------
    OSError
        If something of it cannot be removed. Nothing is touched where the folder is a symbolic link, or
        something is mounted on it or in it: what is there may be somebody else's.
    """
    if folder.is_symlink():
        raise OSError(f"{folder} is a symbolic link; remove it, and what it leads to, by hand")
    if mounted := mounts_in(folder):
        raise OSError(f"something is mounted on {mounted[0]}; unmount it")
    if folder.exists():
        shutil.rmtree(folder)


def mounts_in(folder: Path, *, mounts: Path = _MOUNTS) -> list[Path]:
    """Return what is a mount point of a folder and those in it, as far as the system tells.

    Parameters
    ----------
    folder
        The folder.
    mounts
        The table of this process, see proc(5).
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    whole = folder.resolve()
    points = (Path(_ESCAPE.sub(lambda found: chr(int(found[1], 8)), line.split(" ")[4])) for line in lines)
    return [point for point in points if point == whole or whole in point.parents]
