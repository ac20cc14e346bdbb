"""One JSON object a line: time, level, logger, message, and the job and study hash that it is about.

Whatever this process says goes through here: its own records, warnings, exceptions that nobody caught, and
what a library prints. No line holds a whole DICOM UID, a value of a data set, or a character that a terminal
obeys, and none is longer than 16 KiB. A log that nobody reads does not stop the adapter: what finds no place
is left out, and how much that was is logged when there is place again.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import select
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import PurePath
from types import TracebackType
from typing import Any, TextIO

from clara_wf.report.logs import without_uids
from stages.errors import printable

LONGEST_LINE = 16 << 10
"""Bytes."""

_ABOUT = ("job", "study")
_DICOM_LIBRARIES = ("pydicom", "pynetdicom")
_LIBRARIES = (*_DICOM_LIBRARIES, "urllib3")
_VALUE = re.compile(r"['\"]|: ")
_PIPE = 4096  # bytes that a pipe takes whole as soon as it takes any (pipe(7), PIPE_BUF)
_PATIENCE_MS = 100
_STANDARD_OUTPUT, _STANDARD_ERROR = 1, 2
_LONGEST_CHAIN = 10


class JsonFormatter(logging.Formatter):
    """Formats records for log collectors; DICOM UIDs are shortened, whoever has put one into a message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line.

        Parameters
        ----------
        record
            What was logged.
        """
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        fields |= {name: printable(str(vars(record)[name])) for name in _ABOUT if name in vars(record)}
        if record.exc_info and record.exc_info[1]:
            fields["traceback"] = _traceback(record.exc_info[1])
        return _bounded(fields)


class PatientHandler(logging.Handler):
    """Writes lines to a file descriptor, and leaves out those that it does not take in time.

    Parameters
    ----------
    descriptor
        Such as 2: a pipe, a file or a terminal.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self._descriptor = descriptor
        self._rest = b""  # of a line that was written in part
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count that it was left out.

        Parameters
        ----------
        record
            What was logged.
        """
        try:
            line = self.format(record).encode(errors="backslashreplace") + b"\n"
        except Exception:  # such as a message that does not go with its arguments
            line = _line("a record of the log could not be written", level="ERROR")
        if not self._write(self._rest, 0 if self._left_out else _PATIENCE_MS):
            self._left_out += 1
            return
        if self._left_out:
            lost = _line(f"{self._left_out} lines of the log were left out, since nobody took them")
            self._left_out = 0
            line = lost + line
        self._write(line, _PATIENCE_MS)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name it has in logging
        """Do nothing: there is no other place to tell it.

        Parameters
        ----------
        record
            What was logged.
        """

    def _write(self, content: bytes, patience_ms: int) -> bool:
        """Write as much as is taken in time, keep the rest for later, and return whether there is none."""
        while content and _takes(self._descriptor, patience_ms):
            try:
                content = content[os.write(self._descriptor, content[:_PIPE]) :]
            except OSError:
                break  # closed, or its disk is full
        self._rest = content
        return not content


class _Printed(io.TextIOBase):
    """What stands in for a stream: each line that somebody prints becomes a record."""

    def __init__(self, name: str, descriptor: int, level: int) -> None:
        self._name, self._descriptor, self._level = name, descriptor, level
        self._parts = threading.local()

    def write(self, text: str) -> int:
        *lines, rest = (getattr(self._parts, "rest", "") + text).split("\n")
        self._parts.rest = rest[:LONGEST_LINE]
        for line in filter(str.strip, lines):
            logging.getLogger(self._name).log(self._level, "%s", line)
        return len(text)

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True


def configure(level: int = logging.INFO) -> None:
    """Have all that this process says written to standard error, one JSON object a line.

    Parameters
    ----------
    level
        The least that is logged; of the libraries below, warnings.
    """
    _keep_standard_descriptors()
    logging.basicConfig(level=level, handlers=[PatientHandler(_STANDARD_ERROR)], force=True)
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)
    warnings.showwarning = _warned
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable
    sys.stdout = _Printed("stdout", _STANDARD_OUTPUT, logging.INFO)
    sys.stderr = _Printed("stderr", _STANDARD_ERROR, logging.ERROR)


def _keep_standard_descriptors() -> None:
    """Take the numbers of standard streams that are closed, lest a file or connection gets them."""
    for number in (0, _STANDARD_OUTPUT, _STANDARD_ERROR):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)


# Lines


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.name.partition(".")[0] in _DICOM_LIBRARIES:
        text = _without_values(text)
    return printable(without_uids(text))


def _without_values(text: str) -> str:
    """Return what a DICOM library says up to the first value: it quotes names and birth dates as well."""
    said, found, _ = text.partition(match[0]) if (match := _VALUE.search(text)) else (text, "", "")
    return f"{said.rstrip()} …" if found else said


def _traceback(error: BaseException) -> str:
    """Return a traceback without UIDs; where a DICOM library has a part in it, without any message."""
    text = "".join(traceback.format_exception(error))
    if any(f"{os.sep}{library}{os.sep}" in text for library in _DICOM_LIBRARIES):
        text = "".join(map(_without_message, _chain(error)))
    return "\n".join(printable(without_uids(line)) for line in text.rstrip().split("\n"))


def _chain(error: BaseException) -> list[BaseException]:
    """Return the errors that led to one, the first one first."""
    chain = [error]
    while len(chain) < _LONGEST_CHAIN and (before := chain[0].__cause__ or chain[0].__context__):
        chain.insert(0, before)
    return chain


def _without_message(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"Traceback (most recent call last):\n{frames}{type(error).__qualname__}: …\n"


def _bounded(fields: dict[str, object]) -> str:
    """Return a line that is short enough: the middle of what is too long is left out."""
    most = LONGEST_LINE
    while len((line := json.dumps(fields, ensure_ascii=False)).encode(errors="replace")) >= LONGEST_LINE:
        most //= 2
        fields = {name: _shortened(value, most) for name, value in fields.items()}
    return line


def _shortened(value: object, most: int) -> object:
    if not isinstance(value, str) or len(value) <= most:
        return value
    half = most // 2
    return f"{value[:half]} … {len(value) - 2 * half} characters … {value[-half:]}"


def _line(message: str, *, level: str = "WARNING") -> bytes:
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": time, "level": level, "logger": __name__, "message": message}).encode() + b"\n"


def _takes(descriptor: int, patience_ms: int) -> bool:
    with suppress(OSError, ValueError):
        waiting = select.poll()
        waiting.register(descriptor, select.POLLOUT)
        return any(event & select.POLLOUT for _, event in waiting.poll(patience_ms))
    return False


# What nobody has caught


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    where = PurePath(filename)
    library = next((name for name in _DICOM_LIBRARIES if name in where.parts), "py")
    logger = logging.getLogger(f"{library}.warnings")
    text = _without_values(str(message)) if library in _DICOM_LIBRARIES else str(message)
    logger.warning("%s at %s line %d, %s", category.__name__, where.name, lineno, text)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger(__name__).critical("an error that nobody caught", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: Any) -> None:
    if not isinstance(args.exc_value, Exception):  # such as a thread that ends itself
        return
    name = args.thread.name if args.thread else "a thread"
    logging.getLogger(__name__).critical(
        "an error that nobody caught in %s",
        name,
        exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
    )


def _unraisable(args: Any) -> None:
    error = args.exc_value or args.exc_type()
    logging.getLogger(__name__).error(
        "%s",
        args.err_msg or "an error that could not be raised",
        exc_info=(type(error), error, args.exc_traceback),
    )
