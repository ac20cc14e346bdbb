"""Storage commitment as the delivery workers do it: asked for, asked again, its reports written down."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv6Address, ip_address

from pydicom.uid import generate_uid

from clara_wf.report.logs import without_uids
from dicom_adapter.config.blocks import Config
from dicom_adapter.config.dicom_blocks import Destination
from dicom_adapter.context import AdapterContext
from dicom_adapter.database.commitments import ask, explain, send_again, take_report, to_commit
from dicom_adapter.database.records import DeliveryRecord
from dicom_adapter.database.retry_while_locked import retry_while_locked
from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.commitment import (
    PERMANENT,
    TRANSIENT,
    CommitmentReport,
    request_commitment,
    why_not_kept,
)
from dicom_adapter.delivery.connection import DestinationConnections
from dicom_adapter.delivery.senders import peer_of
from dicom_adapter.storage.results import ResultFile, read_result
from dicom_adapter.supervision.failures import is_resource_error
from stages.errors import OutputError
from stages.runtime.retry import Backoff

logger = logging.getLogger(__name__)

REFUSALS = 5  # of one instance, before it is a dead letter
_REPORT_S = 2.0  # how long the association stays open for the report
_UNANSWERED = 3  # requests, after which what may have arrived is sent again


def commits(destination: Destination) -> bool:
    """Return whether a destination is asked for storage commitment."""
    return destination.commitment and not destination.dicomweb


class CommitRequests:
    """Asks destinations to commit themselves, and takes their reports.

    Parameters
    ----------
    context
        What the adapter's parts work with.
    asking
        How long to wait for a report before it is asked again.
    sending
        How long to wait before what is not kept is sent again.
    """

    def __init__(self, context: AdapterContext, *, asking: Backoff, sending: Backoff) -> None:
        self._context, self._asking, self._sending = context, asking, sending

    def ask_due(
        self,
        destination: Destination,
        connections: DestinationConnections,
        *,
        set_aside: Callable[[Sequence[DeliveryRecord], Exception], None],
    ) -> None:
        """Ask a destination for all that is due, job by job.

        Parameters
        ----------
        destination
            The destination.
        connections
            Makes the connections to destinations, and closes them.
        set_aside
            Takes what cannot be asked for, for a reason that nobody foresaw.
        """
        for deliveries in to_commit(self._context.store, destination.name, self._context.clock()).values():
            try:
                self._ask_or_send_again(destination, deliveries, connections)
            except Exception as error:  # a border: one job harms no other
                if is_resource_error(error):
                    raise
                set_aside(deliveries, error)

    def _ask_or_send_again(
        self,
        destination: Destination,
        deliveries: Sequence[DeliveryRecord],
        connections: DestinationConnections,
    ) -> None:
        unheard = [
            each for each in deliveries if each.unsure and len(each.transaction_uid.split()) >= _UNANSWERED
        ]
        if unheard:
            message = f"{destination.name} does not report whether it has arrived; it is sent again"
            send_again(self._context.store, unheard, message)
        elif not connections.are_ended:
            self._ask(destination, deliveries, connections)

    def take_report(self, report: CommitmentReport, caller: str, address: str) -> tuple[bool, int]:
        """Write down a report that came to our port; return whether it is believed, and how many are lost.

        Parameters
        ----------
        report
            The report.
        caller, address
            AE title and address of who reports.
        """
        names = reporting(self._context.config(), caller, address)
        if not names:
            logger.warning(
                "%r at %s reports on storage commitment, and is no destination that was asked; if it is one, "
                "list that address under 'sources'",
                *(caller, address),
            )
            return False, 0
        return True, self._take(report, names)

    def _take(self, report: CommitmentReport, names: Collection[str]) -> int:
        failed = {uid: reason for uid, reason in report.failed.items() if reason not in TRANSIENT}
        not_before = self._context.clock() + self._sending.wait_s(1)
        kept, lost = retry_while_locked(
            lambda: take_report(
                self._context.store,
                report.transaction_uid,
                report.committed,
                {uid: why_not_kept(reason) for uid, reason in failed.items()},
                destinations=names,
                refused=[uid for uid, reason in failed.items() if reason in PERMANENT],
                most_refusals=REFUSALS,
                not_before=not_before,
            )
        )
        logger.info("%s commits itself to keep %d results, and not to keep %d", ", ".join(names), kept, lost)
        return lost

    def _ask(
        self,
        destination: Destination,
        deliveries: Sequence[DeliveryRecord],
        connections: DestinationConnections,
    ) -> None:
        """Ask for commitment; a request that is refused, lost or not answered is made anew later."""
        transaction = str(generate_uid(prefix=None))
        wait_s = self._asking.wait_s(max(len(each.transaction_uid.split()) for each in deliveries) + 1)
        again = f"it is asked again in {_minutes(wait_s)}"
        ask(
            self._context.store,
            deliveries,
            transaction,
            message=f"{destination.name} was asked for storage commitment and has not reported yet; {again}",
            not_before=self._context.clock() + wait_s,
        )

        def on_report(report: CommitmentReport) -> None:
            self._take(report, [destination.name])

        try:
            request_commitment(
                peer_of(destination, self._context.config().dicom.scu, connections),
                _as_sent(deliveries),
                transaction,
                on_report=on_report,
                wait_s=_REPORT_S,
            )
        except (DestinationError, OutputError) as error:
            if connections.are_ended:
                return
            self._context.metrics.destination_errors.labels(destination.name).inc()
            message = f"{without_uids(str(error))}; {again}"
            logger.warning("storage commitment: %s", message)
            explain(self._context.store, deliveries, message)


def reporting(config: Config, caller: str, address: str) -> list[str]:
    """Return the names of the destinations whose report it is that somebody sends.

    They have the caller's AE title, and its address: as their host, or as a source of that AE title.

    Parameters
    ----------
    config, caller, address
        The configuration, the AE title of who sends it and the peer's IP address.
    """
    sources = [each.host_ip for each in config.dicom.scp.sources if each.ae_title == caller]
    return [
        each.name
        for each in config.dicom.scu.destinations
        if commits(each)
        and each.ae_title == caller
        and ("" in sources or _plain(address) in _addresses([each.host_ip, *sources]))
    ]


def _addresses(hosts: Sequence[str]) -> set[str]:
    connections = DestinationConnections()
    return {_plain(address) for host in hosts for address in connections.addresses_of(host)}


def _plain(address: str) -> str:
    """Return an address as it is written, an IPv4 one that came over IPv6 as IPv4."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found)


def _as_sent(deliveries: Sequence[DeliveryRecord]) -> list[ResultFile]:
    return [read_result(each.path) for each in deliveries]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
