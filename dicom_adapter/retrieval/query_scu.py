"""C-FIND: which studies an archive has, and which instances a study.

References
----------
DICOM PS3.4 Annex C (Study Root; levels STUDY, SERIES, IMAGE), C.2.2.2 (matching).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from clara_wf.run.archives import StudyQuery
from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.association import Peer, RequestedAssociation, associated
from dicom_adapter.dimse import commands
from dicom_adapter.dimse.pdus import ProtocolError
from dicom_adapter.retrieval.answers import (
    ACCESSION,
    MODALITIES,
    MOST_INSTANCES,
    MOST_STUDIES,
    OF_STUDY,
    PATIENT_ID,
    SERIES_UID,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY_DATE,
    STUDY_UID,
    Attributes,
)
from dicom_files.damage import parse_errors
from dicom_files.dataset import lenient

FIND, SYNTAX = str(StudyRootQueryRetrieveInformationModelFind), str(ImplicitVRLittleEndian)
PENDING = (0xFF00, 0xFF01)
MEDIUM = 0
_LONGEST_VALUE = 1024


def found_by_c_find(peer: Peer, query: StudyQuery) -> list[Attributes]:
    """Return what an archive says of the studies that match.

    Raises
    ------
    DestinationError
        If it cannot be reached, does not answer queries, or has too many.
    """
    asked = {
        STUDY_UID: query.study_uid,
        ACCESSION: query.accession,
        PATIENT_ID: query.patient_id,
        STUDY_DATE: query.dates,
        MODALITIES: query.modality,
    }
    with _querying(peer) as association:
        return list(
            _answers(association, "STUDY", {tag: asked.get(tag, "") for tag in OF_STUDY}, MOST_STUDIES)
        )


def listed_by_c_find(peer: Peer, study_uid: str) -> list[Attributes]:
    """Return what an archive says of the instances of a study, each with its series.

    Parameters
    ----------
    peer
        The archive.
    study_uid
        Its StudyInstanceUID.

    Raises
    ------
    DestinationError
        If it cannot be reached, does not answer queries, or has too many.
    """
    listed: list[Attributes] = []
    with _querying(peer) as association:
        all_series = {STUDY_UID: study_uid, SERIES_UID: ""}
        for series in list(_answers(association, "SERIES", all_series, MOST_INSTANCES)):
            place = {STUDY_UID: study_uid, SERIES_UID: series.get(SERIES_UID, "")}
            left = MOST_INSTANCES - len(listed)
            found = _answers(association, "IMAGE", {**place, SOP_INSTANCE: "", SOP_CLASS: ""}, left)
            listed += [{**place, **{tag: text for tag, text in each.items() if text}} for each in found]
    return listed


def encoded_query(level: str, values: Mapping[int, str]) -> bytes:
    """Return the identifier of a query or a retrieval, in Implicit VR Little Endian.

    Parameters
    ----------
    level
        Query/Retrieve Level (0008,0052).
    values
        By tag; "" asks for the value.
    """
    query = Dataset()
    with lenient():
        if not all(each.isascii() for each in values.values()):
            query.SpecificCharacterSet = "ISO_IR 192"
        query.QueryRetrieveLevel = level
        for tag, text in values.items():
            query.add_new(tag, _VRS[tag], text.split("\\") if "\\" in text else text)
        return bytes(encode(query, True, True) or b"")


_VRS = {
    **dict.fromkeys((STUDY_UID, SERIES_UID, SOP_INSTANCE, SOP_CLASS), "UI"),
    **dict(zip(OF_STUDY[:8], ("DA", "TM", "SH", "CS", "LO", "PN", "LO", "DA"), strict=True)),
    **dict.fromkeys(OF_STUDY[9:], "IS"),
}


def meaning_of(status: int) -> str:
    """Return a status of C-FIND, C-GET or C-MOVE in words (PS3.4 tables C.4-1, C.4-2, C.4-3).

    Parameters
    ----------
    status
        Status (0000,0900).
    """
    words = next((text for begin, end, text in _MEANINGS if begin <= status <= end), "it failed")
    return f"{words} (0x{status:04X})"


_MEANINGS = (
    (0x0122, 0x0122, "it does not support the SOP class"),
    (0x0124, 0x0124, "we may not do that there"),
    (0xA700, 0xA700, "it is out of resources"),
    (0xA701, 0xA701, "it is out of resources, and cannot count the matches"),
    (0xA702, 0xA702, "it is out of resources, and cannot send"),
    (0xA801, 0xA801, "it does not know the move destination"),
    (0xA900, 0xA900, "it does not understand the identifier"),
    (0xB000, 0xB000, "not everything could be sent"),
    (0xFE00, 0xFE00, "it was cancelled there"),
    (0xC000, 0xCFFF, "it cannot process that"),
)


@contextmanager
def _querying(peer: Peer) -> Iterator[RequestedAssociation]:
    with associated(peer, [(FIND, SYNTAX)]) as association:
        if not association.takes(FIND, SYNTAX):
            raise DestinationError(
                f"{peer.place} does not answer queries (C-FIND, Study Root); is it an archive?"
            )
        yield association


def _answers(
    association: RequestedAssociation, level: str, values: Mapping[int, str], most: int
) -> Iterator[Attributes]:
    data = encoded_query(level, values)
    command: dict[int, int | str] = {commands.SOP_CLASS: FIND, commands.PRIORITY: MEDIUM}
    asked = association.call(FIND, SYNTAX, commands.C_FIND, command, [data], size=len(data))
    for _ in range(most + 1):
        response = association.response(asked, commands.C_FIND)
        status = commands.number(response.fields, commands.STATUS)
        if status == commands.SUCCESS:
            return
        if status not in PENDING:
            raise DestinationError(
                f"{association.peer.place} does not answer our query: {meaning_of(status)}"
            )
        yield _attributes(response.data, values)
        association.wait_at_most(association.peer.timeout_s)
    raise DestinationError(
        f"{association.peer.place} finds more than {most}, or does not end; "
        "narrow it down (--date, --modality)"
    )


def _attributes(identifier: bytes, wanted: Iterable[int]) -> Attributes:
    """Return what a response says of what was asked for, in its own character set."""
    found = {}
    try:
        with lenient():
            answer = read_dataset(BytesIO(identifier), True, True)
            for tag in wanted:
                if tag in answer and (text := _text(answer[tag].value)):
                    found[tag] = text
    except parse_errors() as error:
        raise ProtocolError(f"its answer to a query cannot be read ({type(error).__name__})") from error
    return found


def _text(value: object) -> str:
    texts = map(str, value) if isinstance(value, MultiValue | list) else [str(value or "")]
    return "\\".join(texts)[:_LONGEST_VALUE]
