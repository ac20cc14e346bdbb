"""What the books say of many deliveries at once: put off, asked to be committed, counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dicom_adapter.books.records import Delivery
from dicom_adapter.books.store import Store
from stages.locks import now


def try_everything_now(store: Store) -> None:
    """Let nothing wait for its time any more; asked for at a start."""
    with store.transaction() as books:
        for table in ("jobs", "deliveries"):
            books.execute(f"UPDATE {table} SET not_before = 0 WHERE not_before != 0")  # noqa: S608


def put_off(store: Store, deliveries: Collection[Delivery], *, message: str, not_before: float) -> None:
    """Write down that a destination could not be reached, so that these wait."""
    with store.transaction() as books:
        books.executemany(
            "UPDATE deliveries SET message = ?, not_before = ?, changed = ? "
            "WHERE id = ? AND state = 'waiting'",
            [(message, not_before, now(), each.id) for each in deliveries],
        )


def bury_older(store: Store, destination: str, before_s: float, *, reason: str) -> int:
    """Make dead letters of what has waited for a destination since before a time, seconds of service."""
    with store.transaction() as books:
        return books.execute(
            "UPDATE deliveries SET state = 'dead', changed = ?, "
            "message = ? || CASE message WHEN '' THEN '' ELSE '; last: ' || message END "
            "WHERE destination = ? AND state IN ('waiting', 'dead') AND state = 'waiting' "
            "AND since_s < ?",
            (now(), reason, destination, before_s),
        ).rowcount


def to_commit(store: Store, destination: str, at: float) -> dict[str, list[Delivery]]:
    """Return, by job, what a destination is to be asked to commit itself to, once it has all of a job."""
    found: dict[str, list[Delivery]] = {}
    for each in store.to_commit(destination, at):
        found.setdefault(each.job_id, []).append(each)
    return found


def ask(store: Store, deliveries: Sequence[Delivery], transaction_uid: str, *, not_before: float) -> None:
    """Write down, before it is sent, in which request for commitment these are, and when to ask again."""
    with store.transaction() as books:
        books.executemany(
            "UPDATE deliveries SET transaction_uid = ?, not_before = ?, changed = ? "
            "WHERE id = ? AND state = 'uncommitted'",
            [(transaction_uid, not_before, now(), each.id) for each in deliveries],
        )


def take_report(
    store: Store, transaction_uid: str, committed: Collection[str], failed: Mapping[str, str]
) -> tuple[int, int]:
    """Write down what a destination commits itself to, and let what it does not keep be sent again.

    A report of a request that nobody made, or that was made again since, changes nothing.

    Returns
    -------
    tuple of int
        How many deliveries are committed, and how many are to be sent again.
    """
    if not transaction_uid:
        return 0, 0
    where = "WHERE transaction_uid = ? AND sop_instance_uid = ? AND state = 'uncommitted'"
    with store.transaction() as books:
        kept = books.executemany(
            f"UPDATE deliveries SET state = 'delivered', status = 'committed', changed = ? {where}",  # noqa: S608
            [(now(), transaction_uid, uid) for uid in committed],
        ).rowcount
        lost = books.executemany(
            f"UPDATE deliveries SET state = 'waiting', message = ?, not_before = 0, changed = ? {where}",  # noqa: S608
            [(why, now(), transaction_uid, uid) for uid, why in failed.items()],
        ).rowcount
    return max(kept, 0), max(lost, 0)


def counts(store: Store) -> dict[str, dict[str, int]]:
    """Return how many studies and jobs there are in each state."""
    with store.reading() as books:
        return {
            table: {
                row["state"]: row["n"]
                for row in books.execute(f"SELECT state, COUNT(*) AS n FROM {table} GROUP BY state")  # noqa: S608
            }
            for table in ("studies", "jobs")
        }


def counts_by_destination(store: Store) -> tuple[dict[tuple[str, str], int], dict[str, float]]:
    """Return how many deliveries of each destination are in each state, and the age of the oldest.

    Returns
    -------
    dict
        How many there are, by destination and state.
    dict
        How long the oldest has waited that a destination has not taken, seconds of service.
    """
    with store.reading() as books:
        states = {
            (row["destination"], row["state"]): row["n"]
            for row in books.execute(
                "SELECT destination, state, COUNT(*) AS n FROM deliveries GROUP BY destination, state"
            )
        }
        oldest = {
            row["destination"]: max(0.0, store.clock() - row["oldest"])
            for row in books.execute(
                "SELECT destination, MIN(since_s) AS oldest FROM deliveries "
                "WHERE state IN ('waiting', 'dead') GROUP BY destination"
            )
        }
    return states, oldest


def deliveries_of(store: Store, jobs: Sequence[str]) -> dict[tuple[str, str], dict[str, int]]:
    """Return, by job and destination, how many results are in each state."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    marks = ", ".join("?" for _ in jobs)
    with store.reading() as books:
        for row in books.execute(
            f"SELECT job_id, destination, state, COUNT(*) AS n FROM deliveries "  # noqa: S608
            f"WHERE job_id IN ({marks}) GROUP BY job_id, destination, state",
            tuple(jobs),
        ):
            found.setdefault((row["job_id"], row["destination"]), {})[row["state"]] = row["n"]
    return found


def last_messages(store: Store) -> dict[str, str]:
    """Return, by destination, why the latest of what waits or is dead was not taken."""
    with store.reading() as books:
        return {
            row["destination"]: row["message"]
            for row in books.execute(
                "SELECT destination, message, MAX(changed) FROM deliveries "
                "WHERE state IN ('waiting', 'dead') AND message != '' GROUP BY destination"
            )
        }
