"""HTTP for those who run the adapter: ``/healthz``, ``/readyz``, ``/metrics``, the status page, reports.

The standard library's server is enough: a handful of read-only answers to a few callers, one request a
connection. A request has a total deadline, a bounded size and no body. So many are open at most, and a new
one takes the place of the one that has waited longest for its caller. ``/healthz`` and ``/readyz`` say
nothing but yes or why not, and are open to probes; everything else asks for a token wherever others than
this machine can connect. The token is a bearer token (Prometheus) or the password of HTTP Basic (a browser),
whatever the user name.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dicom_adapter.observability import metrics
from dicom_adapter.status.http_request import (
    METHODS,
    RequestRefusedError,
    head_from,
    headers_of,
    read_rest,
    request_line,
    token_in,
)
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
_WAIT_FOR_PLACE_S = 1.0


_LARGEST_REPORT = 256 << 20


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
    answers
        What is answered to each path.
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
    """Return whether only this machine can connect to an address.

    Parameters
    ----------
    host
        Its name or address.
    """
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
        """Note a heartbeat."""
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
        """Note that the request of a connection is there, which may finish."""
        with self._changed:
            self._waiting.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with a connection."""
        logger.warning("a request was not answered", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "clara-adapter", ""
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        """Answer one request, whatever it is."""
        self.command, self.request_version, self.requestline = "", "HTTP/1.1", ""
        try:
            head = head_from(self.connection, Deadline(self.server.request_s))
            self.server.has_asked(self.connection)
            if head:
                self._take(head)
                self._answer(unquote(self.path.partition("?")[0]))
        except RequestRefusedError as refused:
            self.server.has_asked(self.connection)
            self._refuse(refused)
        except OSError:
            pass  # who asked has gone
        except Exception:
            logger.exception("a request could not be answered")
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"not now; the log says why\n", _TEXT)

    def _refuse(self, refused: RequestRefusedError) -> None:
        with suppress(OSError):
            self._send(refused.status, f"{refused}\n".encode(), _TEXT)
            read_rest(self.connection)

    def _take(self, head: bytes) -> None:
        """Take a request apart, and refuse all but a plain one without a body."""
        line = request_line(head)
        self.requestline = " ".join(line)
        self.command, self.path, self.request_version = line
        self.headers = headers_of(head, *line)

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
        if hmac.compare_digest(token_in(self.headers.get("Authorization") or ""), token.encode()):
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
            self.send_header("Allow", ", ".join(METHODS))
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
