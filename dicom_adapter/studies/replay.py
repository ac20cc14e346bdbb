"""What was set aside is worked on again, by command; the adapter may run meanwhile."""

from __future__ import annotations

from pathlib import Path

from dicom_adapter.database.set_aside import SetAside, take_back
from dicom_adapter.database.store import Store
from dicom_adapter.storage.receiver import read_received


def replay_item(store: Store, item: SetAside) -> None:
    """Let something that is set aside be worked on again.

    An instance is read anew, and written into the database; its study is received again then. Everything
    else is what it was before, and the adapter comes upon it.

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
