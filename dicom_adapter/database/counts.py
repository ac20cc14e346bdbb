"""How many studies, jobs and deliveries there are in each state."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_adapter.database.store import Store


def counts(store: Store) -> dict[str, dict[str, int]]:
    """Return how many studies and jobs there are in each state."""
    with store.reading() as database:
        return {
            table: {
                row["state"]: row["n"]
                for row in database.execute(f"SELECT state, COUNT(*) AS n FROM {table} GROUP BY state")  # noqa: S608
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
    with store.reading() as database:
        states = {
            (row["destination"], row["state"]): row["n"]
            for row in database.execute(
                "SELECT destination, state, COUNT(*) AS n FROM deliveries GROUP BY destination, state"
            )
        }
        oldest = {
            row["destination"]: max(0.0, store.clock() - row["oldest"])
            for row in database.execute(
                "SELECT destination, MIN(since_s) AS oldest FROM deliveries "
                "WHERE state IN ('waiting', 'dead') GROUP BY destination"
            )
        }
    return states, oldest


def deliveries_of(store: Store, jobs: Sequence[str]) -> dict[tuple[str, str], dict[str, int]]:
    """Return, by job and destination, how many results are in each state.

    Parameters
    ----------
    store, jobs
        The database and the IDs of the jobs.
    """
    found: dict[tuple[str, str], dict[str, int]] = {}
    marks = ", ".join("?" for _ in jobs)
    with store.reading() as database:
        for row in database.execute(
            f"SELECT job_id, destination, state, COUNT(*) AS n FROM deliveries "  # noqa: S608
            f"WHERE job_id IN ({marks}) GROUP BY job_id, destination, state",
            tuple(jobs),
        ):
            found.setdefault((row["job_id"], row["destination"]), {})[row["state"]] = row["n"]
    return found


def last_messages(store: Store) -> dict[str, str]:
    """Return, by destination, why the latest of what waits, is not committed or is dead was not taken."""
    with store.reading() as database:
        return {
            row["destination"]: row["message"]
            for row in database.execute(
                "SELECT destination, message, MAX(changed) FROM deliveries "
                "WHERE state IN ('waiting', 'uncommitted', 'dead') AND message != '' GROUP BY destination"
            )
        }
