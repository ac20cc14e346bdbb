"""A folder that is removed whole, and nothing that only appears in it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")


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
