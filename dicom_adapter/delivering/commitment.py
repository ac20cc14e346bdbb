"""Storage commitment (PS3.4 J): asked of a destination after it has taken instances, and its report read.

The report may come over the association it was asked by, or, as most archives do it, over one of their own to
the adapter's port; `read_report` serves both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from dicom_adapter.delivering.answers import DestinationError
from dicom_adapter.delivering.results import Result
from dicom_adapter.delivering.scu import Peer, associated

_SUCCESS = 0x0000
_INVALID = 0x0115
_POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a destination reports on a request for commitment.

    Attributes
    ----------
    transaction_uid
        The request.
    committed
        SOPInstanceUIDs that it keeps.
    failed
        Failure reason by SOPInstanceUID of those that it does not.
    """

    transaction_uid: str
    committed: tuple[str, ...]
    failed: dict[str, int]


def request_commitment(
    peer: Peer,
    results: Sequence[Result],
    transaction_uid: str,
    *,
    on_report: Callable[[Report], None],
    wait_s: float = 0.0,
) -> None:
    """Ask a destination to commit itself to keep instances.

    Parameters
    ----------
    transaction_uid
        Names the request; its report has the same.
    on_report
        Called if the report comes over this very association.
    wait_s
        How long the association is held open for it, seconds.

    Raises
    ------
    DestinationError
        If the destination cannot be reached, or does not take the request.
    """
    reported: list[bool] = []

    def handle(event: evt.Event) -> tuple[int, None]:
        status = handle_report(event, on_report)
        reported.append(True)
        return status, None

    contexts = [(str(StorageCommitmentPushModel), str(ImplicitVRLittleEndian))]
    with associated(peer, contexts, evt_handlers=[(evt.EVT_N_EVENT_REPORT, handle)]) as association:
        status, _ = association.send_n_action(
            _request(results, transaction_uid),
            1,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
        if "Status" not in status:
            raise DestinationError(f"{peer.name} did not answer the request for storage commitment")
        if status.Status != _SUCCESS:
            raise DestinationError(
                f"{peer.name} refused the request for storage commitment (0x{status.Status:04X})"
            )
        deadline = time.monotonic() + wait_s
        while not reported and association.is_established and time.monotonic() < deadline:
            time.sleep(_POLL_S)


def handle_report(event: evt.Event, on_report: Callable[[Report], None]) -> int:
    """Read an N-EVENT-REPORT, pass it on, and return the status to answer with."""
    try:
        report = read_report(event.event_information)
    except (AttributeError, ValueError, TypeError, KeyError):
        return _INVALID
    on_report(report)
    return _SUCCESS


def read_report(content: Dataset) -> Report:
    """Return what an event report says (PS3.4 table J.3-3)."""
    committed = tuple(str(each.ReferencedSOPInstanceUID) for each in content.get("ReferencedSOPSequence", []))
    failed = {
        str(each.ReferencedSOPInstanceUID): int(each.get("FailureReason", 0x0110))
        for each in content.get("FailedSOPSequence", [])
    }
    return Report(transaction_uid=str(content.TransactionUID), committed=committed, failed=failed)


def _request(results: Sequence[Result], transaction_uid: str) -> Dataset:
    request = Dataset()
    request.TransactionUID = transaction_uid
    items = []
    for each in results:
        item = Dataset()
        item.ReferencedSOPClassUID = each.sop_class_uid
        item.ReferencedSOPInstanceUID = each.sop_instance_uid
        items.append(item)
    request.ReferencedSOPSequence = DicomSequence(items)
    return request
