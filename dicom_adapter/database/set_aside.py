"""What the adapter could not work on and has set aside, so that everything else goes on.

Nothing is removed for it: the file or row stays as it is, is passed over, and is worked on again when
somebody replays it (`dicom_adapter.studies.recovery`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from stages.errors import printable
from stages.lifecycle.locks import now

logger = logging.getLogger(__name__)

SetAsideKind: TypeAlias = Literal["instance", "study", "job", "delivery", "removal"]

PASSED_OVER = "CAST({id} AS TEXT) NOT IN (SELECT item FROM set_aside WHERE kind = '{kind}')"
"""A condition that leaves out what is set aside."""
_LONGEST = 4096


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """Something that is set aside.

    Attributes
    ----------
    id
        Its number in the database.
    kind, item
        ``instance``: the path of a received file; ``study``, ``job``, ``delivery``: its ID in the database;
        ``removal``: the ID of a study whose files were to be removed.
    study
        Hash of its StudyInstanceUID; "" where it is not known.
    reason
        What went wrong.
    since
        ISO 8601, UTC.
    """

    id: int
    kind: str
    item: str
    study: str
    reason: str
    since: str


class _Database(Protocol):
    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do several things at once, or none of them."""
        yield NotImplemented


def put(
    database: sqlite3.Connection, kind: SetAsideKind, item: object, *, reason: str, study: str = ""
) -> bool:
    """Set something aside, which is said once, and return whether it was not before.

    Parameters
    ----------
    database
        An open database, in a transaction.
    kind
        Of what kind it is.
    item
        What tells it from others of its kind, see `SetAside`.
    reason
        Why, a sentence.
    study
        What stands for the study in logs; "" for none.
    """
    name = printable(str(item))[:_LONGEST]
    if database.execute("SELECT 1 FROM set_aside WHERE kind = ? AND item = ?", (kind, name)).fetchone():
        return False
    reason = printable(reason)[:_LONGEST]
    done = database.execute(
        "INSERT OR IGNORE INTO set_aside (kind, item, study, reason, since) VALUES (?, ?, ?, ?, ?)",
        (kind, name, study, reason, now()),
    )
    logger.error(
        "set aside as aside-%s (%s %s): %s; all else goes on, and clara-wf adapter replay tries it again",
        *(done.lastrowid, kind, name, reason),
        extra={"study": study} if study else {},
    )
    return True


def all_items(store: _Database) -> list[SetAside]:
    """Return what is set aside, the oldest first.

    Parameters
    ----------
    store
        The database.
    """
    with store.transaction() as database:
        rows = database.execute("SELECT * FROM set_aside ORDER BY id").fetchall()
    return [SetAside(**dict(row)) for row in rows]


def items_of(store: _Database, kind: SetAsideKind) -> frozenset[str]:
    """Return what of a kind is set aside, see `SetAside.item`.

    Parameters
    ----------
    store
        The database.
    kind
        Of what kind it is.
    """
    with store.transaction() as database:
        rows = database.execute("SELECT item FROM set_aside WHERE kind = ?", (kind,)).fetchall()
    return frozenset(row["item"] for row in rows)


def count(store: _Database) -> dict[str, int]:
    """Return how much of each kind is set aside.

    Parameters
    ----------
    store
        The database.
    """
    with store.transaction() as database:
        rows = database.execute("SELECT kind, COUNT(*) AS n FROM set_aside GROUP BY kind").fetchall()
    return {row["kind"]: row["n"] for row in rows}


def set_aside(store: _Database, kind: SetAsideKind, item: object, *, reason: str, study: str = "") -> bool:
    """Set something aside in a transaction of its own, see `put`.

    Parameters
    ----------
    store
        The database.
    kind
        Of what kind it is.
    item
        What is set aside.
    reason
        Why, a sentence.
    study
        What stands for the study in logs; "" for none.
    """
    with store.transaction() as database:
        return put(database, kind, item, reason=reason, study=study)


def take_back(database: sqlite3.Connection, number: int) -> None:
    """Take back something that is set aside, so that it is worked on again.

    Parameters
    ----------
    database
        An open database, in a transaction.
    number
        Its number in the database.
    """
    database.execute("DELETE FROM set_aside WHERE id = ?", (number,))
