"""WADO-RS: a DICOMweb service sends a study as parts of a multipart answer, each kept while it comes.

References
----------
DICOM PS3.18 10.4 (retrieve), 8.7.3.5.2 (transfer-syntax=*: as it lies there).
"""

from __future__ import annotations

from collections.abc import Sequence

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.http_client import HttpCalls, HttpStream, not_the_service
from dicom_adapter.retrieval.answers import SERIES_UID, SOP_INSTANCE, ListedInstance
from dicom_adapter.retrieval.expected import ExpectedReceiver
from dicom_adapter.retrieval.levels import Request, requests_for
from dicom_adapter.retrieval.part10 import IncomingFile

_ANY = 'multipart/related; type="application/dicom"'
_AS_IT_LIES = f"{_ANY}; transfer-syntax=*"
_NOT_ACCEPTED = (400, 406)
_MOST_HEADERS = 4096


def retrieve_by_wado(
    calls: HttpCalls,
    study_uid: str,
    wanted: Sequence[ListedInstance],
    missing: set[str],
    receiver: ExpectedReceiver,
) -> None:
    """Retrieve the instances of a study that are missing; see `Archive.retrieve`.

    Parameters
    ----------
    calls
        To the service.
    study_uid, wanted, missing, receiver
        As `Archive.retrieve` has them.

    Raises
    ------
    DestinationError
        If the service cannot be reached, does not send them, or goes away.
    """
    series = {each.series_uid for each in wanted}
    for request in requests_for(study_uid, wanted, missing, alone=series):
        place = f"/studies/{study_uid}/series/{request.values[SERIES_UID]}"
        for path in _paths(place, request):
            if not _is_sent(calls, path, _AS_IT_LIES, receiver):
                _is_sent(calls, path, _ANY, receiver)


def _paths(place: str, request: Request) -> list[str]:
    uids = request.values.get(SOP_INSTANCE, "")
    return [f"{place}/instances/{uid}" for uid in uids.split("\\")] if uids else [place]


def _is_sent(calls: HttpCalls, path: str, accept: str, receiver: ExpectedReceiver) -> bool:
    """Take all that an address holds; return False if it is not given in this way."""
    with calls.stream(path, accept) as answer:
        if answer.status in _NOT_ACCEPTED and accept != _ANY:
            return False
        if why := not_the_service(answer, "such instances by WADO-RS"):
            raise DestinationError(f"{calls.place} {why}")
        if answer.status not in (200, 206):
            raise DestinationError(f"{calls.place} does not send the study (HTTP {answer.status})")
        _take(calls.place, answer, receiver)
    return True


def _take(place: str, answer: HttpStream, receiver: ExpectedReceiver) -> None:
    kind, options = parse_options_header(answer.content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/related" or not boundary:
        raise DestinationError(f"{place} answers WADO-RS with no multipart of DICOM files; check its URL")
    parts = _Parts(place, receiver)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.begin,
                "on_part_data": parts.add,
                "on_part_end": parts.end,
                "on_end": parts.finish,
            },
            max_header_size=_MOST_HEADERS,
        )
        for piece in answer.pieces:
            parser.write(piece)
    except FormParserError as error:
        raise DestinationError(f"{place} sends a multipart answer that is none: {error}") from error
    finally:
        parts.close()
    if not parts.is_finished:
        raise DestinationError(f"{place} ended its answer before its last part was whole")


class _Parts:
    """The parts of an answer, told of by the parser."""

    def __init__(self, place: str, receiver: ExpectedReceiver) -> None:
        self._place, self._receiver = place, receiver
        self._file: IncomingFile | None = None
        self.is_finished = False

    def begin(self) -> None:
        self._file = IncomingFile(self._place, self._receiver)

    def add(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None, "a part has begun"
        self._file.add(data[start:end])

    def end(self) -> None:
        assert self._file is not None, "a part has begun"
        self._file.keep()
        self.close()

    def finish(self) -> None:
        self.is_finished = True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
