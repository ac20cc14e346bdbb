"""C-GET: an archive sends a study over the association that we have opened.

For each SOP class there is one association that offers every transfer syntax in a context of its own, so that
the archive sends instances as they lie there.

References
----------
DICOM PS3.4 C.4.3 (C-GET), PS3.7 D.3.3.4 (roles).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.uid import UID
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet

from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.association import (
    MOST_CONTEXTS,
    Message,
    Peer,
    RequestedAssociation,
    associated,
    require_response,
)
from dicom_adapter.dimse import commands
from dicom_adapter.dimse.pdus import ProtocolError
from dicom_adapter.retrieval.answers import ListedInstance
from dicom_adapter.retrieval.expected import ExpectedReceiver
from dicom_adapter.retrieval.levels import Request, requests_for
from dicom_adapter.retrieval.query_scu import MEDIUM, PENDING, SYNTAX, encoded_query, meaning_of
from dicom_adapter.scp.negotiation import best_first
from dicom_files import uids

GET = str(StudyRootQueryRetrieveInformationModelGet)
_MORE = 1000  # messages beside those of the instances
_INSTANCE_MESSAGES = 3  # for each: itself, and responses in between
_USUAL = (
    uids.CTImageStorage,
    uids.EnhancedCTImageStorage,
    uids.LegacyConvertedEnhancedCTImageStorage,
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.128",
    uids.SecondaryCaptureImageStorage,
)
"""What is asked for where an archive does not say of which SOP classes a study is."""


class NoGetError(DestinationError):
    """An archive does not answer C-GET, or sends nothing by it."""


def retrieve_by_c_get(
    peer: Peer,
    study_uid: str,
    wanted: Sequence[ListedInstance],
    missing: set[str],
    receiver: ExpectedReceiver,
) -> None:
    """Retrieve the instances of a study that are missing; see `Archive.retrieve`.

    Parameters
    ----------
    peer
        The archive.
    study_uid, wanted, missing, receiver
        As `Archive.retrieve` has them.

    Raises
    ------
    NoGetError
        If the archive does not answer C-GET, or sends nothing of a request by it.
    DestinationError
        If it goes away, or fails.
    """
    classes = sorted({each.sop_class_uid for each in wanted if each.sop_instance_uid in missing})
    for sop_class in classes:
        offered = [sop_class] if sop_class else [*_USUAL]
        contexts = [(GET, SYNTAX), *_contexts(offered)]
        with associated(peer, contexts, provided=offered) as association:
            if not association.takes(GET, SYNTAX):
                raise NoGetError(f"{peer.place} does not answer C-GET")
            if not any(association.provides(each) for each in offered):
                raise NoGetError(f"{peer.place} does not send {_named(offered)} by C-GET")
            of_class = [each for each in wanted if each.sop_class_uid == sop_class]
            for request in requests_for(study_uid, of_class, missing, alone=_is_alone(wanted, sop_class)):
                before = len(missing)
                status = _status_of_get(association, request, receiver)
                if status != commands.SUCCESS and len(missing) == before:  # else the rest is asked for again
                    raise NoGetError(f"{peer.place} sends nothing of it by C-GET: {meaning_of(status)}")


def _contexts(sop_classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    syntaxes = best_first()
    for each in sop_classes:
        yield from ((each, syntax) for syntax in syntaxes[: (MOST_CONTEXTS - 1) // len(sop_classes)])


def _is_alone(wanted: Sequence[ListedInstance], sop_class: str) -> set[str]:
    """Return the series that hold nothing but one SOP class, and may be asked for as a whole."""
    mixed = {each.series_uid for each in wanted if each.sop_class_uid != sop_class}
    return {each.series_uid for each in wanted} - mixed


def _status_of_get(association: RequestedAssociation, request: Request, receiver: ExpectedReceiver) -> int:
    """Make a request, keep what comes, and return the final status."""
    data = encoded_query(request.level, request.values)
    values: commands.Values = {commands.SOP_CLASS: GET, commands.PRIORITY: MEDIUM}
    asked = association.call(GET, SYNTAX, commands.C_GET, values, [data], size=len(data))
    for _ in range(_INSTANCE_MESSAGES * request.count + _MORE):
        head = association.command()
        if commands.number(head.fields, commands.FIELD) == commands.C_STORE:
            _take(association, head, receiver)
        else:
            require_response(head.fields, asked, commands.C_GET)
            association.data_of(head)
            status = commands.number(head.fields, commands.STATUS)
            if status not in PENDING:
                return status
        association.wait_at_most(association.peer.timeout_s)
    raise ProtocolError("it sends more messages than the study has instances")


def _take(association: RequestedAssociation, head: Message, receiver: ExpectedReceiver) -> None:
    """Keep an instance that comes, and answer once it is on disk."""
    sop_class, syntax = association.syntaxes_of(head.context)
    sink = receiver.sink(
        sop_class_uid=sop_class,
        sop_instance_uid=commands.text(head.fields, commands.SOP_INSTANCE),
        transfer_syntax=syntax,
    )
    try:
        for piece in association.pieces_of(head):
            sink.add(piece)
        sink.keep()
    finally:
        sink.close()
    association.wait_at_most(association.peer.timeout_s)
    association.answer(head, commands.SUCCESS)


def _named(sop_classes: Sequence[str]) -> str:
    return UID(sop_classes[0]).name if len(sop_classes) == 1 else "images"
