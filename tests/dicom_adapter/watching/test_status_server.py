"""The adapter's HTTP: who is let in, what is told to whom."""

import base64
import http.client

import pytest

from dicom_adapter.watching.status_page import Page
from dicom_adapter.watching.status_server import Answers, serve
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
        assert get(port, "/", method=method)[0] == 501


def test_trouble_behind_an_answer_stops_no_other(answers):
    def broken():
        raise ValueError("database is locked")

    trouble = Answers(
        why_not_ready=answers.why_not_ready, page=broken, metrics=answers.metrics, report=answers.report
    )
    with serve("127.0.0.1", 0, trouble, token=None) as port:
        assert get(port, "/")[0] == 503
        assert get(port, "/metrics")[0] == 200
