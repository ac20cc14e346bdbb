"""The log of a container: one line an event, UTC, to standard error and, if asked, to a file.

Entry points configure it; everybody shows foreign text, such as the names of files, as `printable` has it.
"""

from __future__ import annotations

import logging
import sys
import time
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from stages.errors import SettingsError, printable
from stages.runtime import job_files

__all__ = ["configure", "printable"]

_FORMAT = "%(asctime)sZ %(levelname)s %(name)s: %(message)s"


class _PrintableFormatter(logging.Formatter):
    """The last guard: whatever a message was made of, it is one line without control characters."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name it has in logging
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def configure(log_file: Path | None = None, *, level: int = logging.INFO) -> None:
    """Send the log of this process to standard error and to `log_file`.

    The file is left out when standard error already leads there.

    Parameters
    ----------
    log_file
        A file that gets each line as well, made with its folder; None for none.
    level
        The lowest level that is logged, as `logging` counts them.

    Raises
    ------
    SettingsError
        If the file cannot be opened for appending.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if log_file is not None and not _is_stderr(log_file):
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(_LogFile(log_file))
        except (OSError, job_files.JobFileError) as error:
            raise SettingsError(f"cannot write the log to {log_file}: {error}") from error
    formatter = _PrintableFormatter(_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=handlers, force=True)
    for library in ("highdicom", "pydicom", "PIL", "numba", "h5py"):
        logging.getLogger(library).setLevel(logging.WARNING)


class _LogFile(logging.FileHandler):
    """A log file of a job; what lies in /dev, such as /dev/stdout, is the machine's and may be anything."""

    def _open(self) -> TextIOWrapper:
        if Path(self.baseFilename).is_relative_to("/dev"):
            return super()._open()
        return TextIOWrapper(job_files.open_to_append(Path(self.baseFilename)), encoding="utf-8")


def _is_stderr(log_file: Path) -> bool:
    try:
        return log_file.exists() and log_file.samefile(f"/dev/fd/{sys.stderr.fileno()}")
    except (OSError, ValueError):
        return False
