"""STOW-RS (PS3.18 10.5) to a DICOMweb destination: one instance a request, over one connection.

Whether an instance that may have arrived is there is asked by QIDO-RS (PS3.18 10.6).
"""

from __future__ import annotations

import json
import secrets
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from dicom_adapter.delivery.answers import Answer, DestinationError, OnAnswer, Sender
from dicom_adapter.delivery.connection import DestinationConnections
from dicom_adapter.delivery.http_client import HttpCalls, not_the_service
from dicom_adapter.delivery.query import places_of
from dicom_adapter.storage.results import ResultFile
from stages.errors import OutputError

_PIECE = 2**20
_FAILED_SEQUENCE = "00081198"
_FAILURE_REASON = "00081197"
_SOP_INSTANCE = "00080018"
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_UNKNOWN_END = (500, 502, 504)
_PROCESSING_FAILURE = 0x0110


@dataclass(frozen=True, kw_only=True)
class StowClient(Sender):
    """Sends files by STOW-RS.

    Attributes
    ----------
    name
        What the configuration calls the destination.
    url
        Its DICOMweb service, such as ``https://pacs:8443/dicom-web``; files go to ``<url>/studies``.
    headers
        What is sent with every request, such as ``Authorization``.
    tls
        How the server's certificate is checked, for https.
    timeout_s
        Longest time for a connection, and for an answer from its first to its last byte, seconds.
    slowest_rate
        What it takes of an instance at least, bytes a second, beside one `timeout_s`.
    connections
        Where ours are known, so that a stop ends them.
    """

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: ssl.SSLContext | None = None
    timeout_s: float = 30.0
    slowest_rate: int = 32768
    connections: DestinationConnections = field(
        default_factory=DestinationConnections, repr=False, compare=False
    )

    def send(self, results: Sequence[ResultFile], on_answer: OnAnswer) -> None:
        """Send files one after the other, and tell of each what was said.

        Raises
        ------
        DestinationError
            If the server cannot be reached, is too slow, goes away, or does not let us in.
        """
        with closing(self.calls()) as calls:
            for each in results:
                on_answer(each, self._store(calls, each))

    def found(self, results: Sequence[ResultFile]) -> set[str] | None:
        """Return the SOPInstanceUIDs that the service has of some; None if it cannot be asked.

        Parameters
        ----------
        results
            The files.

        Raises
        ------
        DestinationError
            If the server cannot be reached, is too slow, or goes away.
        """
        found: set[str] = set()
        with closing(self.calls()) as calls:
            for place, uids in places_of(results).items():
                for uid in uids:
                    path = f"/studies/{place.study_uid}/series/{place.series_uid}/instances"
                    answer = calls.ask(f"{path}?SOPInstanceUID={uid}")
                    if answer.status == 200:
                        found |= _uids_in(answer.body) & {uid}
                    elif answer.status not in (204, 404):
                        return None
        return found

    def calls(self) -> HttpCalls:
        """Return what speaks with the service."""
        return HttpCalls(
            name=self.name,
            url=self.url,
            headers=self.headers,
            tls=self.tls,
            timeout_s=self.timeout_s,
            slowest_rate=self.slowest_rate,
            connections=self.connections,
        )

    def _store(self, calls: HttpCalls, result: ResultFile) -> Answer:
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        calls.open()
        try:
            size = len(head) + result.path.stat().st_size + len(tail)
            answer = calls.post("/studies", kind, _pieces(result, head, tail), size)
        except DestinationError as error:
            raise DestinationError(str(error), in_flight=result.sop_instance_uid) from error
        except OSError as error:
            return Answer(verdict="busy", status="file", message=f"a result cannot be read: {error}")
        if why := not_the_service(answer, "STOW-RS"):
            raise DestinationError(f"{calls.place} {why}")
        return answer_of(answer.status, answer.body, self.name)


def answer_of(status: int, body: bytes, name: str) -> Answer:
    """Return what a response to one instance means (PS3.18 tables 10.5.3-1 and I.2-1).

    A 409 is said where any instance failed, and a 202 may hold failures or warnings; the body tells them
    apart. A 200 of something else than a store, such as a page to log in at, is no success.

    Parameters
    ----------
    status, body, name
        The status of the response, its bytes and what the destination is called.
    """
    status_text = f"HTTP {status}"
    is_answer, reason = _failure_reason(body)
    if status in (200, 202) and is_answer and reason is None:
        return Answer(verdict="accepted", status=status_text)
    if status in _BUSY or (reason is not None and 0xA700 <= reason <= 0xA7FF):
        message = f"{name} cannot take it now ({status_text})"
        return Answer(
            verdict="busy", status=status_text, message=message, may_be_there=status in _UNKNOWN_END
        )
    if status in (200, 202) and not is_answer:
        message = f"{name} says {status_text}, and then nothing that is an answer of STOW-RS; check its URL"
        return Answer(verdict="refused", status=status_text, message=message, may_be_there=True)
    why = status_text if reason is None else f"{status_text}, 0x{reason:04X}"
    return Answer(verdict="refused", status=status_text, message=f"{name} refused it ({why})")


def _failure_reason(body: bytes) -> tuple[bool, int | None]:
    """Return whether a body is an answer, and the failure reason of the instance if it has one."""
    content = _json(body)
    if content is None:  # some servers answer in XML whatever they are asked for
        return (
            b"<NativeDicomModel" in body,
            _PROCESSING_FAILURE if _FAILED_SEQUENCE.encode() in body else None,
        )
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    try:
        failed = content[_FAILED_SEQUENCE]["Value"][0]
    except (KeyError, TypeError, IndexError):
        return isinstance(content, dict), None
    try:
        return True, int(failed[_FAILURE_REASON]["Value"][0])
    except (ValueError, KeyError, TypeError, IndexError):
        return True, _PROCESSING_FAILURE


def _uids_in(body: bytes) -> set[str]:
    """Return the SOPInstanceUIDs of what a search has found."""
    found = _json(body)
    uids = set()
    for each in found if isinstance(found, list) else []:
        try:
            uids.add(str(each[_SOP_INSTANCE]["Value"][0]))
        except (KeyError, TypeError, IndexError):
            continue
    return uids


def _json(body: bytes) -> Any:
    try:
        return json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return None


def _pieces(result: ResultFile, head: bytes, tail: bytes) -> Iterator[bytes]:
    yield head
    try:
        with result.path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece
    except OSError as error:
        raise OutputError(f"a result cannot be read: {error}") from error
    yield tail
