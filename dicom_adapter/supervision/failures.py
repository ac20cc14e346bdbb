"""What is said of an error: whose fault it is, and where it came from, without what somebody sent."""

from __future__ import annotations

import sqlite3
import traceback
from pathlib import Path
from types import TracebackType

from stages.errors import StageError, printable

_LONGEST_REASON = 300
_PACKAGES = Path(__file__).resolve().parents[2]


class UnforeseenError(Exception):
    """Stands for an error in a log: its kind without its message, which may quote what somebody sent."""


def is_resource_error(error: BaseException) -> bool:
    """Return whether an error is one of the disk, the memory or the database, whatever is worked on.

    Parameters
    ----------
    error
        The error.
    """
    if isinstance(error, (sqlite3.OperationalError, sqlite3.InternalError)):
        return True
    if isinstance(error, StageError):
        return False
    return isinstance(error, (OSError, MemoryError)) or type(error) is sqlite3.DatabaseError


def reason_of(error: BaseException) -> str:
    """Return in one line why something failed, without the message of an error that nobody foresaw.

    Parameters
    ----------
    error
        The error.
    """
    if isinstance(error, StageError) or is_resource_error(error):
        return printable(f"{error}" or type(error).__name__)[:_LONGEST_REASON]
    frames = traceback.extract_tb(error.__traceback__)
    ours = [each for each in frames if Path(each.filename).is_relative_to(_PACKAGES)] or frames
    place = f" in {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    return f"{type(error).__name__}{place}"


def traceback_of(error: BaseException) -> tuple[type[UnforeseenError], UnforeseenError, TracebackType | None]:
    """Return what `logging` takes as ``exc_info`` to log where an error came from, without its message.

    Parameters
    ----------
    error
        The error.
    """
    return UnforeseenError, UnforeseenError(type(error).__name__), error.__traceback__
