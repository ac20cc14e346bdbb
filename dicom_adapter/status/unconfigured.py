"""What waits for something that the configuration does not have any more, and would wait in silence."""

from __future__ import annotations

from dicom_adapter.config.blocks import Config
from dicom_adapter.database.counts import counts_by_destination
from dicom_adapter.database.store import Store

_WAIT = ("waiting", "uncommitted")


def unconfigured(store: Store, config: Config) -> list[str]:
    """Return what waits for a destination or an AE title that is not configured, a sentence each."""
    destinations = {each.name for each in config.dicom.scu.destinations}
    titles = {each.ae_title for each in config.dicom.scp.ae_titles}
    with store.reading() as database:
        receiving = database.execute(
            "SELECT ae_title, COUNT(*) AS n FROM studies WHERE state = 'receiving' GROUP BY ae_title"
        ).fetchall()
    waiting: dict[str, int] = {}
    for (name, state), count in counts_by_destination(store)[0].items():
        if state in _WAIT and name not in destinations:
            waiting[name] = waiting.get(name, 0) + count
    return [
        f"{count} results wait for {name}, which is not configured any more; add it again"
        for name, count in sorted(waiting.items())
    ] + [
        f"{row['n']} studies wait that were sent to {row['ae_title']}, which is not configured any more; "
        "add it again"
        for row in receiving
        if row["ae_title"] not in titles
    ]
