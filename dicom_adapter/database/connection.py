"""The SQLite file: one connection, one writer at a time, and what is said when it cannot be used."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from dicom_adapter.database import set_aside
from dicom_adapter.database.faults import (
    DatabaseDamagedError,
    DatabaseUnusableError,
    as_fault,
    damaged,
    make_database,
)
from dicom_adapter.database.integrity import check_pages
from dicom_adapter.database.records import TRANSITIONS, DamagedRowError, StateError
from dicom_adapter.database.schema import migrate, require_current
from stages.lifecycle.locks import now

_BUSY_S = 30.0
_SHUTDOWN_WAIT_S = 2.0
_VISIBLE_S = 5.0
_LOOK_S = 1.0
_POLL_S = 0.02
_SHORT_MS = 100  # holds up our own readers
_WAL_BYTES = 64 << 20
_T = TypeVar("_T")


class ServiceClock:
    """How long the adapter has been in service, all its runs together.

    The database keeps the count from one run to the next. The time while the adapter was off, or the machine
    slept, is not counted: nothing is given up or removed for its age in a time in which nobody tried.

    Parameters
    ----------
    seconds
        The count so far.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._offset = seconds - time.monotonic()

    def __call__(self) -> float:
        """Return the seconds of service until now."""
        return time.monotonic() + self._offset


class Database:
    """The database; every method may be called by any thread.

    Parameters
    ----------
    file
        The SQLite file; made, for us and our group, if it is not there.
    busy_s
        How long a write waits while another process has locked the file, seconds.
    migrates
        Whether a database of an earlier release is brought forward; else it is refused.

    Attributes
    ----------
    clock
        Returns the seconds of service (`ServiceClock`).
    identity
        Made by chance once, when the database was.

    Raises
    ------
    SettingsError
        If a later release has written it, or an earlier one that it is not to be taken from.
    DatabaseUnusableError
        If it is locked, read only, or the disk is full.
    DatabaseDamagedError
        If it is no database, or damaged.
    """

    def __init__(self, file: Path, *, busy_s: float = _BUSY_S, migrates: bool = True) -> None:
        self._file, self._busy_s = file, busy_s
        self._lock = threading.RLock()
        self._waits_since: float | None = None
        self._fault, self._is_damaged, self._is_ending = "", False, False
        make_database(file)
        with self._faults():
            self._connection = _connect(file, busy_s)
        try:
            with self._faults():
                (migrate if migrates else require_current)(self._connection, file)
                seconds, self.identity = self._service()
                self._connection.execute(f"PRAGMA busy_timeout = {_SHORT_MS}")
            self._place = _place(file)
        except BaseException:
            self._connection.close()
            raise
        self.clock: Callable[[], float] = ServiceClock(seconds)

    @property
    def trouble(self) -> str:
        """Why nothing can be written down now; "" if it can, as far as is known."""
        since = self._waits_since
        if not self._fault and since is not None and time.monotonic() - since > _VISIBLE_S:
            return f"the database {self._file} is locked by another process; end that process"
        return self._fault

    def keep_time(self) -> None:
        """Write down the seconds of service until now, for the next start."""
        with self.transaction() as database:
            database.execute("UPDATE service SET seconds = MAX(seconds, ?)", (self.clock(),))

    def look(self) -> None:
        """Look for a second whether the file still holds what it should; `trouble` says so from then on.

        Raises
        ------
        DatabaseDamagedError
            If it does not.
        DatabaseUnusableError
            If it cannot be read.
        """
        with self._faults():
            self._require_same_file()
            check_pages(self._file, identity=self.identity, longest_s=_LOOK_S, lock_s=_LOOK_S)

    def begin_shutdown(self) -> None:
        """Wait no longer than two seconds for a lock from now on, since the adapter ends."""
        self._busy_s, self._is_ending = min(self._busy_s, _SHUTDOWN_WAIT_S), True

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _service(self) -> tuple[float, str]:
        """Return the seconds of service and the identity."""
        for row in self._rows("SELECT * FROM service"):
            if isinstance(row["seconds"], (int, float)) and isinstance(row["identity"], str):
                return float(row["seconds"]), row["identity"]
        raise damaged(self._file, "it does not say how long the adapter was in service")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do several things at once, or none of them.

        Raises
        ------
        DatabaseUnusableError
            If it cannot be written now; nothing of it is done then.
        DatabaseDamagedError
            If it is damaged, or was taken away.
        """
        with self._faults(), self._begun():
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        if not self._is_damaged:
            self._fault = ""

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Ask something; that another process has locked the file for writing keeps nobody waiting."""
        with self._faults(), self._lock:
            yield self._connection

    @contextmanager
    def _begun(self) -> Iterator[None]:
        """Hold the write lock; while another process has it, our own threads may read."""
        began = time.monotonic()
        while True:
            with self._lock:
                self._require_same_file()
                try:
                    self._connection.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or self._has_waited(began):
                        raise
                else:
                    self._waits_since = None
                    yield
                    return
            self._waits_since = self._waits_since or time.monotonic()
            time.sleep(_POLL_S)

    def _has_waited(self, began: float) -> bool:
        return time.monotonic() - began >= self._busy_s  # which `hurry` makes shorter

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Raise SQLite's errors as ours, which say what to do, and keep one as `trouble` until a write."""
        try:
            yield
        except sqlite3.Error as error:
            fault = as_fault(error, self._file)
            self._is_damaged |= isinstance(fault, DatabaseDamagedError)
            if isinstance(fault, DatabaseUnusableError):
                fault.is_final = self._is_ending
            if isinstance(fault, (DatabaseDamagedError, DatabaseUnusableError)):
                self._fault = str(fault)
            if fault is error:
                raise
            raise fault from error

    def _require_same_file(self) -> None:
        """Refuse to write into a file that somebody has removed or replaced: nothing of it would last."""
        if _place(self._file) != self._place:
            raise damaged(self._file, "it was removed or replaced while the adapter runs")

    # For the tables

    def _read(
        self, kind: set_aside.SetAsideKind, rows: Iterable[sqlite3.Row], make: Callable[[sqlite3.Row], _T]
    ) -> list[_T]:
        """Return rows as records; one that is damaged is set aside, and harms no other."""
        found = []
        for row in rows:
            try:
                found.append(make(row))
            except DamagedRowError as error:
                self._put_aside(kind, row["path" if kind == "instance" else "id"], str(error))
        return found

    def _put_aside(self, kind: set_aside.SetAsideKind, item: object, reason: str) -> None:
        with self._lock:
            is_within = self._connection.in_transaction
            with nullcontext(self._connection) if is_within else self.transaction() as database:
                set_aside.put(database, kind, item, reason=f"the row in the database is damaged: {reason}")

    def _whole(self, make: Callable[[sqlite3.Row], _T], row: sqlite3.Row) -> _T:
        try:
            return make(row)
        except DamagedRowError as error:
            raise StateError(f"the row in the database is damaged: {error}") from error

    def _move(
        self, database: sqlite3.Connection, table: str, key: str | int, state: str, **more: object
    ) -> None:
        before = [old for old, following in TRANSITIONS[table].items() if state in following]
        columns = {"state": state, **({} if table == "studies" else {"changed": now()}), **more}
        settings = ", ".join(f"{name} = ?" for name in columns)
        moved = database.execute(
            f"UPDATE {table} SET {settings} WHERE id = ? AND state IN ({marks(before)})",  # noqa: S608
            (*columns.values(), key, *before),
        )
        if not moved.rowcount:
            raise StateError(
                f"{key} of {table} cannot become {state}; only what is {' or '.join(before)} can"
            )

    def _rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        with self.reading() as database:
            return database.execute(query, values).fetchall()

    def _one(self, query: str, *values: object) -> sqlite3.Row:
        found = self._rows(query, *values)
        if not found:
            raise StateError(f"there is no {values} in the database")
        return found[0]


def _connect(file: Path, busy_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=busy_s)
    connection.row_factory = sqlite3.Row
    connection.text_factory = lambda raw: raw.decode(errors="backslashreplace")  # of damaged rows
    try:
        for pragma in (
            "journal_mode = WAL",
            f"journal_size_limit = {_WAL_BYTES}",
            "synchronous = FULL",
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def _place(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def marks(values: Iterable[Any]) -> str:
    """Return the placeholders of so many values in a statement.

    Parameters
    ----------
    values
        The values.
    """
    return ", ".join("?" for _ in values)
