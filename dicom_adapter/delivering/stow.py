"""STOW-RS (PS3.18 10.5) to a DICOMweb destination: one instance a request, over one connection."""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from dicom_adapter.delivering.answers import Answer, DestinationError, Told
from dicom_adapter.delivering.results import Result

_PIECE = 2**20
_FAILED_SEQUENCE = "00081198"
_FAILURE_REASON = "00081197"
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_LOGIN = (401, 403, 407)


@dataclass(frozen=True, kw_only=True)
class StowClient:
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
        Longest silence, seconds.
    """

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: ssl.SSLContext | None = None
    timeout_s: float = 30.0

    def send(self, results: Sequence[Result], told: Told) -> None:
        """Send files one after the other, and tell of each what was said.

        Raises
        ------
        DestinationError
            If the server cannot be reached, goes away, or does not let us in.
        """
        connection = self._connect()
        try:
            for each in results:
                told(each, self._store(connection, each))
        except (OSError, http.client.HTTPException) as error:
            raise DestinationError(f"{self.name} at {self._place()} does not answer: {error}") from error
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            return http.client.HTTPSConnection(
                host, parts.port, timeout=self.timeout_s, context=self.tls or ssl.create_default_context()
            )
        return http.client.HTTPConnection(host, parts.port, timeout=self.timeout_s)

    def _store(self, connection: http.client.HTTPConnection, result: Result) -> Answer:
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            **self.headers,
            "Accept": "application/dicom+json",
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(len(head) + result.path.stat().st_size + len(tail)),
        }
        path = urlsplit(self.url).path.rstrip("/") + "/studies"
        connection.request("POST", path, body=_pieces(result, head, tail), headers=headers)
        response = connection.getresponse()
        body = response.read()
        if response.status in _LOGIN:
            raise DestinationError(
                f"{self.name} at {self._place()} does not let us in (HTTP {response.status}); "
                f"check its 'headers'"
            )
        return answer_of(response.status, body, self.name)

    def _place(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def answer_of(status: int, body: bytes, name: str) -> Answer:
    """Return what a response to one instance means (PS3.18 tables 10.5.3-1 and I.2-1).

    A 409 is said where any instance failed, and a 202 may hold failures or warnings; the body tells them
    apart.
    """
    told = f"HTTP {status}"
    reason = _failure_reason(body)
    if status in (200, 202) and reason is None:
        return Answer(verdict="accepted", status=told)
    if status in _BUSY or (reason is not None and 0xA700 <= reason <= 0xA7FF):
        return Answer(verdict="busy", status=told, message=f"{name} cannot take it now ({told})")
    why = told if reason is None else f"{told}, 0x{reason:04X}"
    return Answer(verdict="refused", status=told, message=f"{name} refused it ({why})")


def _failure_reason(body: bytes) -> int | None:
    """Return the failure reason of the one instance that was sent; None if it did not fail."""
    try:
        content: Any = json.loads(body or b"{}")
        failed = content[_FAILED_SEQUENCE]["Value"][0]
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    try:
        return int(failed[_FAILURE_REASON]["Value"][0])
    except (ValueError, KeyError, TypeError, IndexError):
        return 0x0110  # processing failure


def _pieces(result: Result, head: bytes, tail: bytes) -> Iterator[bytes]:
    yield head
    with result.path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
    yield tail
