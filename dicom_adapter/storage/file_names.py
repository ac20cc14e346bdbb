"""Names on the disk: folders that are there to stay, and a file's final name, which never replaces another.

References
----------
renameat2(2): ``RENAME_NOREPLACE``. Where a file system does not have it (NFS), a link does in two steps.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Any

from stages.lifecycle.locks import sync_folder

_AT_FDCWD, _NO_REPLACE = -100, 1
_NOT_THERE = (errno.EINVAL, errno.ENOSYS, errno.EPERM)


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


def name_file(file: Path, final: Path) -> None:
    """Give a file its final name.

    Raises
    ------
    FileExistsError
        If there is a file of this name; both stay as they are.
    OSError
        If it cannot be done.
    """
    if _rename is not None:
        if not _rename(_AT_FDCWD, os.fsencode(file), _AT_FDCWD, os.fsencode(final), _NO_REPLACE):
            return
        number = ctypes.get_errno()
        if number not in _NOT_THERE:
            raise OSError(number, os.strerror(number), str(file), None, str(final))
    os.link(file, final)
    file.unlink()


def _renameat2() -> Any:
    """Return the C library's function; None where it has none."""
    try:
        return ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None


_rename = _renameat2()
