"""The database of a storage that was moved: its rows name files by whole paths, which are others then."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from dicom_adapter.storage.paths import AdapterPaths

logger = logging.getLogger(__name__)


def relocate(database: sqlite3.Connection, paths: AdapterPaths, payloads: Path) -> int:
    """Make the database name files where they lie now, and return how many rows were changed.

    Without it each received file would be a new one, and each result one that is gone. A file that is not
    below the folders of now keeps the path that it has.

    Parameters
    ----------
    database
        In a transaction.
    paths
        The folders of the storage.
    payloads
        The folder that jobs run in.
    """

    def received(row: sqlite3.Row) -> Path:
        return paths.studies.joinpath(*Path(row["path"]).parts[-3:])

    def of_job(row: sqlite3.Row) -> Path:
        parts = Path(row["path"]).parts
        begin = parts.index(row["job_id"]) if row["job_id"] in parts else len(parts)
        return payloads.resolve().joinpath(*parts[begin:])

    moved = _relocate(database, "instances", "path", "1", received, below=paths.studies)
    _relocate(database, "condemned", "path", "job_id = ''", received, below=paths.studies)
    _relocate(database, "set_aside", "item", "kind = 'instance'", received, below=paths.studies)
    moved += _relocate(
        database,
        *("deliveries", "path", "state IN ('waiting', 'uncommitted', 'dead')", of_job),
        below=payloads.resolve(),
    )
    _relocate(database, "condemned", "path", "job_id != ''", of_job, below=payloads)
    if moved:
        logger.warning("the storage was moved; %d files are known by their new place now", moved)
    return moved


def _relocate(
    database: sqlite3.Connection,
    table: str,
    column: str,
    where: str,
    place: Callable[[sqlite3.Row], Path],
    *,
    below: Path,
) -> int:
    job_id = "job_id" if table in ("deliveries", "condemned") else "''"
    beginning = f"{below}/"
    rows = database.execute(
        f"SELECT rowid AS number, CAST({column} AS TEXT) AS path, {job_id} AS job_id FROM {table} "  # noqa: S608
        f"WHERE {where} AND substr({column}, 1, ?) != ?",
        (len(beginning), beginning),
    ).fetchall()
    moved = [(place(row), row["number"]) for row in rows]
    changes = [(str(path), number) for path, number in moved if path != below and os.path.exists(path)]
    database.executemany(
        f"UPDATE OR REPLACE {table} SET {column} = ? WHERE rowid = ?",  # noqa: S608
        changes,
    )
    return len(changes)
