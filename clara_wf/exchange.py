"""A folder takes another's place in one step: who looks sees the old one or the new, whole."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages import locks

_AT_THE_WORKING_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux


@contextmanager
def made_beside(repository: Path) -> Iterator[Path]:
    """Give a folder on the repository's file system, outside it where that goes, and remove it afterwards."""
    repository = repository.resolve()
    parent = repository.parent
    same = os.access(parent, os.W_OK) and parent.stat().st_dev == repository.stat().st_dev
    made = Path(tempfile.mkdtemp(prefix=f".{repository.name}-", dir=parent if same else repository))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def put(made: Path, target: Path) -> None:
    """Give a folder its name; what had it takes the other's place."""
    made.chmod(0o755)
    if target.exists():
        exchange(made, target)
    else:
        made.rename(target)
    locks.sync_folder(target.parent)


def exchange(one: Path, other: Path) -> None:
    """Exchange two folders in one step where the system can, else in two."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here = _AT_THE_WORKING_FOLDER
    if rename and rename(here, bytes(one), here, bytes(other), _EXCHANGE) == 0:
        return
    aside = one.with_name(f"{one.name}.old")
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise
