"""Folders that are there to stay."""

from __future__ import annotations

from pathlib import Path

from stages.runtime.atomic import sync_folder


def make_folder(folder: Path, above: Path, mode: int) -> None:
    """Make a folder and those that it lies in, whatever the umask, and sync the names of the new ones.

    Parameters
    ----------
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
