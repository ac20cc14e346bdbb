"""The folder for temporary files that each job gets: it goes with the job, or with the next host's start."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from stages.runtime import file_lock

_PREFIX = "clara-job-"
_UNLOCKED_FOR_S = 60.0  # longer, and nobody is between making a folder and locking it


class TemporaryFolder:
    """A new folder whose lock this process and the job's have until it is removed or both have ended.

    Attributes
    ----------
    path
        The folder.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        file_lock.lock(self._descriptor)

    def let_go(self) -> None:
        """Close it, in a process that was forked for another job."""
        os.close(self._descriptor)

    def remove(self) -> None:
        """Remove it with all that lies in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._descriptor)


def sweep() -> None:
    """Remove this user's folders whose processes are gone: patients' data may lie in them."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError), file_lock.abandoned(path) as status:  # another user's, or just removed
            if status is not None and not _is_new(path, status):
                shutil.rmtree(path, ignore_errors=True)


def _is_new(path: Path, status: os.stat_result) -> bool:
    return time.time() - status.st_ctime < _UNLOCKED_FOR_S and not any(path.iterdir())
