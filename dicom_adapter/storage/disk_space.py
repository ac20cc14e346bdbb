"""Space on the disk: how much of it must stay free, and what is said where there is none."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from stages.errors import OutputError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class DiskFullError(OutputError):
    """The disk has no space for what came."""


def require_space(folder: Path, size: int, minimum_free: int) -> None:
    """Refuse what would leave less than a minimum free, in bytes.

    Parameters
    ----------
    folder
        The folder.
    size
        What is to be written, bytes.
    minimum_free
        What has to be left, bytes.

    Raises
    ------
    DiskFullError
        If there is not enough space.
    """
    free = shutil.disk_usage(folder).free
    if free - size < minimum_free:
        raise DiskFullError(f"{free >> 20} MiB are free, and {minimum_free >> 20} MiB must stay so")


def write_error(error: OSError) -> OutputError:
    """Return the error of an instance that cannot be written."""
    kind = DiskFullError if error.errno in _NO_SPACE else OutputError
    return kind(f"an instance cannot be kept: {error.strerror or type(error).__name__}")
