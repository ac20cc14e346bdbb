"""Deliveries: what is due, what may have arrived, and what is given up."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from dicom_adapter.database import set_aside
from dicom_adapter.database.connection import Database, marks
from dicom_adapter.database.records import DeliveryRecord, delivery_of
from stages.lifecycle.locks import now

_MOST_DUE = 1000


class DeliveryTable(Database):
    """The deliveries of a database."""

    def deliveries(
        self, *states: str, destination: str | None = None, job_id: str | None = None
    ) -> list[DeliveryRecord]:
        """Return deliveries, the oldest first.

        Parameters
        ----------
        states
            Which; none for all.
        destination
            Only those to this one; None for all.
        job_id
            Only those of this job; None for all.
        """
        wanted = [f"state IN ({marks(states)})"] * bool(states)
        values: list[object] = [*states]
        for name, value in (("destination", destination), ("job_id", job_id)):
            if value is not None:
                wanted.append(f"{name} = ?")
                values.append(value)
        which = f"WHERE {' AND '.join(wanted)}" if wanted else ""
        rows = self._rows(f"SELECT * FROM deliveries {which} ORDER BY id", *values)  # noqa: S608
        return self._read("delivery", rows, delivery_of)

    def due(self, destination: str, at: float, *, most: int = _MOST_DUE) -> list[DeliveryRecord]:
        """Return what may be sent to a destination now, in order, but only so many at once.

        Parameters
        ----------
        destination
            The destination's name.
        at
            Seconds of service.
        most
            How many.
        """
        not_aside = set_aside.PASSED_OVER.format(id="id", kind="delivery")
        rows = self._rows(
            f"SELECT * FROM deliveries WHERE destination = ? AND {not_aside} "  # noqa: S608
            "AND state = 'waiting' AND not_before <= ? ORDER BY not_before, id LIMIT ?",
            *(destination, at, most),
        )
        return self._read("delivery", rows, delivery_of)

    def to_commit(self, destination: str, at: float) -> list[DeliveryRecord]:
        """Return what a destination is to be asked to commit itself to, of jobs that it has all of.

        Parameters
        ----------
        destination
            The destination's name.
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
        """Change the state of a delivery, and other columns, such as its tries.

        Parameters
        ----------
        delivery_id, state, more
            Its number in the database, the new state and the other columns by name.
        """
        with self.transaction() as database:
            self._move(database, "deliveries", delivery_id, state, **more)


def try_everything_now(store: Database) -> None:
    """Make everything due that waits for its time; called at a start.

    Parameters
    ----------
    store
        The database.
    """
    with store.transaction() as database:
        for table in ("jobs", "deliveries"):
            database.execute(f"UPDATE {table} SET not_before = 0 WHERE not_before != 0")  # noqa: S608


def mark_as_sending(store: Database, deliveries: Collection[DeliveryRecord]) -> None:
    """Write down, before any of them goes out, that these may arrive without our hearing of it.

    Parameters
    ----------
    store, deliveries
        The database and the deliveries.
    """
    with store.transaction() as database:
        database.executemany(
            "UPDATE deliveries SET unsure = 1 WHERE id = ? AND state = 'waiting'",
            [(each.id,) for each in deliveries],
        )


def put_off(
    store: Database,
    deliveries: Collection[DeliveryRecord],
    *,
    message: str | None,
    not_before: float,
    unsure: Collection[int],
) -> None:
    """Write down that a destination could not be reached, so that these wait.

    Parameters
    ----------
    store, deliveries
        The database and the deliveries.
    message
        Why; None for what was said before.
    not_before
        Not before this time, seconds of service.
    unsure
        IDs of those that may have arrived.
    """
    with store.transaction() as database:
        database.executemany(
            "UPDATE deliveries SET message = COALESCE(?, message), not_before = ?, unsure = ?, changed = ? "
            "WHERE id = ? AND state = 'waiting'",
            [(message, not_before, each.id in unsure, now(), each.id) for each in deliveries],
        )


def has_other_content(store: Database, delivery: DeliveryRecord) -> bool:
    """Return whether a destination has, or gets, other content under the same SOPInstanceUID.

    Parameters
    ----------
    store, delivery
        The database and the delivery.
    """
    with store.transaction() as database:
        found = database.execute(
            "SELECT 1 FROM deliveries o JOIN deliveries d ON d.id = ? WHERE o.id != d.id "
            "AND o.sop_instance_uid = d.sop_instance_uid AND o.destination = d.destination "
            "AND o.content != d.content AND o.state IN ('waiting', 'uncommitted', 'delivered') LIMIT 1",
            (delivery.id,),
        )
        return found.fetchone() is not None


def dead_letter_older(store: Database, destination: str, before_s: float, *, reason: str) -> int:
    """Make dead letters of what has waited for a destination since before a time, seconds of service.

    Parameters
    ----------
    store, destination, before_s
        The database, the destination's name and the time.
    reason
        Why, a sentence.
    """
    with store.transaction() as database:
        return database.execute(
            "UPDATE deliveries SET state = 'dead', changed = ?, "
            "message = ? || CASE message WHEN '' THEN '' ELSE '; last: ' || message END "
            "WHERE destination = ? AND state IN ('waiting', 'dead') AND state = 'waiting' "
            "AND since_s < ?",
            (now(), reason, destination, before_s),
        ).rowcount


def forget_contents(database: sqlite3.Connection, study_id: int) -> None:
    """Forget what results of a removed study hold, so that they are delivered again when it comes again.

    Parameters
    ----------
    database
        An open database, in a transaction.
    study_id
        The study's number in the database.
    """
    database.execute(
        "UPDATE deliveries SET content = '' WHERE job_id IN (SELECT id FROM jobs WHERE study_id = ?)",
        (study_id,),
    )


def contents_at(database: sqlite3.Connection, job_id: str, destination: str, uid: str) -> set[str]:
    """Return what a destination has, or gets, under a SOPInstanceUID of other jobs of the same study.

    Parameters
    ----------
    database
        An open database, in a transaction.
    job_id, destination, uid
        The job's ID, the destination's name and the SOPInstanceUID.
    """
    rows = database.execute(
        "SELECT d.content FROM deliveries d "
        "JOIN jobs j ON j.id = d.job_id JOIN studies s ON s.id = j.study_id "
        "WHERE d.sop_instance_uid = ? AND d.destination = ? AND d.job_id != ? AND d.content != '' "
        "AND d.state IN ('waiting', 'uncommitted', 'delivered') AND s.study_uid = "
        "(SELECT s.study_uid FROM jobs j JOIN studies s ON s.id = j.study_id WHERE j.id = ?)",
        (uid, destination, job_id, job_id),
    )
    return {str(row["content"]) for row in rows}


def left_without(database: sqlite3.Connection, study_id: int) -> list[int]:
    """Return what other jobs have not sent since those of a study would send the same, which was cancelled.

    They are of the same study under another AE title; of several that made the same it is the first.

    Parameters
    ----------
    database
        An open database, in a transaction.
    study_id
        The study's number in the database.
    """
    rows = database.execute(
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
