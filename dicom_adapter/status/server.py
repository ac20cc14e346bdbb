"""HTTP for those who run the adapter: ``/healthz``, ``/readyz``, ``/metrics``, the status page, reports.

The standard library's server is enough: a handful of read-only answers to a few callers, one request a
connection. A request has a total deadline, a bounded size and no body. So many are open at most, and a new
one takes the place of the one that has waited longest for its caller. ``/healthz`` and ``/readyz`` say
nothing but yes or why not, and are open to probes; everything else asks for a token wherever others than
this machine can connect. The token is a bearer token (Prometheus) or the password of HTTP Basic (a browser),
whatever the user name.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import io
import ipaddress
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.client import parse_headers
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dicom_adapter.observability import metrics
from dicom_adapter.status.page import Page, policy, render
from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.supervisor import Supervisor
from dicom_adapter.supervision.worker import heartbeat
from stages.errors import SettingsError
from stages.runtime import job_files

logger = logging.getLogger(__name__)

REQUEST_S = 5.0
"""From the first byte of a request to its last."""

_ANSWER_S = 30.0
_MOST_CONNECTIONS = 16
_WAIT_FOR_PLACE_S, _HEAR_OUT_S = 1.0, 0.3
_LARGEST_HEAD, _LONGEST_TARGET, _MOST_HEADERS = 16 << 10, 4096, 64
_LARGEST_REPORT = 256 << 20
_ONCE = ("host", "authorization", "content-length", "transfer-encoding")
_METHODS = ("GET", "HEAD")
_HEADER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*")
_REQUEST = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e]+ HTTP/1\.[01]")
_END_S = 2.0
_POLL_S = 0.1  # how soon it ends when asked to
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_HTML = "text/html; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the server asks of the adapter.

    Attributes
    ----------
    why_not_ready
        Returns why no studies can be taken now; "" if they can.
    page
        Returns what the status page shows.
    metrics
        Returns the metrics in Prometheus' text form.
    report
        Returns the file with a job's report; None if there is no such job or report.
    why_unhealthy
        Returns why the adapter has to be started again; "" if it need not.
    """

    why_not_ready: Callable[[], str]
    page: Callable[[], Page]
    metrics: Callable[[], bytes]
    report: Callable[[str], Path | None]
    why_unhealthy: Callable[[], str] = str


@contextmanager
def serve(
    host: str,
    port: int,
    answers: Answers,
    *,
    token: str | None,
    request_s: float = REQUEST_S,
    supervisor: Supervisor | None = None,
) -> Iterator[int]:
    """Answer until the block ends; gives the port.

    Parameters
    ----------
    host, port
        Where to listen; port 0 for any that is free.
    token
        What a caller has to show; None for nothing, where only this machine can connect.
    request_s
        How long a caller may take for its request, seconds.
    supervisor
        Watches the thread that answers; None for one of its own.

    Raises
    ------
    SettingsError
        If the address cannot be used, or is open to others and there is no token.
    """
    if token is None and not is_loopback(host):
        raise SettingsError(
            f"the status page at {host} can be reached from outside; name a file with a token for it "
            f"(http: token-file:), or use 127.0.0.1"
        )
    try:
        server = _Server((host, port), answers, token, request_s)
    except OSError as error:
        raise SettingsError(f"cannot answer HTTP at {host}:{port}: {error.strerror}") from error
    worker = (supervisor or Supervisor()).worker("http", partial(server.serve_forever, _POLL_S))
    worker.start()
    try:
        yield int(server.server_address[1])
    finally:
        worker.stop()
        server.shutdown()
        worker.join(Deadline(_END_S))
        server.server_close()


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can connect to an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], answers: Answers, token: str | None, request_s: float
    ) -> None:
        self.answers, self.token, self.request_s = answers, token, request_s
        self._changed = threading.Condition()
        self._open = 0
        self._waiting: dict[socket.socket, None] = {}  # for their request, the first one first
        super().__init__(address, _Handler)

    def service_actions(self) -> None:
        """Give a sign of life."""
        heartbeat()

    def get_request(self) -> Any:
        """Return the next connection; where there are too many files, not at once again."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_POLL_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, if there is place for one more or can be made."""
        with self._changed:
            if self._open >= _MOST_CONNECTIONS and self._waiting:
                self._hang_up_on_the_longest()
            has_place = self._changed.wait_for(lambda: self._open < _MOST_CONNECTIONS, _WAIT_FOR_PLACE_S)
            if has_place:
                self._open += 1
                self._waiting[request] = None
        if has_place:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make place for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changed:
                self._open -= 1
                self._waiting.pop(request, None)
                self._changed.notify()

    def _hang_up_on_the_longest(self) -> None:
        longest = next(iter(self._waiting))
        del self._waiting[longest]
        with suppress(OSError):
            longest.shutdown(socket.SHUT_RDWR)

    def has_asked(self, request: socket.socket) -> None:
        """Let a connection finish, whose request is there."""
        with self._changed:
            self._waiting.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with a connection."""
        logger.warning("a request was not answered", exc_info=True)


class _RequestRefusedError(Exception):
    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "clara-adapter", ""
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        """Answer one request, whatever it is."""
        self.command, self.request_version, self.requestline = "", "HTTP/1.1", ""
        try:
            head = _head_from(self.connection, Deadline(self.server.request_s))
            self.server.has_asked(self.connection)
            if head:
                self._understand(head)
                self._answer(unquote(self.path.partition("?")[0]))
        except _RequestRefusedError as refused:
            self.server.has_asked(self.connection)
            self._refuse(refused)
        except OSError:
            pass  # who asked has gone
        except Exception:
            logger.exception("a request could not be answered")
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"not now; the log says why\n", _TEXT)

    def _refuse(self, refused: _RequestRefusedError) -> None:
        with suppress(OSError):
            self._send(refused.status, f"{refused}\n".encode(), _TEXT)
            _hear_out(self.connection)

    def _understand(self, head: bytes) -> None:
        """Take a request apart, and refuse all but a plain one without a body."""
        first, *lines = head.split(b"\r\n")
        if not _REQUEST.fullmatch(first) or not all(map(_HEADER.fullmatch, lines)):
            raise _RequestRefusedError(HTTPStatus.BAD_REQUEST, "this is no plain request")
        self.requestline = first.decode("ascii")
        self.command, self.path, self.request_version = self.requestline.split(" ")
        self.headers = parse_headers(io.BytesIO(b"\r\n".join([*lines, b"", b""])))
        if self.command not in _METHODS:
            raise _RequestRefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "nothing can be changed here")
        if any(len(self.headers.get_all(name, ())) > 1 for name in _ONCE):
            raise _RequestRefusedError(HTTPStatus.BAD_REQUEST, "a header stands there twice")
        if self.request_version == "HTTP/1.1" and "Host" not in self.headers:
            raise _RequestRefusedError(HTTPStatus.BAD_REQUEST, "the header Host is missing")
        if "Transfer-Encoding" in self.headers or self.headers.get("Content-Length", "0").strip() != "0":
            raise _RequestRefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a request has no body here")
        if not self.path.startswith("/") or "#" in self.path:
            raise _RequestRefusedError(HTTPStatus.BAD_REQUEST, "ask for a path, such as /healthz")

    def _answer(self, path: str) -> None:
        answers = self.server.answers
        if path in ("/healthz", "/readyz"):
            why = answers.why_unhealthy() if path == "/healthz" else answers.why_not_ready()
            status = HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK
            self._send(status, f"{why or 'ok'}\n".encode(), _TEXT)
        elif self._is_let_in():
            self._show(path)

    def _show(self, path: str) -> None:
        answers = self.server.answers
        if path == "/":
            self._send(HTTPStatus.OK, render(answers.page()).encode(), _HTML, policy())
        elif path == "/metrics":
            self._send(HTTPStatus.OK, answers.metrics(), metrics.CONTENT_TYPE)
        elif path == "/favicon.ico":
            self._send(HTTPStatus.NO_CONTENT, b"", _TEXT)  # browsers ask, and there is none
        elif path.startswith("/reports/") and (report := self._report(path.removeprefix("/reports/"))):
            self._send(HTTPStatus.OK, report, _HTML)  # the page brings a policy of its own
        else:
            self._send(HTTPStatus.NOT_FOUND, b"there is nothing here\n", _TEXT)

    def _report(self, job: str) -> bytes | None:
        file = self.server.answers.report(job)
        try:
            return None if file is None else job_files.read(file, most_bytes=_LARGEST_REPORT)
        except job_files.JobFileError as error:
            logger.warning("a report is not shown: %s", error)
            return None

    def _is_let_in(self) -> bool:
        token = self.server.token
        if token is None:
            # Another site's page in a browser on this machine must not read ours under its own name.
            if urlsplit(f"//{self.headers.get('Host')}").hostname in _LOOPBACK_NAMES:
                return True
            self._send(HTTPStatus.FORBIDDEN, b"call me by 127.0.0.1 or localhost\n", _TEXT)
            return False
        if hmac.compare_digest(_token_in(self.headers.get("Authorization") or ""), token.encode()):
            return True
        self._send(HTTPStatus.UNAUTHORIZED, b"a token is needed\n", _TEXT)
        return False

    def _send(self, status: HTTPStatus, body: bytes, kind: str, content_policy: str = "") -> None:
        self.connection.settimeout(_ANSWER_S)  # in all, see sendall
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Connection", "close")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", ", ".join(_METHODS))
        if content_policy:
            self.send_header("Content-Security-Policy", content_policy)
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="DICOM adapter", charset="UTF-8"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep requests out of the log, unless somebody looks for them."""
        logger.debug(format, *arguments)


def _token_in(authorization: str) -> bytes:
    kind, _, rest = authorization.partition(" ")
    if kind.lower() == "bearer":
        return rest.strip().encode()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def _head_from(connection: socket.socket, deadline: Deadline) -> bytes:
    """Return a request up to its empty line; nothing if the caller has gone without one."""
    head = b""
    while (end := head.find(b"\r\n\r\n")) < 0:
        _require_bounded(head)
        try:
            connection.settimeout(deadline.require())
            more = connection.recv(_LARGEST_HEAD)
        except TimeoutError:
            raise _RequestRefusedError(HTTPStatus.REQUEST_TIMEOUT, "the request took too long") from None
        if not more:
            return b""
        head += more
    _require_bounded(head[:end])
    return head[:end]


def _require_bounded(head: bytes) -> None:
    if len(head.partition(b"\r\n")[0]) > _LONGEST_TARGET:
        raise _RequestRefusedError(HTTPStatus.REQUEST_URI_TOO_LONG, "no path here is as long")
    if len(head) > _LARGEST_HEAD or head.count(b"\n") > _MOST_HEADERS:
        raise _RequestRefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "these are too many headers")


def _hear_out(connection: socket.socket) -> None:
    """Take what a refused caller still sends, for a moment, so that it can read why it was refused."""
    connection.shutdown(socket.SHUT_WR)
    deadline, most = Deadline(_HEAR_OUT_S), _LARGEST_HEAD * 4
    while most > 0 and not deadline.is_over():
        connection.settimeout(max(0.01, deadline.left_s()))
        heard = len(connection.recv(_LARGEST_HEAD))
        most = most - heard if heard else 0
