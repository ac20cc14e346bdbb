"""SHA-256 of files that are read again only when they may have changed."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from stages.errors import OutputError
from stages.lifecycle import locks, outputs
from stages.runtime import job_files

_WHOLE_S = 1_000_000_000
_FINE_TICK_S, _COARSE_TICK_S = 0.1, 2.1  # no file system's clock is coarser


class Digests:
    """The SHA-256 of each file by its path; call it with one.

    A file is not read again while its device, inode, size and both times are those that it had when it was
    last read. Nobody can set the second time (ctime): whatever is written to a file, or over it, changes it.
    A file that had changed so shortly before it was read that a later change could carry the same time is
    not remembered.

    Parameters
    ----------
    record
        The file that keeps them; one that cannot be read counts as empty.
    """

    def __init__(self, record: Path) -> None:
        self._record = record
        self._known = _read(record)
        self._asked: dict[str, list[object]] = {}

    def __call__(self, path: Path) -> str:
        """Return the SHA-256 of a file, in hexadecimal."""
        key, before = str(path.absolute()), _state(path)
        found = self._asked.get(key) or self._known.get(key)
        if found is not None and found[:-1] == before:
            self._asked[key] = found
            return str(found[-1])
        asked = time.time()
        digest = outputs.file_sha256(path)
        if before == _state(path) and asked - path.stat().st_ctime > _tick_s(path):
            self._asked[key] = [*before, digest]
        return digest

    def save(self) -> None:
        """Keep what was asked for; where it cannot be kept, it is read again the next time."""
        if all(self._known.get(path) == state for path, state in self._asked.items()):
            return
        others = {path: state for path, state in self._known.items() if Path(path).exists()}
        with suppress(OSError):
            self._record.parent.mkdir(parents=True, exist_ok=True)
        try:
            locks.publish(self._record, {**others, **self._asked}, durable=False)
        except OutputError:
            with suppress(OSError):
                self._record.unlink(missing_ok=True)


def _state(path: Path) -> list[object]:
    stat = path.stat()
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _tick_s(path: Path) -> float:
    """Return the longest in which two changes may carry the same time, seconds."""
    return _FINE_TICK_S if path.stat().st_ctime_ns % _WHOLE_S else _COARSE_TICK_S


def _read(record: Path) -> dict[str, list[object]]:
    try:
        known = job_files.read_object(record, follow=True)
    except job_files.JobFileError:
        return {}
    return {path: state for path, state in known.items() if isinstance(state, list) and state}
