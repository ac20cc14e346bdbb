"""What is to be removed: written down before anything is, struck off when it is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_adapter.database.deliveries import forget_contents
from dicom_adapter.database.records import StateError
from dicom_adapter.database.store import Store

_PRUNED_AT_ONCE = 50


@dataclass(frozen=True, kw_only=True)
class PendingRemoval:
    """Something on disk that is to go.

    Attributes
    ----------
    path
        The file or folder.
    job_id
        The job whose payload it is; "" for a received file.
    """

    path: Path
    job_id: str = ""


def plan_removal(store: Store, study_id: int, payloads: Path) -> list[PendingRemoval]:
    """Take a complete study out of the database, and write down in the same breath what is to go.

    Parameters
    ----------
    store, study_id
        The database and the study's number in the database.
    payloads
        The folder that the payloads of its jobs lie in.

    Returns
    -------
    list of Condemned
        Its files and payloads.

    Raises
    ------
    StateError
        If more of it came in the meantime.
    """
    with store.transaction() as database:
        moved = database.execute(
            "UPDATE studies SET state = 'removed', ended_s = ? WHERE id = ? AND state = 'complete'",
            (store.clock(), study_id),
        )
        if not moved.rowcount:
            raise StateError(f"study {study_id} is not complete any more, and is kept")
        files = database.execute("SELECT path FROM instances WHERE study_id = ?", (study_id,)).fetchall()
        jobs = database.execute("SELECT id FROM jobs WHERE study_id = ?", (study_id,)).fetchall()
        items = [PendingRemoval(path=payloads / row["id"], job_id=row["id"]) for row in jobs]
        items += [PendingRemoval(path=Path(row["path"])) for row in files]
        database.executemany(
            "INSERT OR IGNORE INTO condemned (path, study_id, job_id) VALUES (?, ?, ?)",
            [(str(each.path), study_id, each.job_id) for each in items],
        )
        database.execute("DELETE FROM instances WHERE study_id = ?", (study_id,))
        forget_contents(database, study_id)
    return items


def pending_removals(store: Store) -> dict[int | None, list[PendingRemoval]]:
    """Return by study what is still to go; a file that has come again since is none of it.

    What an earlier release has written down is of no study: None.
    """
    found: dict[int | None, list[PendingRemoval]] = {}
    with store.transaction() as database:
        database.execute("DELETE FROM condemned WHERE path IN (SELECT path FROM instances)")
        for row in database.execute("SELECT path, study_id, job_id FROM condemned ORDER BY rowid"):
            item = PendingRemoval(path=Path(row["path"]), job_id=row["job_id"])
            found.setdefault(row["study_id"], []).append(item)
    return found


def removal_done(store: Store, items: Sequence[PendingRemoval]) -> None:
    """Write down that something is gone.

    Parameters
    ----------
    store, items
        The database and what is gone.
    """
    with store.transaction() as database:
        database.executemany("DELETE FROM condemned WHERE path = ?", [(str(each.path),) for each in items])


def prune(store: Store, age_s: float) -> int:
    """Forget studies that were removed some time ago, with their jobs and deliveries.

    Parameters
    ----------
    store
        The database.
    age_s
        How long ago, seconds of service.

    Returns
    -------
    int
        How many; 50 at most, so that nobody waits for the database meanwhile.
    """
    with store.transaction() as database:
        found = database.execute(
            "SELECT id FROM studies WHERE state = 'removed' AND ended_s < ? AND id NOT IN "
            "(SELECT study_id FROM condemned WHERE study_id NOTNULL) ORDER BY ended_s LIMIT ?",
            (store.clock() - age_s, _PRUNED_AT_ONCE),
        ).fetchall()
        for row in found:
            key = (row["id"],)
            database.execute(
                "DELETE FROM deliveries WHERE job_id IN (SELECT id FROM jobs WHERE study_id = ?)", key
            )
            database.execute("DELETE FROM jobs WHERE study_id = ?", key)
            database.execute("DELETE FROM studies WHERE id = ?", key)
    return len(found)
