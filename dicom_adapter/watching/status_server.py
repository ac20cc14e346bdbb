"""HTTP for those who run the adapter: ``/healthz``, ``/readyz``, ``/metrics``, the status page, reports.

The standard library's server is enough: a handful of read-only answers to a few callers. ``/healthz`` and
``/readyz`` say nothing but yes or why not, and are open to probes; everything else asks for a token wherever
others than this machine can connect. The token is a bearer token (Prometheus) or the password of HTTP Basic
(a browser), whatever the user name.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dicom_adapter.deadline import Deadline
from dicom_adapter.supervisor import Supervisor, sign_of_life
from dicom_adapter.watching import metrics
from dicom_adapter.watching.status_page import Page, policy, render
from stages.errors import SettingsError

logger = logging.getLogger(__name__)

_SILENCE_S = 10.0
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
    host: str, port: int, answers: Answers, *, token: str | None, supervisor: Supervisor | None = None
) -> Iterator[int]:
    """Answer until the block ends; gives the port.

    Parameters
    ----------
    token
        What callers must show; None for none.
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
        server = _Server((host, port), answers, token)
    except OSError as error:
        raise SettingsError(f"cannot answer HTTP at {host}:{port}: {error.strerror}") from error
    worker = (supervisor or Supervisor()).worker("http", partial(server.serve_forever, _POLL_S))
    worker.start()
    try:
        yield int(server.server_address[1])
    finally:
        worker.stop()
        server.shutdown()
        worker.join(Deadline(_SILENCE_S))
        server.server_close()


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can connect to an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], answers: Answers, token: str | None) -> None:
        self.answers, self.token = answers, token
        super().__init__(address, _Handler)

    def service_actions(self) -> None:
        """Give a sign of life."""
        sign_of_life()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "clara-adapter", ""
    protocol_version = "HTTP/1.1"
    timeout = _SILENCE_S

    def do_GET(self) -> None:
        """Answer a request."""
        try:
            self._answer(unquote(urlsplit(self.path).path))
        except OSError:
            self.close_connection = True  # who asked has gone
        except Exception:
            logger.exception("a request could not be answered")
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"not now; the log says why\n", _TEXT)

    def _answer(self, path: str) -> None:
        answers = self.server.answers
        if path in ("/healthz", "/readyz"):
            why = answers.why_unhealthy() if path == "/healthz" else answers.why_not_ready()
            status = HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK
            self._send(status, f"{why or 'ok'}\n".encode(), _TEXT)
        elif self._is_let_in():
            self._show(path)

    do_HEAD = do_GET  # noqa: N815 - the base class names it

    def _show(self, path: str) -> None:
        answers = self.server.answers
        if path == "/":
            self._send(HTTPStatus.OK, render(answers.page()).encode(), _HTML, policy())
        elif path == "/metrics":
            self._send(HTTPStatus.OK, answers.metrics(), metrics.CONTENT_TYPE)
        elif path == "/favicon.ico":
            self._send(HTTPStatus.NO_CONTENT, b"", _TEXT)  # browsers ask, and there is none
        elif path.startswith("/reports/") and (file := answers.report(path.removeprefix("/reports/"))):
            self._send(HTTPStatus.OK, file.read_bytes(), _HTML)  # the page brings a policy of its own
        else:
            self._send(HTTPStatus.NOT_FOUND, b"there is nothing here\n", _TEXT)

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
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
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
