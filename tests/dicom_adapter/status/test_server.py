"""The adapter's HTTP: who is let in, what is told to whom."""

import base64
import http.client
import os
import select
import socket
import threading
import time

import pytest

from dicom_adapter.status.page import Page
from dicom_adapter.status.server import Answers, serve
from stages.errors import SettingsError

PAGE = Page(ae_title="CLARA", time="now", facts=[("studies", "3")], problems=[], tables=[])


@pytest.fixture
def why():
    return []


@pytest.fixture
def answers(why, tmp_path):
    (tmp_path / "report.html").write_text("the report")
    return Answers(
        why_not_ready=lambda: why[0] if why else "",
        page=lambda: PAGE,
        metrics=lambda: b"clara_adapter_jobs 1\n",
        report=lambda job: tmp_path / "report.html" if job == "j1" else None,
    )


def get(port, path, *, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_on_the_loopback_everything_is_there_without_a_token(answers):
    with serve("127.0.0.1", 0, answers, token=None) as port:
        assert get(port, "/healthz") == (200, "ok\n")
        assert get(port, "/readyz") == (200, "ok\n")
        assert get(port, "/metrics") == (200, "clara_adapter_jobs 1\n")
        assert get(port, "/reports/j1") == (200, "the report")
        status, page = get(port, "/")
        assert (status, "DICOM adapter CLARA" in page) == (200, True)


def test_who_is_not_ready_says_why(answers, why):
    why.append("the disk is full")
    with serve("127.0.0.1", 0, answers, token=None) as port:
        assert get(port, "/readyz") == (503, "the disk is full\n")
        assert get(port, "/healthz")[0] == 200


@pytest.mark.parametrize("path", ["/nothing", "/reports/j2", "/reports/../../etc/passwd", "/reports/"])
def test_what_is_not_there_is_not_found(answers, path):
    with serve("127.0.0.1", 0, answers, token=None) as port:
        assert get(port, path)[0] == 404


def test_off_the_loopback_a_token_is_demanded_before_anything_listens(answers):
    with pytest.raises(SettingsError, match="token-file"), serve("0.0.0.0", 0, answers, token=None):
        pass


@pytest.mark.parametrize("path", ["/", "/metrics", "/reports/j1", "/nothing"])
def test_with_a_token_only_its_holder_is_let_in(answers, path):
    right = [f"Bearer {'s' * 20}", "Basic " + base64.b64encode(b"any:" + b"s" * 20).decode()]
    wrong = ["", "Bearer", "Bearer x", "Basic !", "Basic " + base64.b64encode(b"any:x").decode(), "s" * 20]
    with serve("0.0.0.0", 0, answers, token="s" * 20) as port:
        for each in right:
            assert get(port, path, Authorization=each)[0] == (404 if path == "/nothing" else 200)
        for each in wrong:
            assert get(port, path, Authorization=each)[0] == 401
        assert get(port, "/healthz")[0] == get(port, "/readyz")[0] == 200


def test_a_page_elsewhere_cannot_read_ours_by_a_name_of_its_own(answers):
    with serve("127.0.0.1", 0, answers, token=None) as port:
        assert get(port, "/", Host="evil.example")[0] == 403
        assert get(port, "/", Host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(answers, method):
    with serve("127.0.0.1", 0, answers, token=None) as port:
        assert get(port, "/", method=method)[0] == 405


def test_trouble_behind_an_answer_stops_no_other(answers):
    def broken():
        raise ValueError("database is locked")

    trouble = Answers(
        why_not_ready=answers.why_not_ready, page=broken, metrics=answers.metrics, report=answers.report
    )
    with serve("127.0.0.1", 0, trouble, token=None) as port:
        assert get(port, "/")[0] == 503
        assert get(port, "/metrics")[0] == 200


# Callers that mean no good


def said(port, request, *, seconds=5):
    """Return all that is answered to bytes, until the connection closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as caller:
        caller.sendall(request)
        answer = b""
        while more := caller.recv(65536):
            answer += more
    return answer


def asked(first=b"GET /healthz HTTP/1.1", *headers, host=b"Host: localhost"):
    return b"\r\n".join([first, *([host] if host else []), *headers, b"", b""])


BODIES = {
    "length": asked(b"GET /healthz HTTP/1.1", b"Content-Length: 9") + b"GET /metr",
    "whole request": asked(b"HEAD /healthz HTTP/1.1", b"Content-Length: 40")
    + asked(b"GET /metrics HTTP/1.1"),
    "chunked": asked(b"GET /healthz HTTP/1.1", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "no number": asked(b"GET /healthz HTTP/1.1", b"Content-Length: -1"),
    "expected": asked(b"GET /healthz HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 5"),
}


@pytest.mark.parametrize("body", BODIES)
def test_a_request_with_a_body_is_refused_and_what_follows_is_no_request(answers, body):
    with serve("127.0.0.1", 0, answers, token=None) as port:
        answer = said(port, BODIES[body])
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1") == 1


STRANGE = {
    b"GET /metrics\r\n\r\n": 400,
    asked(b"GET /metrics HTTP/0.9"): 400,
    asked(b"GET /metrics HTTP/2.0"): 400,
    asked(b"GET /metrics  HTTP/1.1"): 400,
    asked(b"GET http://evil/metrics HTTP/1.1"): 400,
    asked(b"GET * HTTP/1.1"): 400,
    asked(b"GET /healthz#/metrics HTTP/1.1"): 400,
    asked(b"GET /\x00 HTTP/1.1"): 400,
    asked(b"GET //evil/metrics HTTP/1.1"): 404,
    asked(b"GET /healthz/../metrics HTTP/1.1"): 404,
    asked(b"GET /reports/%2e%2e%2f%2e%2e%2fetc/passwd HTTP/1.1"): 404,
    asked(b"GET /metrics%00 HTTP/1.1"): 404,
    asked(host=b""): 400,
    asked(b"GET /healthz HTTP/1.0", host=b""): 200,
    asked(b"GET /metrics HTTP/1.1", b"Host: evil"): 400,
    asked(b"GET /healthz HTTP/1.1", b"X : y"): 400,
    asked(b"GET /healthz HTTP/1.1", b"X: y", b" folded: z"): 400,
    asked(b"GET /healthz HTTP/1.1", b"X: y\nHost: z"): 400,
    asked(b"TRACE / HTTP/1.1"): 405,
    asked(b"X\x1b[31m / HTTP/1.1"): 400,
    asked(b"GET /" + b"a" * 5000 + b" HTTP/1.1"): 414,
    asked(b"GET / HTTP/1.1", *(b"X%d: y" % n for n in range(100))): 431,
    asked(b"GET / HTTP/1.1", b"X: " + b"a" * 20_000): 431,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n": 400,
    asked() + asked(b"GET /metrics HTTP/1.1"): 200,
}


@pytest.mark.parametrize("request_", STRANGE, ids=lambda request: repr(request[:50]))
def test_a_strange_request_gets_one_plain_answer_and_the_connection_closes(answers, request_):
    with serve("127.0.0.1", 0, answers, token=None) as port:
        answer = said(port, request_)
    assert answer.startswith(b"HTTP/1.1 %d " % STRANGE[request_])
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"evil" not in answer
    assert b"\x1b" not in answer


def test_who_may_do_nothing_is_told_what_may_be_done(answers):
    with serve("127.0.0.1", 0, answers, token=None) as port:
        assert b"\r\nAllow: GET, HEAD\r\n" in said(port, asked(b"POST / HTTP/1.1", b"Content-Length: 0"))


def test_a_caller_that_trickles_is_cut_off_by_a_total_deadline(answers):
    with (
        serve("127.0.0.1", 0, answers, token=None, request_s=0.5) as port,
        socket.create_connection(("127.0.0.1", port), timeout=5) as caller,
    ):
        clock = time.monotonic()
        caller.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        while not select.select([caller], [], [], 0.02)[0]:
            caller.sendall(b"a")
        assert caller.recv(999).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - clock < 2


def test_a_hundred_half_requests_cost_no_threads_and_keep_nobody_waiting(answers):
    with serve("127.0.0.1", 0, answers, token=None) as port:
        before = threading.active_count()
        callers = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(100)]
        for caller in callers:
            caller.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        clock = time.monotonic()
        assert get(port, "/healthz") == (200, "ok\n")
        assert time.monotonic() - clock < 1
        assert threading.active_count() - before <= 16
        for caller in callers:
            caller.close()


def test_it_ends_at_once_though_callers_hold_on(answers):
    with serve("127.0.0.1", 0, answers, token=None) as port:
        callers = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(20)]
        get(port, "/healthz")
        clock = time.monotonic()
    assert time.monotonic() - clock < 2
    for caller in callers:
        caller.close()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_a_report_that_is_no_file_is_not_shown(answers, tmp_path, make):
    (tmp_path / "report.html").unlink()
    make(tmp_path / "report.html")
    with serve("127.0.0.1", 0, answers, token=None) as port:
        assert get(port, "/reports/j1") == (404, "there is nothing here\n")
