"""Whether a database is sound, asked at each start before anything is written into it."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from dicom_adapter.database.faults import DatabaseDamagedError, as_fault, damaged
from dicom_adapter.supervision.deadline import Deadline

logger = logging.getLogger(__name__)

_LONGEST_S = 20.0
_LOCK_S = 10.0
_STEPS = 10_000  # of SQLite's machine, between two looks at the time


def require_sound(
    file: Path, *, studies: Path, identity: str = "", longest_s: float = _LONGEST_S, lock_s: float = _LOCK_S
) -> None:
    """Return when a database is sound, or there is none and nothing was received yet.

    Parameters
    ----------
    file
        The SQLite file.
    studies
        The folder of received instances: where it has any, there was a database.
    identity
        Of the database that belongs here (`Store.identity`); "" if that is not known.
    longest_s
        How long to look at the pages of a large one, seconds; what was not looked at by then counts as sound.
    lock_s
        How long to wait while another process has locked it, seconds.

    Raises
    ------
    DatabaseDamagedError
        If it is damaged, or is not there although instances were received.
    DatabaseUnusableError
        If it is locked or cannot be read.
    """
    require_there(file, studies=studies)
    if file.exists() and not file.is_file():
        raise damaged(file, "it is no file")
    if _is_empty(file):
        return
    if not check_pages(file, identity=identity, longest_s=longest_s, lock_s=lock_s):
        logger.warning("the database was looked at for %g s and is sound so far", longest_s)


def check_pages(file: Path, *, identity: str, longest_s: float, lock_s: float) -> bool:
    """Return whether all pages were looked at in the time, and are sound; by a connection of its own.

    Parameters
    ----------
    file, identity
        The file of the database and what tells the database from all others.
    longest_s
        Longest time that this may take, seconds.
    lock_s
        Longest wait for a locked database, seconds.

    Raises
    ------
    DatabaseDamagedError
        If some are damaged, or of another database.
    DatabaseUnusableError
        If it is locked or cannot be read.
    """
    try:
        with closing(_opened(file, lock_s)) as database:
            _require_ours(database, file, identity)
            return _check(database, file, Deadline(longest_s))
    except sqlite3.Error as error:
        raise as_fault(error, file) from error


def require_there(file: Path, *, studies: Path) -> None:
    """Return when there is a database, or nothing was received yet.

    Parameters
    ----------
    file, studies
        The file of the database and the folder of what was received.

    Raises
    ------
    DatabaseDamagedError
        If it is gone, or empty, and instances were received.
    """
    if _is_empty(file) and any(studies.glob("*/*/*")):
        what = "it is empty" if file.exists() else "it is gone"
        raise damaged(file, f"{what}, and instances that were received lie in {studies}")


def lacks_log(file: Path) -> bool:
    """Return whether a database is there without the write-ahead log that an open one has beside it."""
    return file.exists() and not file.with_name(f"{file.name}-wal").exists()


def _is_empty(file: Path) -> bool:
    """Return whether there is no content, in the file or in the log of a run that was killed at its start."""
    return not any(
        each.exists() and each.stat().st_size for each in (file, file.with_name(f"{file.name}-wal"))
    )


def _opened(file: Path, lock_s: float) -> sqlite3.Connection:
    """Open it for reading, which leaves file and write-ahead log as they are, also when it is closed."""
    address = f"file:{quote(str(file.absolute()))}?mode=ro"
    return sqlite3.connect(address, uri=True, isolation_level=None, timeout=lock_s)


def _require_ours(database: sqlite3.Connection, file: Path, identity: str) -> None:
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema")}
    found = database.execute("SELECT identity FROM service").fetchone()[0] if "service" in tables else ""
    if identity and found != identity:
        raise damaged(file, "it, or the write-ahead log beside it, belongs to another storage")


def _check(database: sqlite3.Connection, file: Path, deadline: Deadline) -> bool:
    database.set_progress_handler(deadline.is_over, _STEPS)
    try:
        for pragma in ("quick_check(1)", "foreign_key_check"):
            wrong = [row for row in database.execute(f"PRAGMA {pragma}") if row != ("ok",)]
            if wrong:
                raise damaged(file, _summary(wrong))
    except DatabaseDamagedError:
        raise
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return False
    return True


def _summary(wrong: list[tuple[object, ...]]) -> str:
    first = wrong[0]
    if len(first) == 1:
        return str(first[0]).splitlines()[-1]
    return f"{len(wrong)} rows point at others that are not there, the first in {first[0]}"
