"""What the books say of many deliveries at once: put off, asked to be committed, counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dicom_adapter.database.records import Delivery
from dicom_adapter.database.store import Store
from stages.lifecycle.locks import now

_MOST_REQUESTS = 8  # for commitment that a late report is taken for


def try_everything_now(store: Store) -> None:
    """Let nothing wait for its time any more; asked for at a start."""
    with store.transaction() as books:
        for table in ("jobs", "deliveries"):
            books.execute(f"UPDATE {table} SET not_before = 0 WHERE not_before != 0")  # noqa: S608


def mark_as_sending(store: Store, deliveries: Collection[Delivery]) -> None:
    """Write down, before any of them goes out, that these may arrive without our hearing of it."""
    with store.transaction() as books:
        books.executemany(
            "UPDATE deliveries SET unsure = 1 WHERE id = ? AND state = 'waiting'",
            [(each.id,) for each in deliveries],
        )


def put_off(
    store: Store,
    deliveries: Collection[Delivery],
    *,
    message: str | None,
    not_before: float,
    unsure: Collection[int],
) -> None:
    """Write down that a destination could not be reached, so that these wait.

    Parameters
    ----------
    message
        Why; None for what was said before.
    unsure
        IDs of those that may have arrived.
    """
    with store.transaction() as books:
        books.executemany(
            "UPDATE deliveries SET message = COALESCE(?, message), not_before = ?, unsure = ?, changed = ? "
            "WHERE id = ? AND state = 'waiting'",
            [(message, not_before, each.id in unsure, now(), each.id) for each in deliveries],
        )


def has_other_content(store: Store, delivery: Delivery) -> bool:
    """Return whether a destination has, or gets, other content under the same SOPInstanceUID."""
    with store.transaction() as books:
        found = books.execute(
            "SELECT 1 FROM deliveries o JOIN deliveries d ON d.id = ? WHERE o.id != d.id "
            "AND o.sop_instance_uid = d.sop_instance_uid AND o.destination = d.destination "
            "AND o.content != d.content AND o.state IN ('waiting', 'uncommitted', 'delivered') LIMIT 1",
            (delivery.id,),
        )
        return found.fetchone() is not None


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


def ask(
    store: Store, deliveries: Sequence[Delivery], transaction_uid: str, *, message: str, not_before: float
) -> None:
    """Write down, before it is sent, in which request for commitment these are, and when to ask again."""
    with store.transaction() as books:
        books.executemany(
            "UPDATE deliveries SET transaction_uid = ?, message = ?, not_before = ?, changed = ? "
            "WHERE id = ? AND state = 'uncommitted'",
            [
                (
                    " ".join([*each.transaction_uid.split(), transaction_uid][-_MOST_REQUESTS:]),
                    *(message, not_before, now(), each.id),
                )
                for each in deliveries
            ],
        )


def explain(store: Store, deliveries: Sequence[Delivery], message: str) -> None:
    """Write down why a destination has not committed itself to keep these."""
    with store.transaction() as books:
        books.executemany(
            "UPDATE deliveries SET message = ?, changed = ? WHERE id = ? AND state = 'uncommitted'",
            [(message, now(), each.id) for each in deliveries],
        )


def ask_again(store: Store, job_id: str) -> int:
    """Let a destination be asked at once to commit itself to what it has of a job; return how many."""
    with store.transaction() as books:
        return books.execute(
            "UPDATE deliveries SET not_before = 0 WHERE state = 'uncommitted' AND job_id = ?", (job_id,)
        ).rowcount


def send_again(store: Store, deliveries: Sequence[Delivery], message: str) -> None:
    """Let what may have arrived, and no report has told of, be sent again."""
    with store.transaction() as books:
        books.executemany(
            "UPDATE deliveries SET state = 'waiting', unsure = 0, transaction_uid = '', not_before = 0, "
            "message = ?, changed = ? WHERE id = ? AND state = 'uncommitted'",
            [(message, now(), each.id) for each in deliveries],
        )


def without_commitment(store: Store, destination: str) -> int:
    """Let no result wait for the commitment of a destination that is not asked for it any more.

    What it has taken is delivered; what may have arrived waits to be sent. Return how many did wait.
    """
    if not store.deliveries("uncommitted", destination=destination):
        return 0
    which = "WHERE state = 'uncommitted' AND destination = ?"
    with store.transaction() as books:
        again = books.execute(
            "UPDATE deliveries SET state = 'waiting', transaction_uid = '', not_before = 0, message = '', "  # noqa: S608
            f"changed = ? {which} AND unsure",
            (now(), destination),
        ).rowcount
        taken = books.execute(
            f"UPDATE deliveries SET state = 'delivered', message = '', changed = ? {which}",  # noqa: S608
            (now(), destination),
        ).rowcount
    return again + taken


def take_report(
    store: Store,
    transaction_uid: str,
    committed: Collection[str],
    failed: Mapping[str, str],
    *,
    destinations: Collection[str],
    refused: Collection[str],
    most_refusals: int,
    not_before: float,
) -> tuple[int, int]:
    """Write down what a destination commits itself to, and let what it does not keep be sent again.

    A report of a request that nobody made, or of instances that were sent again since, changes nothing. What
    it names as kept and as failed has failed.

    Parameters
    ----------
    committed
        SOPInstanceUIDs.
    failed
        Why, by SOPInstanceUID.
    destinations
        Names of those whose report it may be.
    refused
        SOPInstanceUIDs that are dead letters.
    most_refusals
        After so many the others are dead letters too; that it never had what may have arrived is none.
    not_before
        Seconds of service; not sent again earlier.

    Returns
    -------
    tuple of int
        How many deliveries are committed, and how many are not.
    """
    if not transaction_uid or " " in transaction_uid or not destinations:
        return 0, 0
    where = (
        f"WHERE destination IN ({', '.join('?' for _ in destinations)}) AND state = 'uncommitted' "
        "AND sop_instance_uid = ? AND instr(' ' || transaction_uid || ' ', ?)"
    )
    asked = f" {transaction_uid} "
    with store.transaction() as books:
        lost = books.executemany(
            "UPDATE deliveries SET state = CASE WHEN ? OR refusals + 1 - unsure >= ? THEN 'dead' "  # noqa: S608
            "ELSE 'waiting' END, refusals = refusals + 1 - unsure, unsure = 0, transaction_uid = '', "
            f"message = ?, not_before = ?, changed = ? {where}",
            [
                (uid in refused, most_refusals, why, not_before, now(), *destinations, uid, asked)
                for uid, why in failed.items()
            ],
        ).rowcount
        kept = books.executemany(
            "UPDATE deliveries SET state = 'delivered', status = 'committed', message = '', "  # noqa: S608
            f"unsure = 0, changed = ? {where}",
            [(now(), *destinations, uid, asked) for uid in committed],
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
    """Return, by destination, why the latest of what waits, is not committed or is dead was not taken."""
    with store.reading() as books:
        return {
            row["destination"]: row["message"]
            for row in books.execute(
                "SELECT destination, message, MAX(changed) FROM deliveries "
                "WHERE state IN ('waiting', 'uncommitted', 'dead') AND message != '' GROUP BY destination"
            )
        }
