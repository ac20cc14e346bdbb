"""Received instances written into the database: batch by batch, after a crash, and again when replayed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from dicom_adapter.database.records import ReceivedInstance
from dicom_adapter.database.retry_while_locked import retry_while_locked
from dicom_adapter.database.set_aside import SetAside, items_of, set_aside, take_back
from dicom_adapter.database.store import Store
from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.storage.paths import AdapterPaths
from dicom_adapter.storage.receiver import read_received, received_files
from dicom_adapter.supervision.failures import is_resource_error, reason_of, traceback_of

logger = logging.getLogger(__name__)


def write_each(
    store: Store, batch: Sequence[ReceivedInstance], *, until: Callable[[], bool] = lambda: False
) -> int:
    """Write instances into the database, at once where that can be; return how many were written.

    One that cannot be written is set aside: its file stays, and the others are written.

    Parameters
    ----------
    store, batch
        The database and the instances.
    until
        Tells when to give up while the database is locked; then `sqlite3.OperationalError` is raised.
    """
    if not batch:
        return 0
    try:
        retry_while_locked(lambda: store.add_instances(batch), until=until)
    except Exception as error:  # a border: one instance harms no other
        if is_resource_error(error):
            raise
        if len(batch) > 1:
            half = len(batch) // 2
            return sum(write_each(store, part, until=until) for part in (batch[:half], batch[half:]))
        hashed = study_hash(batch[0].study_uid)
        logger.error(
            "an instance of study %s cannot be written into the database",
            hashed,
            exc_info=traceback_of(error),
        )
        set_aside(store, "instance", batch[0].path, reason=reason_of(error), study=hashed)
        return 0
    return len(batch)


def recover_instances(store: Store, paths: AdapterPaths) -> int:
    """Write acknowledged instances into the database that a crash has kept out of them; return how many.

    What cannot be read or written is set aside, stays where it is, and is said once.
    """
    found, aside = [], items_of(store, "instance")
    store.set_damaged_aside()
    for path in received_files(paths):
        if str(path) in aside or store.knows(path):
            continue
        try:
            found.append(read_received(path))
        except Exception as error:  # a border: what one file holds keeps no adapter from its start
            set_aside(store, "instance", path, reason=reason_of(error))
    if aside:
        logger.warning("%d received files are set aside: clara-wf adapter status", len(aside))
    return write_each(store, found)


def replay_item(store: Store, item: SetAside) -> None:
    """Queue something that is set aside to be worked on again.

    An instance is read anew, and written into the database; its study is received again then. Everything
    else is what it was before, and the adapter comes upon it.

    Parameters
    ----------
    store, item
        The database and what is set aside.

    Raises
    ------
    InputError
        If it is an instance that cannot be read; it stays set aside.
    """
    received = read_received(Path(item.item)) if item.kind == "instance" else None
    with store.transaction() as database:
        if received is not None:
            database.execute("DELETE FROM instances WHERE path = ?", (item.item,))
        if item.kind == "job":
            database.execute(
                "UPDATE jobs SET state = 'queued', tries = 0, not_before = 0 "
                "WHERE CAST(id AS TEXT) = ? AND state NOT IN ('done', 'superseded')",
                (item.item,),
            )
    if received is not None:
        store.add_instances([received])
    with store.transaction() as database:
        take_back(database, item.id)
