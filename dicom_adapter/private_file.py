"""Files that only we and our group may read, whatever the umask."""

from __future__ import annotations

import os
from pathlib import Path

_MODE = 0o640


def open_private(file: Path, flags: int) -> int:
    """Open a file, made for us and our group if it is not there; one that is there keeps its permissions.

    Parameters
    ----------
    file
        The file.
    flags
        As for `os.open`.

    Returns
    -------
    int
        A descriptor, which children do not inherit.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    flags |= os.O_CLOEXEC
    try:
        return os.open(file, flags)
    except FileNotFoundError:
        descriptor = os.open(file, flags | os.O_CREAT, _MODE)
    os.fchmod(descriptor, _MODE)
    return descriptor
