"""HTTP requests to a destination over one connection, each within its time, and answers of bounded size."""

from __future__ import annotations

import http.client
import ssl
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.association import BUFFERED, why_unreachable
from dicom_adapter.delivery.connection import DestinationConnection, DestinationConnections
from dicom_adapter.supervision.deadline import Deadline

LARGEST_ANSWER = 1 << 20
_PIECE = 1 << 18
_SHOWN = 200
_LOGIN = (401, 403, 407)
_MOVED = (301, 302, 303, 307, 308)
_NO_SERVICE = (404, 405, 501)
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class HttpAnswer:
    """An answer: its status, where else it says to go, and its body.

    Attributes
    ----------
    status
        Its number.
    location
        Where else it says to go; "" for nowhere.
    body
        Its bytes.
    """

    status: int
    location: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class HttpStream:
    """An answer of any size: its status, where else it says to go, what it is, and its body in pieces.

    Attributes
    ----------
    status
        Of HTTP.
    location
        Where else it says to go.
    content_type
        What the body is.
    pieces
        The body, as it comes.
    """

    status: int
    location: str
    content_type: str
    pieces: Iterator[bytes]


class HttpCalls:
    """A connection to a DICOMweb service, opened by the first request and again where it was closed.

    Parameters
    ----------
    name
        What the configuration calls the destination.
    url
        The root of its service.
    headers
        What is sent with every request.
    tls
        How to secure it; None for not at all.
    timeout_s
        Longest time for a connection with its TLS, and for the whole of an answer, seconds.
    slowest_rate
        What the server takes of a body at least, and sends of one of any size, bytes a second, beside one
        `timeout_s`.
    connections
        Makes the connections to destinations, and closes them.
    """

    def __init__(
        self,
        *,
        name: str,
        url: str,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None,
        timeout_s: float,
        slowest_rate: int,
        connections: DestinationConnections,
    ) -> None:
        parts = urlsplit(url)
        self._headers, self._timeout_s, self._slowest_rate = headers, timeout_s, slowest_rate
        self._path = parts.path.rstrip("/")
        self._is_tls = parts.scheme == "https"
        port = parts.port or _PORTS.get(parts.scheme, 80)
        host = parts.hostname or ""
        self.place = f"{name} at {f'[{host}]' if ':' in host else host}:{port}"
        if self._is_tls and tls is None:
            tls = ssl.create_default_context()
        self._http = _Http(host, port, connections, tls if self._is_tls else None, timeout_s)

    def close(self) -> None:
        """Hang up."""
        self._http.hang_up()

    def open(self) -> None:
        """Connect, where there is no connection.

        Raises
        ------
        DestinationError
            If the server cannot be reached.
        """
        try:
            self._http.connect()
        except OSError as error:
            raise DestinationError(f"{self.place} {why_unreachable(error, is_tls=self._is_tls)}") from error

    def ask(self, path: str) -> HttpAnswer:
        """GET what lies below the root of the service.

        Parameters
        ----------
        path
            What follows the service's root.

        Raises
        ------
        DestinationError
            If the server cannot be reached, is too slow, or goes away.
        """
        return self._exchange("GET", path, {"Accept": "application/dicom+json"}, None, 0)

    @contextmanager
    def stream(self, path: str, accept: str) -> Iterator[HttpStream]:
        """GET what lies below the root of the service, of any size; hang up behind it.

        Parameters
        ----------
        path
            Below the root, with its query.
        accept
            What the answer may be.

        Raises
        ------
        DestinationError
            If the server cannot be reached, is too slow, or goes away, also while the body is read.
        """
        self.open()
        try:
            with self._told():
                self._http.limit(self._timeout_s)
                self._http.request("GET", self._path + path, headers={**self._headers, "Accept": accept})
                response = self._http.getresponse()
                if response.getheader("Content-Encoding", "identity").strip().lower() != "identity":
                    raise http.client.HTTPException("its answer is packed, which nobody asked for")
            yield HttpStream(
                status=response.status,
                location=response.getheader("Location", ""),
                content_type=response.getheader("Content-Type", ""),
                pieces=self._pieces(response),
            )
        finally:
            self._http.hang_up()

    def _pieces(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        with self._told():
            while piece := response.read1(_PIECE):
                self._http.extend(len(piece) / self._slowest_rate)
                yield piece
            if response.length:
                raise http.client.HTTPException("it hung up within its answer")

    def post(self, path: str, content_type: str, body: Iterator[bytes], size: int) -> HttpAnswer:
        """POST a body of so many bytes below the root of the service.

        Parameters
        ----------
        path, content_type, body
            What follows the service's root, what the body is and the body in pieces.
        size
            Bytes.

        Raises
        ------
        DestinationError
            If the server cannot be reached, is too slow, or goes away.
        """
        headers = {
            "Accept": "application/dicom+json",
            "Content-Type": content_type,
            "Content-Length": str(size),
        }
        return self._exchange("POST", path, headers, body, size)

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: Iterator[bytes] | None, size: int
    ) -> HttpAnswer:
        self.open()
        with self._told():
            self._http.limit(round(self._timeout_s + size / self._slowest_rate, 3))
            try:
                self._http.request(method, self._path + path, body=body, headers={**self._headers, **headers})
            except (BrokenPipeError, ConnectionResetError):
                self._http.limit(self._timeout_s)  # it may have said why before it hung up
            self._http.limit(round(self._timeout_s + min(size, BUFFERED) / self._slowest_rate, 3))
            return self._read(self._http.getresponse())

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            self._http.hang_up()
            raise DestinationError(
                f"{self.place} does not answer: {error or type(error).__name__}"
            ) from error

    def _read(self, response: http.client.HTTPResponse) -> HttpAnswer:
        body = response.read(LARGEST_ANSWER + 1)
        if len(body) > LARGEST_ANSWER:
            raise http.client.HTTPException(f"its answer has more than {LARGEST_ANSWER >> 20} MiB")
        if response.length:
            raise http.client.HTTPException("it hung up within its answer")
        if response.getheader("Content-Encoding", "identity").strip().lower() != "identity":
            body = _unpacked(body)
        location = response.getheader("Location", "")
        return HttpAnswer(status=response.status, location=location, body=body)


def not_the_service(answer: HttpAnswer | HttpStream, service: str) -> str:
    """Return why what answers is not the service that its configuration says it is; "" if it may be.

    Parameters
    ----------
    answer
        What it said.
    service
        Such as ``STOW-RS``.
    """
    status_text = f"(HTTP {answer.status})"
    if answer.status in _LOGIN:
        return f"does not let us in {status_text}; check its 'dicomweb-token'"
    if answer.status in _MOVED:
        moved_to = answer.location[:_SHOWN]
        return f"says that it has moved {status_text} to {moved_to!r}; write that into 'dicomweb'"
    if answer.status in _NO_SERVICE:
        return f"has no {service} there {status_text}; check the URL in 'dicomweb'"
    return ""


class _Http(http.client.HTTPConnection):
    """An HTTP connection over a `DestinationConnection`."""

    def __init__(
        self,
        host: str,
        port: int,
        connections: DestinationConnections,
        tls: ssl.SSLContext | None,
        timeout_s: float,
    ) -> None:
        super().__init__(host, port)
        self._connections, self._tls, self._timeout_s = connections, tls, timeout_s
        self._line: DestinationConnection | None = None

    def connect(self) -> None:
        """Connect, where there is no connection."""
        if self.sock is None:
            self._line = self._connections.connect(
                self.host, self.port, tls=self._tls, timeout_s=self._timeout_s
            )
            self.sock = self._line  # what http.client uses of a socket

    def hang_up(self) -> None:
        """Close the connection, whoever reads from it."""
        self.close()
        if self._line is not None:
            self._line.hang_up()

    def limit(self, seconds: float) -> None:
        """Set the time within which everything from now on must be over, seconds."""
        assert self._line is not None, "it is connected"
        self._line.deadline = Deadline(seconds)

    def extend(self, seconds: float) -> None:
        """Add to that time, seconds."""
        assert self._line is not None, "it is connected"
        self._line.deadline.extend(seconds)


def _unpacked(body: bytes) -> bytes:
    """Return what was packed, though nobody asked for that, up to the size of any answer."""
    try:
        unpacking = zlib.decompressobj(_GZIP_OR_ZLIB)
        plain = unpacking.decompress(body, LARGEST_ANSWER)
    except zlib.error as error:
        raise http.client.HTTPException(f"its answer cannot be unpacked: {error}") from error
    if unpacking.unconsumed_tail:
        raise http.client.HTTPException(f"its answer has more than {LARGEST_ANSWER >> 20} MiB")
    return plain
