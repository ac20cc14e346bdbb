"""The tables of the database, its version, and the steps that lead from each version to the next.

`MIGRATIONS` holds one entry for each version, the oldest first; the number of its entries is the version of
this program, and ``PRAGMA user_version`` that of a database. An entry is a text of SQL statements, or a
function for what statements cannot say. An entry never changes once it was released: a change of the tables
is a new entry at the end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from stages.errors import SettingsError

Migration: TypeAlias = str | Callable[[sqlite3.Connection], None]

_FIRST_TABLES = """
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
    UNIQUE (job_id, destination, sop_instance_uid));
CREATE INDEX IF NOT EXISTS deliveries_by_instance ON deliveries (sop_instance_uid, destination);
CREATE INDEX IF NOT EXISTS deliveries_by_state ON deliveries (destination, state, not_before);
CREATE TABLE IF NOT EXISTS condemned (path TEXT PRIMARY KEY);
"""


def _first(database: sqlite3.Connection) -> None:
    """Make the tables, or add what those of a release without versions lack."""
    _run(database, _FIRST_TABLES)
    if "content" not in _columns(database, "deliveries"):
        database.execute("ALTER TABLE deliveries ADD COLUMN content TEXT NOT NULL DEFAULT ''")


_SECONDS_OF_SERVICE = """
CREATE TABLE service (seconds REAL NOT NULL, identity TEXT NOT NULL);
INSERT INTO service VALUES (0, lower(hex(randomblob(16))));
ALTER TABLE studies ADD COLUMN ended_s REAL;
ALTER TABLE deliveries ADD COLUMN since_s REAL NOT NULL DEFAULT 0;
UPDATE studies SET ended_s = 0 WHERE state = 'removed';
UPDATE jobs SET not_before = 0;
UPDATE deliveries SET not_before = 0;
CREATE INDEX jobs_of_study ON jobs (study_id);
CREATE INDEX deliveries_that_wait ON deliveries (destination, state, since_s)
    WHERE state IN ('waiting', 'dead');
CREATE INDEX deliveries_to_finish ON deliveries (job_id)
    WHERE state NOT IN ('delivered', 'unchanged', 'cancelled')
"""  # since_s: when it began to wait; ended_s: when a study was finished, or removed

_WHOSE_IS_CONDEMNED = """
ALTER TABLE condemned ADD COLUMN study_id INTEGER REFERENCES studies;
ALTER TABLE condemned ADD COLUMN job_id TEXT NOT NULL DEFAULT '';
CREATE INDEX studies_by_end ON studies (state, ended_s)
"""

_WHAT_IS_SET_ASIDE = """
CREATE TABLE set_aside (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, item TEXT NOT NULL, study TEXT NOT NULL, reason TEXT NOT NULL,
    since TEXT NOT NULL, UNIQUE (kind, item))
"""

_WHAT_MAY_HAVE_ARRIVED = """
ALTER TABLE deliveries ADD COLUMN unsure INTEGER NOT NULL DEFAULT 0
"""

MIGRATIONS: tuple[Migration, ...] = (
    _first,
    _SECONDS_OF_SERVICE,
    _WHOSE_IS_CONDEMNED,
    _WHAT_IS_SET_ASIDE,
    _WHAT_MAY_HAVE_ARRIVED,
)  # fmt: skip


def migrate(database: sqlite3.Connection, file: Path) -> int:
    """Bring a database to the version of this program, in one transaction; return the version it had.

    Parameters
    ----------
    database
        A connection in autocommit mode, with rows that are found by name.
    file
        Where it lies, for messages.

    Raises
    ------
    SettingsError
        If a later program has written it, or its tables are not those of its version.
    """
    if _version(database) == len(MIGRATIONS):
        return len(MIGRATIONS)  # which takes no lock and writes nothing
    database.execute("BEGIN IMMEDIATE")
    try:
        version = _version(database)
        _refuse_later(version, file)
        for migration in MIGRATIONS[version:]:
            migration(database) if callable(migration) else _run(database, migration)
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        _require_tables(database, file)
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
    return version


def require_current(database: sqlite3.Connection, file: Path) -> None:
    """Return where a database has the version of this program, for those who shall not bring it forward.

    Parameters
    ----------
    database
        An open database, in a transaction.
    file
        The file of the database.

    Raises
    ------
    SettingsError
        If it has another one.
    """
    version = _version(database)
    _refuse_later(version, file)
    if version < len(MIGRATIONS):
        raise SettingsError(
            f"the database {file} has version {version}, and this program works on {len(MIGRATIONS)}; use "
            "the release that its adapter is of, or start the adapter of this one, which brings it forward"
        )


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _refuse_later(version: int, file: Path) -> None:
    if version > len(MIGRATIONS):
        raise SettingsError(
            f"the database {file} has version {version}, and this program knows those up to "
            f"{len(MIGRATIONS)}; a later release has written it: start that one again"
        )


def _require_tables(database: sqlite3.Connection, file: Path) -> None:
    """Refuse tables that lack something, before anything is written into them."""
    lacks = [
        f"{table}.{column}"
        for table, columns in _usual_columns().items()
        for column in sorted(columns - _columns(database, table))
    ]
    if lacks:
        raise SettingsError(
            f"the database {file} lacks {', '.join(lacks)}; no release has made it so: "
            "see docs/how-to/damaged-database.md"
        )


def _usual_columns() -> dict[str, set[str]]:
    with sqlite3.connect(":memory:") as usual:
        usual.row_factory = sqlite3.Row
        for migration in MIGRATIONS:
            migration(usual) if callable(migration) else _run(usual, migration)
        tables = [row["name"] for row in usual.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found = {name: _columns(usual, name) for name in tables}
    usual.close()
    return found


def _columns(database: sqlite3.Connection, table: str) -> set[str]:
    return {row["name"] for row in database.execute(f"PRAGMA table_info({table})")}


def _run(database: sqlite3.Connection, statements: str) -> None:
    """Run statements one by one; `executescript` would end the transaction."""
    for statement in statements.split(";"):
        database.execute(statement)
