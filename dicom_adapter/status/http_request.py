"""One plain HTTP request, read within a time and a size; anything else is refused with the reason."""

from __future__ import annotations

import base64
import binascii
import io
import re
import socket
from http import HTTPStatus
from http.client import HTTPMessage, parse_headers

from dicom_adapter.supervision.deadline import Deadline

_READ_REST_S = 0.3
_LARGEST_HEAD, _LONGEST_TARGET, _MOST_HEADERS = 16 << 10, 4096, 64
_ONCE = ("host", "authorization", "content-length", "transfer-encoding")
METHODS = ("GET", "HEAD")
_HEADER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*")
_REQUEST = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e]+ HTTP/1\.[01]")


class RequestRefusedError(Exception):
    """A request is not answered, and whoever asked is told why.

    Parameters
    ----------
    status
        The status of the answer.
    why
        The reason, a sentence.
    """

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


def request_line(head: bytes) -> tuple[str, str, str]:
    """Return method, target and version of a request.

    Parameters
    ----------
    head
        Up to its empty line.

    Raises
    ------
    RequestRefusedError
        If its first line or a header is none.
    """
    first, *lines = head.split(b"\r\n")
    if not _REQUEST.fullmatch(first) or not all(map(_HEADER.fullmatch, lines)):
        raise RequestRefusedError(HTTPStatus.BAD_REQUEST, "this is no plain request")
    method, target, version = first.decode("ascii").split(" ")
    return method, target, version


def headers_of(head: bytes, method: str, target: str, version: str) -> HTTPMessage:
    """Return the headers of a request.

    Parameters
    ----------
    head, method, target
        The request up to its empty line, the method of the request and what is asked for.
    version
        The version of HTTP.

    Raises
    ------
    RequestRefusedError
        If it is any but a plain one without a body.
    """
    headers = parse_headers(io.BytesIO(b"\r\n".join([*head.split(b"\r\n")[1:], b"", b""])))
    if method not in METHODS:
        raise RequestRefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "nothing can be changed here")
    if any(len(headers.get_all(name, ())) > 1 for name in _ONCE):
        raise RequestRefusedError(HTTPStatus.BAD_REQUEST, "a header stands there twice")
    if version == "HTTP/1.1" and "Host" not in headers:
        raise RequestRefusedError(HTTPStatus.BAD_REQUEST, "the header Host is missing")
    if "Transfer-Encoding" in headers or headers.get("Content-Length", "0").strip() != "0":
        raise RequestRefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a request has no body here")
    if not target.startswith("/") or "#" in target:
        raise RequestRefusedError(HTTPStatus.BAD_REQUEST, "ask for a path, such as /healthz")
    return headers


def token_in(authorization: str) -> bytes:
    """Return the token of an Authorization header: a bearer token, or the password of HTTP Basic.

    Parameters
    ----------
    authorization
        The value of the header.
    """
    kind, _, rest = authorization.partition(" ")
    if kind.lower() == "bearer":
        return rest.strip().encode()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def head_from(connection: socket.socket, deadline: Deadline) -> bytes:
    """Return a request up to its empty line; nothing if the caller has gone without one.

    Parameters
    ----------
    connection
        The connection.
    deadline
        Until when.
    """
    head = b""
    while (end := head.find(b"\r\n\r\n")) < 0:
        _require_bounded(head)
        try:
            connection.settimeout(deadline.require())
            more = connection.recv(_LARGEST_HEAD)
        except TimeoutError:
            raise RequestRefusedError(HTTPStatus.REQUEST_TIMEOUT, "the request took too long") from None
        if not more:
            return b""
        head += more
    _require_bounded(head[:end])
    return head[:end]


def _require_bounded(head: bytes) -> None:
    if len(head.partition(b"\r\n")[0]) > _LONGEST_TARGET:
        raise RequestRefusedError(HTTPStatus.REQUEST_URI_TOO_LONG, "no path here is as long")
    if len(head) > _LARGEST_HEAD or head.count(b"\n") > _MOST_HEADERS:
        raise RequestRefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "these are too many headers")


def read_rest(connection: socket.socket) -> None:
    """Take what a refused caller still sends, for a moment, so that it can read why it was refused.

    Parameters
    ----------
    connection
        The connection.
    """
    connection.shutdown(socket.SHUT_WR)
    deadline, most = Deadline(_READ_REST_S), _LARGEST_HEAD * 4
    while most > 0 and not deadline.is_over():
        connection.settimeout(max(0.01, deadline.left_s()))
        heard = len(connection.recv(_LARGEST_HEAD))
        most = most - heard if heard else 0
