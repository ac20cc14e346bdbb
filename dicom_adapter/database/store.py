"""The adapter's books: which instances came, which jobs were made of them, and what was delivered.

One SQLite file (write-ahead log, synced at each commit), one connection, one writer at a time. Files are the
truth about instances: one is acknowledged when its file and folder are synced, written into the books after
that, and taken up from the folder at the next start if that never happened. About jobs and deliveries the
books are the truth: each is written down before anything is done about it, its ID is the same when it is made
again, and doing it twice changes nothing.

Which state may follow which stands in `dicom_adapter.database.records`.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from dicom_adapter.config.blocks import WorkflowRule
from dicom_adapter.database import set_aside
from dicom_adapter.database.faults import (
    DatabaseDamagedError,
    DatabaseUnusableError,
    as_fault,
    damaged,
    make_database,
)
from dicom_adapter.database.integrity import check_pages
from dicom_adapter.database.records import (
    DELIVERY_MOVES,
    JOB_MOVES,
    STUDY_MOVES,
    Delivery,
    Job,
    Received,
    Study,
)
from dicom_adapter.database.rows import DamagedRowError, delivery_of, job_of, received_of, study_of
from dicom_adapter.database.schema import migrate, require_current
from dicom_adapter.database.service_clock import ServiceClock
from stages.errors import SettingsError
from stages.lifecycle.locks import now

_BUSY_S = 30.0
_HURRY_S = 2.0
_VISIBLE_S = 5.0
_LOOK_S = 1.0
_POLL_S = 0.02
_MOST_DUE = 1000
_SHORT_MS = 100  # holds up our own readers
_WAL_BYTES = 64 << 20
_LONGEST_CODE, _LONGEST_DESCRIPTION = 16, 64  # PS3.5 6.2, CS and LO
_T = TypeVar("_T")
_STUDY = """
SELECT s.*, COUNT(i.path) AS instances, COALESCE(SUM(i.conflict), 0) AS conflicts
FROM studies s LEFT JOIN instances i ON i.study_id = s.id
"""
_IS_FINISHED = """
(EXISTS (SELECT 1 FROM jobs j WHERE j.study_id = studies.id AND j.state = 'done') AND NOT EXISTS (
    SELECT 1 FROM jobs j WHERE j.study_id = studies.id AND j.state != 'superseded' AND (
        j.state != 'done' OR NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.job_id = j.id)
        OR EXISTS (SELECT 1 FROM deliveries d WHERE d.job_id = j.id
            AND d.state NOT IN ('delivered', 'unchanged', 'cancelled')))))
"""
MOVES: Mapping[str, Mapping[str, frozenset[str]]] = {
    "studies": STUDY_MOVES,
    "jobs": JOB_MOVES,
    "deliveries": DELIVERY_MOVES,
}


class StateError(SettingsError):
    """Something is not in a state that what was asked for may follow."""


class Store:
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
        with self.transaction() as books:
            books.execute("UPDATE service SET seconds = MAX(seconds, ?)", (self.clock(),))

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

    def hurry(self) -> None:
        """Wait no longer than two seconds for a lock from now on, since the adapter ends."""
        self._busy_s, self._is_ending = min(self._busy_s, _HURRY_S), True

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
        """Say of an error of SQLite what to do, and remember it until something is written again."""
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

    # Studies and instances

    def add_instances(self, received: Iterable[Received]) -> None:
        """Write down instances; those that are known already change nothing.

        A study that was complete, or removed, is being received again.
        """
        with self.transaction() as books:
            for each in received:
                study = self._study_id(books, each)
                told = each.modality[:_LONGEST_CODE], each.series_description[:_LONGEST_DESCRIPTION]
                values = (str(each.path), study, each.sop_instance_uid, each.sop_class_uid, *told)
                more = (each.size, each.conflict, now())
                added = books.execute(
                    "INSERT OR IGNORE INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, *more)
                )
                if added.rowcount and not each.conflict:
                    books.execute(
                        "UPDATE studies SET state = 'receiving', received = ?, ended_s = NULL WHERE id = ?",
                        (now(), study),
                    )

    def knows(self, path: Path) -> bool:
        """Tell whether a file is in the books."""
        return bool(self._rows("SELECT 1 FROM instances WHERE path = ?", str(path)))

    def studies(self, *states: str, most: int = -1) -> list[Study]:
        """Return the studies in some states, or all, the latest first, or only so many of the latest."""
        which = f"WHERE s.state IN ({_marks(states)})" if states else ""
        query = f"{_STUDY} {which} GROUP BY s.id ORDER BY s.id DESC LIMIT ?"
        return self._read("study", self._rows(query, *states, most), study_of)

    def study(self, study_id: int) -> Study:
        """Return a study.

        Raises
        ------
        StateError
            If there is none of this ID, or its row is damaged.
        """
        return self._whole(study_of, self._one(f"{_STUDY} WHERE s.id = ? GROUP BY s.id", study_id))

    def instances(self, study_id: int) -> list[Received]:
        """Return the instances of a study, those in conflict with another one left out."""
        rows = self._rows(
            "SELECT i.*, s.ae_title, s.study_uid FROM instances i JOIN studies s ON s.id = i.study_id "
            "WHERE i.study_id = ? AND NOT i.conflict ORDER BY i.sop_instance_uid",
            study_id,
        )
        return self._read("instance", rows, received_of)

    def hold(self, study_id: int) -> None:
        """Let late instances wait for somebody."""
        with self.transaction() as books:
            self._move(books, "studies", study_id, "held")

    def complete(self, study_id: int, rules: Sequence[WorkflowRule], *, supersede: bool = False) -> list[Job]:
        """Say that a study is complete, and make a job for each rule, all or none.

        Parameters
        ----------
        supersede
            The jobs that were made of it before, and what they have not delivered, are given up.
        """
        with self.transaction() as books:
            study = self.study(study_id)
            self._move(books, "studies", study_id, "complete")
            books.execute("UPDATE studies SET generation = generation + 1 WHERE id = ?", (study_id,))
            if supersede:
                self._supersede(books, study_id)
            made = [job_id_of(study, rule, study.generation + 1) for rule in rules]
            for job, rule in zip(made, rules, strict=True):
                books.execute(
                    "INSERT OR IGNORE INTO jobs (id, study_id, rule, workflow, destinations, generation, "
                    "state, created, changed) VALUES (?, ?, ?, ?, ?, ?, 'queued', ?, ?)",
                    (
                        *(job, study_id, rule.name, rule.workflow, json.dumps(rule.destination_name)),
                        *(study.generation + 1, now(), now()),
                    ),
                )
        return [self.job(job) for job in made]

    def finished_studies(self, age_s: float) -> list[Study]:
        """Return complete studies whose every job is done and delivered, and has been for some time.

        A study that no job was made of, or whose results go nowhere, is none of them.

        Parameters
        ----------
        age_s
            How long, in seconds of service since the first call that has found a study so.
        """
        with self.transaction() as books:
            books.execute(
                f"UPDATE studies SET ended_s = NULL WHERE state = 'complete' AND ended_s NOTNULL "  # noqa: S608
                f"AND NOT {_IS_FINISHED}"
            )
            books.execute(
                f"UPDATE studies SET ended_s = ? WHERE state = 'complete' AND ended_s ISNULL "  # noqa: S608
                f"AND {_IS_FINISHED}",
                (self.clock(),),
            )
        query = f"{_STUDY} WHERE s.state = 'complete' AND s.ended_s <= ? GROUP BY s.id"
        return self._read("study", self._rows(query, self.clock() - age_s), study_of)

    # Jobs

    def jobs(self, *states: str, study_id: int | None = None, most: int = -1) -> list[Job]:
        """Return the jobs in some states, or all, the oldest first, or only so many of the latest."""
        wanted = [f"state IN ({_marks(states)})"] * bool(states) + ["study_id = ?"] * (study_id is not None)
        which = f"WHERE {' AND '.join(wanted)}" if wanted else ""
        values = [*states, *([] if study_id is None else [study_id])]
        query = f"SELECT * FROM jobs {which} ORDER BY rowid DESC LIMIT ?"  # noqa: S608
        return self._read("job", self._rows(query, *values, most)[::-1], job_of)

    def job(self, job_id: str) -> Job:
        """Return a job.

        Raises
        ------
        StateError
            If there is none of this ID, or its row is damaged.
        """
        return self._whole(job_of, self._one("SELECT * FROM jobs WHERE id = ?", job_id))

    def start_next(self, at: float) -> Job | None:
        """Take the oldest job that may start, which is running then; damaged ones are set aside.

        Parameters
        ----------
        at
            Seconds of service.
        """
        not_aside = set_aside.PASSED_OVER.format(id="id", kind="job")
        with self.transaction() as books:
            while found := self._rows(
                f"SELECT * FROM jobs WHERE state = 'queued' AND not_before <= ? AND {not_aside} "  # noqa: S608
                "ORDER BY rowid LIMIT 1",
                at,
            ):
                if next_jobs := self._read("job", found, job_of):
                    self._move(books, "jobs", next_jobs[0].id, "running")
                    books.execute("UPDATE jobs SET tries = tries + 1 WHERE id = ?", (next_jobs[0].id,))
                    return self.job(next_jobs[0].id)
        return None

    def retry(self, job_id: str, *, exit_code: int | None, reason: str, not_before: float) -> None:
        """Let a job that failed start again later."""
        with self.transaction() as books:
            self._move(
                books, "jobs", job_id, "queued", exit_code=exit_code, reason=reason, not_before=not_before
            )

    def interrupt(self, job_id: str) -> None:
        """Let a job that was stopped, or ran when we ended, start again; that is no try."""
        with self.transaction() as books:
            self._move(books, "jobs", job_id, "queued", not_before=0)
            books.execute("UPDATE jobs SET tries = MAX(tries - 1, 0) WHERE id = ?", (job_id,))

    def bury(self, job_id: str, *, exit_code: int | None, reason: str) -> None:
        """Make a job that failed a dead letter."""
        with self.transaction() as books:
            self._move(books, "jobs", job_id, "dead", exit_code=exit_code, reason=reason)

    def replay(self, job_id: str) -> None:
        """Let a dead letter start again, and what could not be delivered of it.

        Raises
        ------
        StateError
            If it is no dead letter, and none of its deliveries is one.
        """
        with self.transaction() as books:
            dead = [each for each in self.deliveries("dead", job_id=job_id)]
            for each in dead:
                anew = {"tries": 0, "refusals": 0, "not_before": 0, "since_s": self.clock()}
                self._move(books, "deliveries", each.id, "waiting", **anew)
            if not dead or self.job(job_id).state == "dead":
                self._move(books, "jobs", job_id, "queued", tries=0, not_before=0)

    def finish(
        self, job_id: str, results: Mapping[str, Path], *, contents: Mapping[str, str] | None = None
    ) -> tuple[int, int]:
        """Say that a job is done, and that its results are to be delivered.

        What a destination has, or gets, of an earlier job of the same study is not sent to it again.

        Parameters
        ----------
        results
            File of each SOPInstanceUID.
        contents
            Hash of what each of them says, dates and times left out; what has none is sent.

        Returns
        -------
        tuple of int
            How many are not sent to a destination since it has the same, and how many are although it has
            other content under the same SOPInstanceUID.
        """
        unchanged = other = 0
        with self.transaction() as books:
            self._move(books, "jobs", job_id, "done", exit_code=0, reason="")
            for destination in self.job(job_id).destinations:
                for uid, path in results.items():
                    content = (contents or {}).get(uid, "")
                    there = _contents_there(books, job_id, destination, uid)
                    is_unchanged = bool(content) and content in there
                    unchanged += is_unchanged
                    other += bool(there) and not is_unchanged
                    state = "unchanged" if is_unchanged else "waiting"
                    books.execute(
                        "INSERT OR IGNORE INTO deliveries (job_id, destination, sop_instance_uid, path, "
                        "state, created, changed, content, since_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (*(job_id, destination, uid, str(path), state, now(), now(), content), self.clock()),
                    )
        return unchanged, other

    # Deliveries

    def deliveries(
        self, *states: str, destination: str | None = None, job_id: str | None = None
    ) -> list[Delivery]:
        """Return deliveries, the oldest first."""
        wanted = [f"state IN ({_marks(states)})"] * bool(states)
        values: list[object] = [*states]
        for name, value in (("destination", destination), ("job_id", job_id)):
            if value is not None:
                wanted.append(f"{name} = ?")
                values.append(value)
        which = f"WHERE {' AND '.join(wanted)}" if wanted else ""
        rows = self._rows(f"SELECT * FROM deliveries {which} ORDER BY id", *values)  # noqa: S608
        return self._read("delivery", rows, delivery_of)

    def due(self, destination: str, at: float, *, most: int = _MOST_DUE) -> list[Delivery]:
        """Return what may be sent to a destination now, in order, but only so many at once.

        Parameters
        ----------
        at
            Seconds of service.
        """
        not_aside = set_aside.PASSED_OVER.format(id="id", kind="delivery")
        rows = self._rows(
            f"SELECT * FROM deliveries WHERE destination = ? AND {not_aside} "  # noqa: S608
            "AND state = 'waiting' AND not_before <= ? ORDER BY not_before, id LIMIT ?",
            *(destination, at, most),
        )
        return self._read("delivery", rows, delivery_of)

    def to_commit(self, destination: str, at: float) -> list[Delivery]:
        """Return what a destination is to be asked to commit itself to, of jobs that it has all of.

        Parameters
        ----------
        at
            Seconds of service.
        """
        not_aside = set_aside.PASSED_OVER.format(id="d.id", kind="delivery")
        rows = self._rows(
            f"SELECT * FROM deliveries d WHERE destination = ? AND {not_aside} "  # noqa: S608
            "AND state = 'uncommitted' AND not_before <= ? "
            "AND NOT EXISTS (SELECT 1 FROM deliveries w WHERE w.job_id = d.job_id "
            "AND w.destination = d.destination AND w.state = 'waiting') ORDER BY id",
            *(destination, at),
        )
        return self._read("delivery", rows, delivery_of)

    def move_delivery(self, delivery_id: int, state: str, **more: object) -> None:
        """Change the state of a delivery, and other columns, such as its tries."""
        with self.transaction() as books:
            self._move(books, "deliveries", delivery_id, state, **more)

    def set_damaged_aside(self) -> None:
        """Set aside what is in no state that anything works on, which would be passed over in silence."""
        makers: Mapping[set_aside.Kind, tuple[str, Callable[[sqlite3.Row], object]]] = {
            "study": (_STUDY + " WHERE s.state NOT IN ({}) GROUP BY s.id", study_of),
            "job": ("SELECT * FROM jobs WHERE state NOT IN ({})", job_of),
            "delivery": ("SELECT * FROM deliveries WHERE state NOT IN ({})", delivery_of),
        }
        for (kind, (query, make)), moves in zip(makers.items(), MOVES.values(), strict=True):
            self._read(kind, self._rows(query.format(_marks(moves)), *moves), make)

    # Within

    def _read(
        self, kind: set_aside.Kind, rows: Iterable[sqlite3.Row], make: Callable[[sqlite3.Row], _T]
    ) -> list[_T]:
        """Return rows as records; one that is damaged is set aside, and harms no other."""
        found = []
        for row in rows:
            try:
                found.append(make(row))
            except DamagedRowError as error:
                self._put_aside(kind, row["path" if kind == "instance" else "id"], str(error))
        return found

    def _put_aside(self, kind: set_aside.Kind, item: object, reason: str) -> None:
        with self._lock:
            is_within = self._connection.in_transaction
            with nullcontext(self._connection) if is_within else self.transaction() as books:
                set_aside.put(books, kind, item, reason=f"the row in the database is damaged: {reason}")

    def _whole(self, make: Callable[[sqlite3.Row], _T], row: sqlite3.Row) -> _T:
        try:
            return make(row)
        except DamagedRowError as error:
            raise StateError(f"the row in the database is damaged: {error}") from error

    def _study_id(self, books: sqlite3.Connection, received: Received) -> int:
        key = received.ae_title, received.study_uid
        books.execute(
            "INSERT OR IGNORE INTO studies (ae_title, study_uid, state, received) "
            "VALUES (?, ?, 'receiving', ?)",
            (*key, now()),
        )
        found = books.execute("SELECT id FROM studies WHERE ae_title = ? AND study_uid = ?", key).fetchone()
        return int(found["id"])

    def _supersede(self, books: sqlite3.Connection, study_id: int) -> None:
        for job in self.jobs("queued", "running", "done", "dead", study_id=study_id):
            for each in self.deliveries("waiting", "uncommitted", "dead", job_id=job.id):
                self._move(books, "deliveries", each.id, "cancelled")
            self._move(books, "jobs", job.id, "superseded")
        for number in _left_without(books, study_id):
            self._move(books, "deliveries", number, "waiting", not_before=0, since_s=self.clock())

    def _move(
        self, books: sqlite3.Connection, table: str, key: str | int, state: str, **more: object
    ) -> None:
        before = [old for old, following in MOVES[table].items() if state in following]
        columns = {"state": state, **({} if table == "studies" else {"changed": now()}), **more}
        settings = ", ".join(f"{name} = ?" for name in columns)
        moved = books.execute(
            f"UPDATE {table} SET {settings} WHERE id = ? AND state IN ({_marks(before)})",  # noqa: S608
            (*columns.values(), key, *before),
        )
        if not moved.rowcount:
            raise StateError(
                f"{key} of {table} cannot become {state}; only what is {' or '.join(before)} can"
            )

    def _rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        with self.reading() as books:
            return books.execute(query, values).fetchall()

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


def forget_contents(books: sqlite3.Connection, study_id: int) -> None:
    """Let results of a study that is removed, and comes again, be delivered again."""
    books.execute(
        "UPDATE deliveries SET content = '' WHERE job_id IN (SELECT id FROM jobs WHERE study_id = ?)",
        (study_id,),
    )


def _contents_there(books: sqlite3.Connection, job_id: str, destination: str, uid: str) -> set[str]:
    """Return what a destination has, or gets, under a SOPInstanceUID of other jobs of the same study."""
    rows = books.execute(
        "SELECT d.content FROM deliveries d "
        "JOIN jobs j ON j.id = d.job_id JOIN studies s ON s.id = j.study_id "
        "WHERE d.sop_instance_uid = ? AND d.destination = ? AND d.job_id != ? AND d.content != '' "
        "AND d.state IN ('waiting', 'uncommitted', 'delivered') AND s.study_uid = "
        "(SELECT s.study_uid FROM jobs j JOIN studies s ON s.id = j.study_id WHERE j.id = ?)",
        (uid, destination, job_id, job_id),
    )
    return {str(row["content"]) for row in rows}


def _left_without(books: sqlite3.Connection, study_id: int) -> list[int]:
    """Return what other jobs have not sent since those of a study would send the same, which was cancelled.

    They are of the same study under another AE title; of several that made the same it is the first.
    """
    rows = books.execute(
        "SELECT MIN(u.id) AS id FROM deliveries c JOIN jobs cj ON cj.id = c.job_id "
        "JOIN deliveries u ON u.sop_instance_uid = c.sop_instance_uid AND u.destination = c.destination "
        "AND u.content = c.content JOIN jobs uj ON uj.id = u.job_id "
        "JOIN studies cs ON cs.id = cj.study_id JOIN studies us ON us.id = uj.study_id "
        "WHERE cj.study_id = ? AND c.state = 'cancelled' AND u.state = 'unchanged' "
        "AND uj.state != 'superseded' AND us.study_uid = cs.study_uid AND NOT EXISTS ("
        "SELECT 1 FROM deliveries o WHERE o.sop_instance_uid = u.sop_instance_uid "
        "AND o.destination = u.destination AND o.content = u.content "
        "AND o.state IN ('waiting', 'uncommitted', 'delivered', 'dead')) "
        "GROUP BY u.sop_instance_uid, u.destination, u.content",
        (study_id,),
    )
    return [int(row["id"]) for row in rows]


def _marks(values: Iterable[Any]) -> str:
    return ", ".join("?" for _ in values)


def job_id_of(study: Study, rule: WorkflowRule, generation: int) -> str:
    """Return the ID of the job of a rule on a study that is complete for the so many-th time."""
    name = f"{study.ae_title}\n{study.study_uid}\n{rule.workflow}\n{rule.name}\n{generation}"
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))
