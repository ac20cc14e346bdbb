"""Whether the program that runs is still the one that lies on disk."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path


class Sources:
    """The files of the modules that are imported now, without those that are installed as packages."""

    def __init__(self) -> None:
        installed = {*site.getsitepackages(), site.getusersitepackages(), *sysconfig.get_paths().values()}
        roots = tuple(str(Path(path).resolve()) + os.sep for path in installed)
        files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        own = sorted(file for file in files if file and not str(Path(file).resolve()).startswith(roots))
        self._seen = {file: _state(file) for file in own}

    def changed(self) -> str:
        """Return a file that is not as it was; "" if there is none."""
        return next((file for file, state in self._seen.items() if _state(file) != state), "")


def _state(file: str) -> tuple[int, int]:
    with suppress(OSError):
        found = os.stat(file)
        return found.st_mtime_ns, found.st_size
    return 0, 0
