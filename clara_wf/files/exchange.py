"""A folder takes another's place in one step: who looks sees the old one or the new, whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stages.runtime import atomic, file_lock


@contextmanager
def made_beside(repository: Path) -> Iterator[Path]:
    """Yield a folder on the repository's file system, outside it where that goes, and remove it afterwards.

    What a process that was killed has left there is removed first.

    Parameters
    ----------
    repository
        The model repository.
    """
    repository = repository.resolve()
    parent = repository.parent
    same = os.access(parent, os.W_OK) and parent.stat().st_dev == repository.stat().st_dev
    where, prefix = parent if same else repository, f".{repository.name}-being-added-"
    _remove_left_over(where, prefix)
    made, held = _held_folder(where, prefix)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(held)


def _held_folder(where: Path, prefix: str) -> tuple[Path, int]:
    """Make a folder that is held as long as a descriptor of it is open."""
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
        held = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
        file_lock.lock(held)
        if file_lock.is_at(held, made):  # another may have found it before it was held
            return made, held
        os.close(held)


def _remove_left_over(where: Path, prefix: str) -> None:
    """Remove folders that nobody holds, but for one in which an exchange ended half-way."""
    for found in [each for each in where.iterdir() if each.name.startswith(prefix)]:
        with suppress(OSError), file_lock.abandoned(found) as status:
            if status is not None and not any(found.glob("*.old")):
                shutil.rmtree(found, ignore_errors=True)


def put(made: Path, target: Path) -> None:
    """Rename a folder; what had its new name takes the other's place.

    Parameters
    ----------
    made, target
        The folder and the new name.
    """
    made.chmod(0o755)
    atomic.rename(made, target)
