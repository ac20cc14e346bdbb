"""What happens on the listening side, passed on to studies, metrics, log and audit trail."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from dicom_adapter.config.blocks import Config
from dicom_adapter.observability.audit import AuditTrail
from dicom_adapter.observability.metrics import Metrics
from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.observability.throttle import EventThrottle
from dicom_adapter.scp.association import Ending
from dicom_adapter.scp.storage_scp import ScpObserver
from dicom_adapter.storage.receiver import KeptInstance
from dicom_adapter.studies.tracker import StudyTracker
from stages.errors import printable

logger = logging.getLogger(__name__)

_STRANGER = "unknown"  # names that anybody makes up would fill the metrics
_LEVELS = {
    "released": logging.DEBUG,
    "no request": logging.DEBUG,
    "lost": logging.INFO,
    "ended": logging.INFO,
}


@dataclass
class _Visit:
    called: str
    caller: str
    address: str
    by_study: Counter[str] = field(default_factory=Counter)


class ReceivingEvents(ScpObserver):
    """Watches the listening side.

    Parameters
    ----------
    studies
        Follows the studies.
    metrics
        What is counted.
    trail
        The audit trail.
    config
        Returns the configuration as it is now.
    """

    def __init__(
        self, studies: StudyTracker, metrics: Metrics, trail: AuditTrail, config: Callable[[], Config]
    ) -> None:
        self._studies, self._metrics, self._trail, self._config = studies, metrics, trail, config
        self._lock = threading.Lock()
        self._visits: dict[int, _Visit] = {}
        self._throttle = EventThrottle()

    def opened(self, association: int, ae_title: str, caller: str, *, address: str) -> None:
        """Note that somebody has called one of our names."""
        with self._lock:
            self._visits[association] = _Visit(ae_title, caller, address)
        self._metrics.associations.labels(ae_title, "accepted").inc()
        self._metrics.open_associations.inc()

    def rejected(self, ae_title: str, caller: str, reason: str, *, address: str) -> None:
        """Note that somebody may not."""
        ours = {each.ae_title for each in self._config().dicom.scp.ae_titles}
        self._metrics.associations.labels(ae_title if ae_title in ours else _STRANGER, "rejected").inc()
        if self._throttle.allows("rejected", address):
            logger.warning("rejected an association of %r with %r: %s", caller, ae_title, reason)
            self._trail.rejected(source=caller, address=address, called=ae_title, why=reason)

    def kept(self, association: int, kept: KeptInstance) -> None:
        """Note an instance that is on disk, and will be acknowledged."""
        received = kept.received
        outcome = "conflict" if received.conflict else "new" if kept.is_new else "repeated"
        self._metrics.instances.labels(received.ae_title, outcome).inc()
        self._metrics.received_bytes.labels(received.ae_title).inc(received.size)
        if received.conflict:
            hashed = study_hash(received.study_uid)
            logger.warning(
                "an instance of study %s came again with other content; both are kept, the first is used",
                hashed,
                extra={"study": hashed},
            )
        with self._lock:
            if visit := self._visits.get(association):
                visit.by_study[received.study_uid] += 1
        self._studies.kept(association, received)

    def refused(self, association: int, status: int, reason: str) -> None:
        """Note an instance that was not taken."""
        with self._lock:
            visit = self._visits.get(association)
        self._metrics.instances.labels(visit.called if visit else _STRANGER, "refused").inc()
        if self._throttle.allows("refused", visit.address if visit else ""):
            logger.warning("refused an instance with 0x%04X: %s", status, printable(reason))

    def closed(self, association: int, *, is_released: bool) -> None:
        """Note that an association is over, and whether its peer has said that it was done."""
        self._studies.closed(association, is_released=is_released)
        with self._lock:
            visit = self._visits.pop(association, None)
        if visit is None:
            return
        self._metrics.open_associations.dec()
        for study_uid, count in visit.by_study.items():
            hashed = study_hash(study_uid)
            logger.info(
                "%s sent %d instances of study %s to %s",
                *(visit.caller, count, hashed, visit.called),
                extra={"study": hashed},
            )
            self._trail.received(
                study=hashed, source=visit.caller, address=visit.address, called=visit.called, instances=count
            )

    def ended(self, ending: Ending, reason: str, *, address: str) -> None:
        """Note how a connection ended, also one that never was an association."""
        self._metrics.connections.labels(ending).inc()
        level = logging.INFO if ending == "aborted" and not reason else _LEVELS.get(ending, logging.WARNING)
        if logger.isEnabledFor(level) and self._throttle.allows(ending, address):
            logger.log(level, "the connection with %s ended (%s): %s", address, ending, printable(reason))

    def catch_up(self, *, all_of_it: bool = False) -> None:
        """Sum up what happened too often to be logged each time."""
        for each in self._throttle.summaries(all_of_it=all_of_it):
            summary = (
                f"{each.count} more in {each.seconds:.0f} s, "
                f"from {each.addresses} addresses, most from {each.most or 'unknown'}"
            )
            logger.warning("%s: %s", each.kind, summary)
            if each.kind == "rejected":
                self._trail.rejected(source=_STRANGER, address=each.most, called=_STRANGER, why=summary)
