"""What can still be read of a damaged database, put into a new one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from dicom_adapter.database.records import TRANSITIONS

_SERVICE = "service"
_DAMAGES = (sqlite3.Error, OverflowError, UnicodeDecodeError)


@dataclass
class Salvaged:
    """How much was read.

    Attributes
    ----------
    rows
        How many of each table.
    incomplete
        Tables of which something could not be read or used.
    """

    rows: dict[str, int] = field(default_factory=dict)
    incomplete: set[str] = field(default_factory=set)


def salvage(damaged: Path, database: sqlite3.Connection) -> Salvaged:
    """Copy every row of a damaged database that can be read and has all it points at.

    Parameters
    ----------
    damaged
        It, and the write-ahead log beside it, are only read.
    database
        A new database of this release, in a transaction.

    Returns
    -------
    Salvaged
        What was read; all tables are incomplete where it is no database.
    """
    found = Salvaged()
    tables = [
        row["name"]
        for row in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid")
    ]
    if damaged.exists() and not damaged.is_file():  # whoever opens a FIFO waits
        found.incomplete.update(tables)
        return found
    address = f"file:{quote(str(damaged.absolute()))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as source:
            source.row_factory = sqlite3.Row
            for table in tables:
                _copy(source, database, table, found)
    except sqlite3.Error:
        found.incomplete.update(tables)
    return found


def _copy(source: sqlite3.Connection, database: sqlite3.Connection, table: str, found: Salvaged) -> None:
    known = [row["name"] for row in database.execute(f"PRAGMA table_info({table})")]
    for row in _rows(source, table, found):
        columns = [name for name in known if name in row.keys()]  # noqa: SIM118 - a Row is no dictionary
        if table == _SERVICE:
            _take_over_service(database, row)
        elif _is_usable(table, row):
            names, marks = ", ".join(columns), ", ".join("?" for _ in columns)
            try:
                database.execute(
                    f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608 - names of our own
                    [row[name] for name in columns],
                )
                found.rows[table] = found.rows.get(table, 0) + 1
            except sqlite3.IntegrityError:
                found.incomplete.add(table)
        else:
            found.incomplete.add(table)


def _rows(source: sqlite3.Connection, table: str, found: Salvaged) -> Iterator[sqlite3.Row]:
    """Yield the rows from the front until something is damaged, then those from the back."""
    last = -(2**63)
    for order in ("ASC", "DESC"):
        try:
            rows = source.execute(
                f"SELECT rowid AS _rowid, * FROM {table} NOT INDEXED "  # noqa: S608 - names of our own
                f"WHERE rowid > ? ORDER BY rowid {order}",
                (last,),
            )
            for row in rows:
                if order == "ASC":
                    last = row["_rowid"]
                yield row
            return
        except _DAMAGES:
            found.incomplete.add(table)


def _is_usable(table: str, row: sqlite3.Row) -> bool:
    return table not in TRANSITIONS or row["state"] in TRANSITIONS[table]


def _take_over_service(database: sqlite3.Connection, row: sqlite3.Row) -> None:
    if isinstance(row["seconds"], float):
        database.execute("UPDATE service SET seconds = ?", (row["seconds"],))
