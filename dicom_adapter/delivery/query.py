"""Whether a destination has instances that may have arrived: asked by C-FIND before they are sent again.

References
----------
DICOM PS3.4 Annex C (query, Study Root, level IMAGE; a list of UIDs matches each of them).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.association import Peer, RequestedAssociation, associated
from dicom_adapter.dimse import commands
from dicom_adapter.dimse.pdus import ProtocolError
from dicom_adapter.storage.results import ResultFile
from dicom_files.damage import parse_errors
from dicom_files.dataset import lenient

_MODEL, _SYNTAX = str(StudyRootQueryRetrieveInformationModelFind), str(ImplicitVRLittleEndian)
_AT_ONCE = 50  # UIDs in one query
_SUCCESS, _PENDING = 0x0000, (0xFF00, 0xFF01)
_MEDIUM = 0


@dataclass(frozen=True)
class SeriesKey:
    """The study and the series of an instance.

    Attributes
    ----------
    study_uid
        Of the study.
    series_uid
        Of the series.
    """

    study_uid: str
    series_uid: str


def places_of(results: Iterable[ResultFile]) -> dict[SeriesKey, list[str]]:
    """Return SOPInstanceUIDs by study and series; files that do not say theirs are left out.

    Parameters
    ----------
    results
        The files.
    """
    found: dict[SeriesKey, list[str]] = {}
    for each in results:
        try:
            with lenient():
                tags = ["StudyInstanceUID", "SeriesInstanceUID"]
                header = dcmread(each.path, stop_before_pixels=True, specific_tags=tags)
            place = SeriesKey(str(header.StudyInstanceUID), str(header.SeriesInstanceUID))
        except parse_errors():
            continue
        found.setdefault(place, []).append(each.sop_instance_uid)
    return found


def found_by_query(peer: Peer, results: Sequence[ResultFile]) -> set[str] | None:
    """Return the SOPInstanceUIDs that a destination has of some; None if it cannot be asked.

    Parameters
    ----------
    peer, results
        The destination as a DICOM application and the files.

    Raises
    ------
    DestinationError
        If it cannot be reached, or went away.
    """
    with associated(peer, [(_MODEL, _SYNTAX)]) as association:
        if not association.takes(_MODEL, _SYNTAX):
            return None
        found: set[str] = set()
        for place, uids in places_of(results).items():
            for begin in range(0, len(uids), _AT_ONCE):
                there = _ask(association, place, uids[begin : begin + _AT_ONCE])
                if there is None:
                    return None
                found |= there
        return found


def _ask(association: RequestedAssociation, place: SeriesKey, uids: Sequence[str]) -> set[str] | None:
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID, query.SeriesInstanceUID = place.study_uid, place.series_uid
    query.SOPInstanceUID = list(uids) if len(uids) > 1 else uids[0]
    data = bytes(encode(query, True, True) or b"")
    values: dict[int, int | str] = {commands.SOP_CLASS: _MODEL, commands.PRIORITY: _MEDIUM}
    asked = association.call(_MODEL, _SYNTAX, commands.C_FIND, values, [data], size=len(data))
    found: set[str] = set()
    for _ in range(len(uids) + 1):
        response = association.response(asked, commands.C_FIND)
        status = commands.number(response.fields, commands.STATUS)
        if status not in _PENDING:
            return found if status == _SUCCESS else None
        found |= {_uid_of(response.data)} & {*uids}
    raise DestinationError(f"{association.peer.place} finds more instances than it was asked for")


def _uid_of(identifier: bytes) -> str:
    try:
        with lenient():
            return str(read_dataset(BytesIO(identifier), True, True).SOPInstanceUID)
    except parse_errors() as error:
        raise ProtocolError(f"its answer to a query cannot be read ({type(error).__name__})") from error
