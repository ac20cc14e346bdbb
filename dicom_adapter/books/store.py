"""The adapter's books: which instances came, which jobs were made of them, and what was delivered.

One SQLite file (write-ahead log, synced at each commit), one connection, one writer at a time. Files are the
truth about instances: one is acknowledged when its file and folder are synced, written into the books after
that, and taken up from the folder at the next start if that never happened. About jobs and deliveries the
books are the truth: each is written down before anything is done about it, its ID is the same when it is made
again, and doing it twice changes nothing.

Which state may follow which stands in `dicom_adapter.books.records`.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dicom_adapter.books.records import (
    DELIVERY_MOVES,
    JOB_MOVES,
    STUDY_MOVES,
    Delivery,
    Job,
    Received,
    Study,
)
from dicom_adapter.config_blocks import WorkflowRule
from stages.errors import SettingsError
from stages.locks import now

_SCHEMA = """
CREATE TABLE IF NOT EXISTS studies (
    id INTEGER PRIMARY KEY, ae_title TEXT NOT NULL, study_uid TEXT NOT NULL, state TEXT NOT NULL,
    generation INTEGER NOT NULL DEFAULT 0, received TEXT NOT NULL, UNIQUE (ae_title, study_uid));
CREATE TABLE IF NOT EXISTS instances (
    path TEXT PRIMARY KEY, study_id INTEGER NOT NULL REFERENCES studies, sop_instance_uid TEXT NOT NULL,
    sop_class_uid TEXT NOT NULL, modality TEXT NOT NULL, series_description TEXT NOT NULL,
    size INTEGER NOT NULL, conflict INTEGER NOT NULL, received TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS instances_of_study ON instances (study_id);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, study_id INTEGER NOT NULL REFERENCES studies, rule TEXT NOT NULL,
    workflow TEXT NOT NULL, destinations TEXT NOT NULL, generation INTEGER NOT NULL, state TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, exit_code INTEGER, reason TEXT NOT NULL DEFAULT '',
    not_before REAL NOT NULL DEFAULT 0, created TEXT NOT NULL, changed TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, not_before);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY, job_id TEXT NOT NULL REFERENCES jobs, destination TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL, path TEXT NOT NULL, state TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0,
    refusals INTEGER NOT NULL DEFAULT 0, status TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
    transaction_uid TEXT NOT NULL DEFAULT '', not_before REAL NOT NULL DEFAULT 0,
    created TEXT NOT NULL, changed TEXT NOT NULL, content TEXT NOT NULL DEFAULT '',
    unsure INTEGER NOT NULL DEFAULT 0, UNIQUE (job_id, destination, sop_instance_uid));
CREATE INDEX IF NOT EXISTS deliveries_by_instance ON deliveries (sop_instance_uid, destination);
CREATE INDEX IF NOT EXISTS deliveries_by_state ON deliveries (destination, state, not_before);
"""
_BUSY_MS = 30_000
_STUDY = """
SELECT s.*, COUNT(i.path) AS instances, COALESCE(SUM(i.conflict), 0) AS conflicts
FROM studies s LEFT JOIN instances i ON i.study_id = s.id
"""
_MOVES: Mapping[str, Mapping[str, frozenset[str]]] = {
    "studies": STUDY_MOVES,
    "jobs": JOB_MOVES,
    "deliveries": DELIVERY_MOVES,
}


class StateError(SettingsError):
    """Something is not in a state that what was asked for may follow."""


class Store:
    """The books; every method may be called by any thread.

    Parameters
    ----------
    file
        The SQLite file; made if it is not there.
    """

    def __init__(self, file: Path) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            file, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000
        )
        self._connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        with self.transaction() as books:
            for statement in _SCHEMA.split(";"):
                books.execute(statement)
            columns = {row["name"] for row in books.execute("PRAGMA table_info(deliveries)")}
            if "content" not in columns:  # books of an earlier version
                books.execute("ALTER TABLE deliveries ADD COLUMN content TEXT NOT NULL DEFAULT ''")
            if "unsure" not in columns:
                books.execute("ALTER TABLE deliveries ADD COLUMN unsure INTEGER NOT NULL DEFAULT 0")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do several things at once, or none of them."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    # Studies and instances

    def add_instances(self, received: Iterable[Received]) -> None:
        """Write down instances; those that are known already change nothing.

        A study that was complete, or removed, is being received again.
        """
        with self.transaction() as books:
            for each in received:
                study = self._study_id(books, each)
                values = (str(each.path), study, each.sop_instance_uid, each.sop_class_uid, each.modality)
                more = (each.series_description, each.size, each.conflict, now())
                added = books.execute(
                    "INSERT OR IGNORE INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, *more)
                )
                if added.rowcount and not each.conflict:
                    books.execute(
                        "UPDATE studies SET state = 'receiving', received = ? WHERE id = ?", (now(), study)
                    )

    def knows(self, path: Path) -> bool:
        """Tell whether a file is in the books."""
        return bool(self._rows("SELECT 1 FROM instances WHERE path = ?", str(path)))

    def studies(self, *states: str, most: int = -1) -> list[Study]:
        """Return the studies in some states, or all, the latest first, or only so many of the latest."""
        which = f"WHERE s.state IN ({_marks(states)})" if states else ""
        query = f"{_STUDY} {which} GROUP BY s.id ORDER BY s.id DESC LIMIT ?"
        return [_study(row) for row in self._rows(query, *states, most)]

    def study(self, study_id: int) -> Study:
        """Return a study."""
        return _study(self._one(f"{_STUDY} WHERE s.id = ? GROUP BY s.id", study_id))

    def instances(self, study_id: int) -> list[Received]:
        """Return the instances of a study, those in conflict with another one left out."""
        rows = self._rows(
            "SELECT i.*, s.ae_title, s.study_uid FROM instances i JOIN studies s ON s.id = i.study_id "
            "WHERE i.study_id = ? AND NOT i.conflict ORDER BY i.sop_instance_uid",
            study_id,
        )
        return [_received(row) for row in rows]

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
            made = [_job_id(study, rule) for rule in rules]
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

    def forget(self, study_id: int) -> None:
        """Write down that the files of a study are removed; its jobs and deliveries stay in the books."""
        with self.transaction() as books:
            self._move(books, "studies", study_id, "removed")
            books.execute("DELETE FROM instances WHERE study_id = ?", (study_id,))
            forget_contents(books, study_id)

    def finished_studies(self, before: str) -> list[Study]:
        """Return complete studies whose every job is done and delivered, with nothing done since a time.

        A study that no job was made of, or whose results go nowhere, is none of them.

        Parameters
        ----------
        before
            ISO 8601, UTC.
        """
        rows = self._rows(
            f"{_STUDY} WHERE s.state = 'complete' AND s.received < ? AND NOT EXISTS ("  # noqa: S608
            "SELECT 1 FROM jobs j LEFT JOIN deliveries d ON d.job_id = j.id WHERE j.study_id = s.id AND "
            "j.state != 'superseded' AND (j.state != 'done' OR j.changed >= ? OR d.id IS NULL "
            "OR d.state NOT IN ('delivered', 'unchanged', 'cancelled') OR d.changed >= ?)) "
            "AND EXISTS (SELECT 1 FROM jobs j WHERE j.study_id = s.id AND j.state = 'done') GROUP BY s.id",
            *(before, before, before),
        )
        return [_study(row) for row in rows]

    # Jobs

    def jobs(self, *states: str, study_id: int | None = None, most: int = -1) -> list[Job]:
        """Return the jobs in some states, or all, the oldest first, or only so many of the latest."""
        wanted = [f"state IN ({_marks(states)})"] * bool(states) + ["study_id = ?"] * (study_id is not None)
        which = f"WHERE {' AND '.join(wanted)}" if wanted else ""
        values = [*states, *([] if study_id is None else [study_id])]
        query = f"SELECT * FROM jobs {which} ORDER BY rowid DESC LIMIT ?"  # noqa: S608
        return [_job(row) for row in reversed(self._rows(query, *values, most))]

    def job(self, job_id: str) -> Job:
        """Return a job.

        Raises
        ------
        StateError
            If there is none of this ID.
        """
        return _job(self._one("SELECT * FROM jobs WHERE id = ?", job_id))

    def start_next(self, at: float) -> Job | None:
        """Take the oldest job that may start, which is running then.

        Parameters
        ----------
        at
            Seconds of the epoch.
        """
        with self.transaction() as books:
            found = self._rows(
                "SELECT id FROM jobs WHERE state = 'queued' AND not_before <= ? ORDER BY rowid LIMIT 1", at
            )
            if not found:
                return None
            self._move(books, "jobs", found[0]["id"], "running")
            books.execute("UPDATE jobs SET tries = tries + 1 WHERE id = ?", (found[0]["id"],))
        return self.job(found[0]["id"])

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
                self._move(
                    books, "deliveries", each.id, "waiting", tries=0, refusals=0, not_before=0, created=now()
                )
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
                        "state, created, changed, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                        (job_id, destination, uid, str(path), state, now(), now(), content),
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
        return [
            _delivery(row)
            for row in self._rows(f"SELECT * FROM deliveries {which} ORDER BY id", *values)  # noqa: S608
        ]

    def due(self, destination: str, at: float) -> list[Delivery]:
        """Return what may be sent to a destination now, in order."""
        rows = self._rows(
            "SELECT * FROM deliveries WHERE destination = ? AND state = 'waiting' AND not_before <= ? "
            "ORDER BY id",
            *(destination, at),
        )
        return [_delivery(row) for row in rows]

    def move_delivery(self, delivery_id: int, state: str, **more: object) -> None:
        """Change the state of a delivery, and other columns, such as its tries."""
        with self.transaction() as books:
            self._move(books, "deliveries", delivery_id, state, **more)

    # Within

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

    def _move(
        self, books: sqlite3.Connection, table: str, key: str | int, state: str, **more: object
    ) -> None:
        before = [old for old, following in _MOVES[table].items() if state in following]
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
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def _one(self, query: str, value: object) -> sqlite3.Row:
        found = self._rows(query, value)
        if not found:
            raise StateError(f"there is no {value} in the books")
        return found[0]


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


def _marks(values: Iterable[Any]) -> str:
    return ", ".join("?" for _ in values)


def _job_id(study: Study, rule: WorkflowRule) -> str:
    name = f"{study.ae_title}\n{study.study_uid}\n{rule.workflow}\n{rule.name}\n{study.generation + 1}"
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def _study(row: sqlite3.Row) -> Study:
    return Study(**{name: row[name] for name in Study.__dataclass_fields__})


def _received(row: sqlite3.Row) -> Received:
    kept = {name: row[name] for name in Received.__dataclass_fields__}
    return Received(**{**kept, "path": Path(row["path"]), "conflict": bool(row["conflict"])})


def _job(row: sqlite3.Row) -> Job:
    kept = {name: row[name] for name in Job.__dataclass_fields__}
    return Job(**{**kept, "destinations": tuple(json.loads(row["destinations"]))})


def _delivery(row: sqlite3.Row) -> Delivery:
    kept = {name: row[name] for name in Delivery.__dataclass_fields__}
    return Delivery(**{**kept, "path": Path(row["path"]), "unsure": bool(row["unsure"])})
