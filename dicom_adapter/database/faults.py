"""What can be wrong with the database, each with one sentence and what to do."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from dicom_adapter.private_file import open_private
from stages.errors import InputError, OutputError

HOW_TO = "see docs/how-to/damaged-database.md: `clara-wf adapter rebuild` makes a new one and keeps this one"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_UNUSABLE = {
    sqlite3.SQLITE_BUSY: "another process has locked it; end that process, nothing is lost meanwhile",
    sqlite3.SQLITE_LOCKED: "another process has locked it; end that process, nothing is lost meanwhile",
    sqlite3.SQLITE_FULL: "the disk is full; free some space, nothing is lost meanwhile",
    sqlite3.SQLITE_READONLY: "it is read only; let the adapter's user write the file and its folder",
    sqlite3.SQLITE_PERM: "its permissions do not allow it; let the adapter's user write the file",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; let the adapter's user write the file and its folder",
    sqlite3.SQLITE_IOERR: "the disk failed (or a limit on the size of files is reached); look at the disk",
}


class DatabaseUnusableError(OutputError, sqlite3.OperationalError):
    """The database cannot be used now: locked, read only, the disk full; it can be when that is repaired.

    Attributes
    ----------
    is_final
        Whether nobody may try again, since the adapter ends.
    """

    is_final = False


class DatabaseDamagedError(InputError, sqlite3.OperationalError):
    """The database does not hold what it should, and waiting does not help."""


def as_fault(error: sqlite3.Error, file: Path) -> sqlite3.Error:
    """Return an error of SQLite as one that says what to do; an error of ours stays as it is.

    Parameters
    ----------
    error, file
        The error and the file of the database.
    """
    if isinstance(error, (DatabaseUnusableError, DatabaseDamagedError)):
        return error
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if code in _DAMAGED:
        return damaged(file, str(error))
    if code in _UNUSABLE:
        return DatabaseUnusableError(f"the database {file} cannot be used ({error}): {_UNUSABLE[code]}")
    return error


def damaged(file: Path, what: str) -> DatabaseDamagedError:
    """Return the error of a database that is damaged.

    Parameters
    ----------
    file
        The file of the database.
    what
        What was found.
    """
    return DatabaseDamagedError(f"the database {file} is damaged ({what}); {HOW_TO}")


def make_database(file: Path) -> None:
    """Make an empty file that only we and our group may read; leave one that is there.

    Raises
    ------
    DatabaseUnusableError
        If it cannot be made.
    """
    if file.exists():
        return
    try:
        os.close(open_private(file, os.O_RDWR))
    except OSError as error:
        raise DatabaseUnusableError(f"the database {file} cannot be made: {error.strerror}") from error
