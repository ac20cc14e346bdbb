"""A file of lines that is only ever added to, each line with the SHA-256 of the one before.

What cannot be written waits in memory and follows later; a line that was cut off, by a full disk or a crash,
stays, is ended, and the line after it says so. At 64 MiB the file is given a number (``audit-0001.jsonl``)
and the chain goes on in a new one; no file is ever removed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_adapter.private_file import open_private
from stages.errors import OutputError
from stages.runtime import atomic

logger = logging.getLogger(__name__)

Message = Mapping[str, Any]

_BEGIN = "begin"
_MOST_WAITING = 10_000
_LARGEST = 64 << 20
_WINDOW = 1 << 16


class AuditChain:
    """The end of a chain; any thread may add to it.

    Parameters
    ----------
    file
        Where it lies; made, for us and our group, if it is not there.
    repaired
        Returns the message that says what has befallen the chain.
    largest
        At so many bytes another file is begun.

    Attributes
    ----------
    trouble
        Why it cannot be written now; "" if it can.

    Raises
    ------
    OutputError
        If the file cannot be opened.
    """

    def __init__(self, file: Path, *, repaired: Callable[[str], Message], largest: int = _LARGEST) -> None:
        self._file, self._repaired, self._largest = file, repaired, largest
        self._lock = threading.Lock()
        self._waiting: deque[Message] = deque()
        self._lost = 0
        self._previous, self._unended, self._notice = _BEGIN, b"", ""
        self.trouble = ""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = _open(file)
            self._resume()
        except OSError as error:
            raise OutputError(f"cannot write the audit trail {file}: {error.strerror}") from error
        self.flush()

    def append(self, message: Message) -> None:
        """Add a message; one that cannot be written goes to the log, and follows when it can be."""
        with self._lock:
            if len(self._waiting) >= _MOST_WAITING:
                self._lost += 1
            else:
                self._waiting.append(message)
            self._flush()
            if self.trouble:
                logger.error("%s; what it misses: %s", self.trouble, json.dumps(message))

    def flush(self) -> None:
        """Write what could not be written before."""
        with self._lock:
            if self.trouble or self._unended or self._notice:
                self._flush()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            os.close(self._descriptor)

    def _flush(self) -> None:
        try:
            self._keep_in_place()
            if self._notice or self._lost:
                notice = self._notice + (
                    f"; {self._lost} messages are in the log alone" if self._lost else ""
                )
                self._write(self._repaired(notice))
                self._notice, self._lost = "", 0
            while self._waiting:
                self._write(self._waiting[0])
                self._waiting.popleft()
            os.fsync(self._descriptor)
        except OSError as error:
            self.trouble = f"cannot write the audit trail {self._file}: {error.strerror}"
            self._notice = (
                self._notice or f"the trail could not be written ({error.strerror}); what follows is late"
            )
            return
        self.trouble = ""

    def _write(self, message: Message) -> None:
        """Add a line; what is there of one that did not fit is remembered."""
        self._end_line()
        line = json.dumps({"previous": self._previous, **message}, separators=(",", ":")).encode()
        left = line + b"\n"
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            self._unended = line[: len(line) + 1 - len(left)]
            if len(left) > 1 and self._unended:
                self._notice = f"the line before was cut off ({error.strerror}); it follows whole"
            if len(left) != 1:
                raise
        self._previous = _digest(line)

    def _end_line(self) -> None:
        if self._unended:
            os.write(self._descriptor, b"\n")
            self._previous, self._unended = _digest(self._unended), b""

    def _resume(self) -> None:
        """Find the digest of the last line, and whether a crash has left it in the middle."""
        last, is_ended = _last_line(self._descriptor)
        if last is None:
            before = numbered(self._file)
            self._previous = _last_digest(before[-1]) if before else _BEGIN
        elif is_ended:
            self._previous = _digest(last)
        else:
            self._unended = last
            if _previous_in(last) is None:
                self._notice = "the line before was cut off (the adapter ended in the middle of it)"

    def _keep_in_place(self) -> None:
        """Begin a new file where ours is large enough, or somebody has taken it away."""
        ours, there = os.fstat(self._descriptor), _stat(self._file)
        is_ours = there is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
        if is_ours and ours.st_size < self._largest:
            return
        if is_ours:
            before = numbered(self._file)
            number = 1 + (_number(before[-1]) if before else 0)
            atomic.rename(self._file, self._file.with_stem(f"{self._file.stem}-{number:04d}"))
        else:
            logger.warning("the audit trail %s was taken away; it goes on in a new file", self._file)
            self._notice = "the file of the trail was moved or removed; it goes on here"
            self._unended = b""
        descriptor = _open(self._file)
        os.close(self._descriptor)
        self._descriptor = descriptor


@dataclass(frozen=True, kw_only=True)
class ChainCheck:
    """What the lines of a chain say of it.

    Attributes
    ----------
    lines
        How many there are.
    cut
        ``FILE: line N`` of each line that was cut off, by a crash or a full disk.
    broken
        ``FILE: line N`` of the first line that does not follow the one before; "" if all do.
    is_whole
        Whether it begins with the first line ever, and not with what was kept of the files.
    """

    lines: int
    cut: tuple[str, ...]
    broken: str
    is_whole: bool


def check_chain(file: Path) -> ChainCheck:
    """Return whether every line follows the one before, in the numbered files and the last one.

    A line that was cut off is no message; it counts as a link of the chain like any other.
    """
    expected: str | None = None
    cut: list[str] = []
    lines, is_whole = 0, True
    for place, line in _lines([*numbered(file), *([file] if file.exists() else [])]):
        lines += 1
        previous = _previous_in(line)
        if previous is None:
            cut.append(place)
        elif expected is None:
            is_whole = previous == _BEGIN
        elif previous != expected:
            return ChainCheck(lines=lines, cut=tuple(cut), broken=place, is_whole=is_whole)
        expected = _digest(line)
    return ChainCheck(lines=lines, cut=tuple(cut), broken="", is_whole=is_whole)


def numbered(file: Path) -> list[Path]:
    """Return the files that a chain lay in before, the oldest first."""
    found = file.parent.glob(f"{file.stem}-[0-9][0-9][0-9][0-9]*{file.suffix}")
    return sorted((path for path in found if _number(path)), key=_number)


def _number(path: Path) -> int:
    text = path.stem.rpartition("-")[2]
    return int(text) if text.isdecimal() else 0


def _lines(files: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    for file in files:
        with file.open("rb") as source:
            for number, line in enumerate(source, 1):
                yield f"{file}: line {number}", line.rstrip(b"\n")


def _open(file: Path) -> int:
    descriptor = open_private(file, os.O_RDWR | os.O_APPEND)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file")
    return descriptor


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except FileNotFoundError:
        return None


def _last_line(descriptor: int) -> tuple[bytes | None, bool]:
    """Return the last line of a file without its end, None if there is none, and whether it has an end."""
    size = at = os.fstat(descriptor).st_size
    if not size:
        return None, True
    is_ended = os.pread(descriptor, 1, size - 1) == b"\n"
    end, found = size - is_ended, -1
    while at and found < 0:
        begin = max(0, at - _WINDOW)
        found = os.pread(descriptor, min(at, end) - begin, begin).rfind(b"\n")
        at = begin
    first = at + found + 1
    return os.pread(descriptor, end - first, first), is_ended


def _last_digest(file: Path) -> str:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _digest(_last_line(descriptor)[0] or b"")
    finally:
        os.close(descriptor)


def _previous_in(line: bytes) -> str | None:
    """Return what a line says of the one before; None if it is no whole message."""
    try:
        return str(json.loads(line)["previous"])
    except (ValueError, KeyError, TypeError):
        return None


def _digest(line: bytes) -> str:
    return hashlib.sha256(line.decode(errors="replace").encode()).hexdigest()
