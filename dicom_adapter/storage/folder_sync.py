"""One fsync of a folder for all who wait for one."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path


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
