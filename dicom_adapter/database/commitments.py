"""Which deliveries a destination was asked to commit itself to keep, and what it reported."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dicom_adapter.database.records import DeliveryRecord
from dicom_adapter.database.store import Store
from stages.lifecycle.locks import now

_MOST_REQUESTS = 8  # for commitment that a late report is taken for


def to_commit(store: Store, destination: str, at: float) -> dict[str, list[DeliveryRecord]]:
    """Return, by job, what a destination is to be asked to commit itself to, once it has all of a job.

    Parameters
    ----------
    store, destination
        The database and the destination's name.
    at
        The time, seconds of service.
    """
    found: dict[str, list[DeliveryRecord]] = {}
    for each in store.to_commit(destination, at):
        found.setdefault(each.job_id, []).append(each)
    return found


def ask(
    store: Store,
    deliveries: Sequence[DeliveryRecord],
    transaction_uid: str,
    *,
    message: str,
    not_before: float,
) -> None:
    """Write down, before it is sent, in which request for commitment these are, and when to ask again.

    Parameters
    ----------
    store, deliveries, transaction_uid
        The database, the deliveries and the UID of the request.
    message
        What is said of it, for people.
    not_before
        Not before this time, seconds of service.
    """
    with store.transaction() as database:
        database.executemany(
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


def explain(store: Store, deliveries: Sequence[DeliveryRecord], message: str) -> None:
    """Write down why a destination has not committed itself to keep these.

    Parameters
    ----------
    store, deliveries
        The database and the deliveries.
    message
        What is said of it, for people.
    """
    with store.transaction() as database:
        database.executemany(
            "UPDATE deliveries SET message = ?, changed = ? WHERE id = ? AND state = 'uncommitted'",
            [(message, now(), each.id) for each in deliveries],
        )


def ask_again(store: Store, job_id: str) -> int:
    """Make the results of a job that wait for commitment due at once; return how many.

    Parameters
    ----------
    store, job_id
        The database and the job's ID.
    """
    with store.transaction() as database:
        return database.execute(
            "UPDATE deliveries SET not_before = 0 WHERE state = 'uncommitted' AND job_id = ?", (job_id,)
        ).rowcount


def send_again(store: Store, deliveries: Sequence[DeliveryRecord], message: str) -> None:
    """Queue what may have arrived, and no report has named, to be sent again.

    Parameters
    ----------
    store, deliveries
        The database and the deliveries.
    message
        What is said of it, for people.
    """
    with store.transaction() as database:
        database.executemany(
            "UPDATE deliveries SET state = 'waiting', unsure = 0, transaction_uid = '', not_before = 0, "
            "message = ?, changed = ? WHERE id = ? AND state = 'uncommitted'",
            [(message, now(), each.id) for each in deliveries],
        )


def without_commitment(store: Store, destination: str) -> int:
    """Release results that wait for the commitment of a destination that is not asked for it any more.

    What it has taken is delivered; what may have arrived waits to be sent. Return how many did wait.

    Parameters
    ----------
    store, destination
        The database and the destination's name.
    """
    if not store.deliveries("uncommitted", destination=destination):
        return 0
    which = "WHERE state = 'uncommitted' AND destination = ?"
    with store.transaction() as database:
        again = database.execute(
            "UPDATE deliveries SET state = 'waiting', transaction_uid = '', not_before = 0, message = '', "  # noqa: S608
            f"changed = ? {which} AND unsure",
            (now(), destination),
        ).rowcount
        taken = database.execute(
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
    store, transaction_uid
        The database and the UID of the request.
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
    with store.transaction() as database:
        lost = database.executemany(
            "UPDATE deliveries SET state = CASE WHEN ? OR refusals + 1 - unsure >= ? THEN 'dead' "  # noqa: S608
            "ELSE 'waiting' END, refusals = refusals + 1 - unsure, unsure = 0, transaction_uid = '', "
            f"message = ?, not_before = ?, changed = ? {where}",
            [
                (uid in refused, most_refusals, why, not_before, now(), *destinations, uid, asked)
                for uid, why in failed.items()
            ],
        ).rowcount
        kept = database.executemany(
            "UPDATE deliveries SET state = 'delivered', status = 'committed', message = '', "  # noqa: S608
            f"unsure = 0, changed = ? {where}",
            [(now(), *destinations, uid, asked) for uid in committed],
        ).rowcount
    return max(kept, 0), max(lost, 0)
