"""QIDO-RS: which studies a DICOMweb service has, and which instances a study, page after page.

References
----------
DICOM PS3.18 10.6 (search), F.2 (DICOM JSON model).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from clara_wf.run.archives import StudyQuery
from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.http_client import HttpCalls, not_the_service
from dicom_adapter.retrieval.answers import (
    MOST_INSTANCES,
    MOST_STUDIES,
    OF_STUDY,
    SERIES_UID,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY_UID,
    Attributes,
)

_PAGE = 200
_OF_INSTANCE = (STUDY_UID, SERIES_UID, SOP_INSTANCE, SOP_CLASS)
_LONGEST_VALUE = 1024


def found_by_qido(calls: HttpCalls, query: StudyQuery) -> list[Attributes]:
    """Return what a service says of the studies that match.

    Raises
    ------
    DestinationError
        If it cannot be reached, does not answer, or has too many.
    """
    asked = {
        "StudyInstanceUID": query.study_uid,
        "AccessionNumber": query.accession,
        "PatientID": query.patient_id,
        "StudyDate": query.dates,
        "ModalitiesInStudy": query.modality,
    }
    given = [(key, text) for key, text in asked.items() if text]
    fields = [("includefield", f"{tag:08X}") for tag in OF_STUDY]
    return list(_pages(calls, "/studies", [*given, *fields], STUDY_UID, OF_STUDY, MOST_STUDIES))


def listed_by_qido(calls: HttpCalls, study_uid: str) -> list[Attributes]:
    """Return what a service says of the instances of a study.

    Parameters
    ----------
    calls
        To the service.
    study_uid
        Its StudyInstanceUID.

    Raises
    ------
    DestinationError
        If it cannot be reached, does not answer, or has too many.
    """
    path = f"/studies/{study_uid}/instances"
    fields = [("includefield", f"{tag:08X}") for tag in _OF_INSTANCE]
    return list(_pages(calls, path, fields, SOP_INSTANCE, _OF_INSTANCE, MOST_INSTANCES))


def _pages(
    calls: HttpCalls, path: str, query: list[tuple[str, str]], key: int, tags: Iterable[int], most: int
) -> Iterator[Attributes]:
    """Yield what is found, until a page has nothing new."""
    seen: set[str] = set()
    while True:
        where = [*query, ("limit", str(_PAGE)), ("offset", str(len(seen)))]
        page = _page(calls, f"{path}?{urlencode(where)}", tags)
        new = {text: each for each in page if (text := each.get(key, "")) not in seen}
        if len(new) < len(page) and len(page) >= _PAGE:
            raise DestinationError(
                f"{calls.place} answers with the same page again and again; tell who runs it"
            )
        yield from new.values()
        seen |= {*new}
        if len(seen) > most:
            raise DestinationError(
                f"{calls.place} finds more than {most}, or does not end; narrow it down (--date, --modality)"
            )
        if not new:
            return


def _page(calls: HttpCalls, path: str, tags: Iterable[int]) -> list[Attributes]:
    answer = calls.ask(path)
    if answer.status == 204:
        return []
    if why := not_the_service(answer, "QIDO-RS"):
        raise DestinationError(f"{calls.place} {why}")
    if answer.status not in (200, 206):
        raise DestinationError(f"{calls.place} does not answer our search (HTTP {answer.status})")
    found = _json(answer.body)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise DestinationError(f"{calls.place} answers our search with no DICOM JSON; check its URL")
    return [{tag: text for tag in tags if (text := _text(each.get(f"{tag:08X}")))} for each in found]


def _text(element: Any) -> str:
    values = element.get("Value") if isinstance(element, Mapping) else None
    texts = [_one(each) for each in values] if isinstance(values, list) else []
    return "\\".join(texts)[:_LONGEST_VALUE]


def _one(value: Any) -> str:
    if isinstance(value, Mapping):  # of a name
        value = value.get("Alphabetic", "")
    return "" if value is None else str(value)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
