"""Storage commitment (PS3.4 J): asked of a destination after it has taken instances, and its report read.

The report may come over the association it was asked by, even before the request is answered, or, as most
archives do it, over one of their own to the adapter's port; `read_report` serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.association import Message, Peer, RequestedAssociation, associated
from dicom_adapter.dimse import commands
from dicom_adapter.dimse.pdus import ProtocolError
from dicom_adapter.storage.results import ResultFile
from dicom_files.damage import parse_errors
from dicom_files.dataset import lenient

_SUCCESS, _FAILED, _INVALID, _UNKNOWN = 0x0000, 0x0110, 0x0115, 0x0211
_SYNTAX = str(ImplicitVRLittleEndian)
_MODEL = str(StorageCommitmentPushModel)
_ACTION = 1
_REASONS = {
    0x0110: "processing failure",
    0x0112: "it does not have it",
    0x0119: "it has it with another SOP class",
    0x0122: "it does not commit itself to this SOP class",
    0x0131: "it has had this request before",
    0x0213: "it is out of resources",
}
PERMANENT = (0x0119, 0x0122)
"""Reasons for which the same would be said of the same instance again."""
TRANSIENT = (0x0131, 0x0213)
"""Reasons that are about the request; it is made again."""


@dataclass(frozen=True, kw_only=True)
class CommitmentReport:
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
    results: Sequence[ResultFile],
    transaction_uid: str,
    *,
    on_report: Callable[[CommitmentReport], None],
    wait_s: float = 0.0,
) -> None:
    """Ask a destination to commit itself to keep instances.

    Parameters
    ----------
    peer, results
        The destination as a DICOM application and the files.
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
    with associated(peer, [(_MODEL, _SYNTAX)]) as association:
        if not association.takes(_MODEL, _SYNTAX):
            raise DestinationError(f"{peer.place} does not offer storage commitment")
        data = _request(results, transaction_uid)
        values: dict[int, int | str] = {
            commands.REQUESTED_SOP_CLASS: _MODEL,
            commands.REQUESTED_SOP_INSTANCE: str(StorageCommitmentPushModelInstance),
            commands.ACTION_TYPE: _ACTION,
        }
        asked = association.call(_MODEL, _SYNTAX, commands.N_ACTION, values, [data], size=len(data))
        reported = False
        while (message := association.message()) and not _answers(message, asked):
            reported |= _take(association, message, on_report)
        status = commands.number(message.fields, commands.STATUS)
        if status != _SUCCESS:
            raise DestinationError(f"{peer.name} refused the request for storage commitment (0x{status:04X})")
        if not reported and wait_s:
            _wait_for_report(association, on_report, wait_s)


def _answers(message: Message, asked: int) -> bool:
    """Return whether a message is the response to our request.

    Raises
    ------
    ProtocolError
        If it is a response to another.
    """
    if not commands.number(message.fields, commands.FIELD) & commands.RESPONSE:
        return False
    if commands.number(message.fields, commands.RESPONDED_TO) != asked:
        raise ProtocolError("it answered another request than ours")
    return True


def _wait_for_report(
    association: RequestedAssociation, on_report: Callable[[CommitmentReport], None], wait_s: float
) -> None:
    association.wait_at_most(wait_s)
    try:
        _take(association, association.message(), on_report)
    except (OSError, EOFError, ProtocolError):
        association.is_over = True  # most archives report over an association of their own


def _take(
    association: RequestedAssociation, message: Message, on_report: Callable[[CommitmentReport], None]
) -> bool:
    """Take a request of the peer, and return whether it was a report that can be read."""
    if commands.number(message.fields, commands.FIELD) != commands.N_EVENT_REPORT:
        association.answer(message, _UNKNOWN)
        return False
    try:
        with lenient():
            report = read_report(read_dataset(BytesIO(message.data), True, True))
    except parse_errors():
        association.answer(message, _INVALID)
        return False
    on_report(report)
    association.answer(message, _SUCCESS)
    return True


def handle_report(
    content: Dataset, caller: str, address: str, on_report: Callable[[CommitmentReport, str, str], bool]
) -> int:
    """Read an N-EVENT-REPORT that came to our port, pass it on, and return the status to answer with.

    Parameters
    ----------
    content
        The event information (PS3.4 table J.3-3).
    caller, address
        AE title and address of who sent it.
    on_report
        Called with the report, AE title and address; returns whether it is believed.
    """
    try:
        report = read_report(content)
    except parse_errors():
        return _INVALID
    return _SUCCESS if on_report(report, caller, address) else _FAILED


def read_report(content: Dataset) -> CommitmentReport:
    """Return what an event report says (PS3.4 table J.3-3).

    Parameters
    ----------
    content
        The data set.
    """
    committed = tuple(str(each.ReferencedSOPInstanceUID) for each in content.get("ReferencedSOPSequence", []))
    failed = {
        str(each.ReferencedSOPInstanceUID): int(each.get("FailureReason", 0x0110))
        for each in content.get("FailedSOPSequence", [])
    }
    return CommitmentReport(transaction_uid=str(content.TransactionUID), committed=committed, failed=failed)


def why_not_kept(reason: int) -> str:
    """Return what a failure reason (0008,1197) says, for people.

    Parameters
    ----------
    reason
        The number.
    """
    return f"it is not kept (0x{reason:04X}, {_REASONS.get(reason, 'a reason of its own')})"


def _request(results: Sequence[ResultFile], transaction_uid: str) -> bytes:
    request = Dataset()
    request.TransactionUID = transaction_uid
    items = []
    for each in results:
        item = Dataset()
        item.ReferencedSOPClassUID = each.sop_class_uid
        item.ReferencedSOPInstanceUID = each.sop_instance_uid
        items.append(item)
    request.ReferencedSOPSequence = DicomSequence(items)
    return bytes(encode(request, True, True) or b"")
