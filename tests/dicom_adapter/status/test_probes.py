"""Whether an adapter answers, as probes, image and chart ask it."""

import socket

import pytest

from dicom_adapter.config.blocks import Http
from dicom_adapter.config.dicom_blocks import Scp
from dicom_adapter.status import server
from dicom_adapter.status.probes import ask_ready, echo
from stages.errors import StageError
from tests.dicom_adapter.adapters import Adapter
from tests.dicom_adapter.destinations import free_port
from tests.dicom_adapter.storage_service import Service

ELSEWHERE = {"ae-title": "SCANNER1", "host-ip": "192.0.2.1"}
REJECTING = {"reject-unknown-sources": True}


@pytest.fixture
def service(tmp_path):
    """Return what starts a listening side and is stopped at the end."""
    started = []

    def start(**settings):
        started.append(Service(tmp_path / f"{len(started)}", **settings))
        return started[-1]

    yield start
    for each in started:
        each.scp.stop()


def asked(service, scp=None, timeout_s=5.0):
    return echo(scp or service.config, "127.0.0.1", service.scp.port, timeout_s=timeout_s)


def test_a_source_of_the_configuration_gets_an_answer(service):
    known = service(sources=[ELSEWHERE, {"ae-title": "PACS"}], **REJECTING)
    assert asked(known).endswith("called by PACS, answers")
    assert asked(service()).endswith("called by ECHO, answers")


def test_a_source_that_has_to_call_from_elsewhere_is_rejected_and_that_is_an_answer(service):
    elsewhere = service(sources=[ELSEWHERE], **REJECTING)
    assert "it knows SCANNER1 at 192.0.2.1 only" in asked(elsewhere)
    assert elsewhere.told.rejections == [("CT_AI", "SCANNER1", "calling AE title comes from another host")]


def test_a_name_that_the_adapter_does_not_have_is_a_failure(service):
    other = Scp.model_validate({"ae-titles": [{"ae-title": "OTHER"}]})
    with pytest.raises(StageError, match=r"OTHER at 127.* rejected the association: .*not recogni"):
        asked(service(), other)


def test_over_tls_it_shows_the_certificate_that_callers_must_show(service, certificates):
    own = {"certificate": str(certificates / "server.pem"), "key": str(certificates / "server.key")}
    tls = {"enabled": True, **own, "client-certificates": str(certificates / "server.pem")}
    secure = service(tls=tls)
    assert asked(secure).endswith("answers")
    with pytest.raises(StageError, match="does the port speak TLS as configured"):
        asked(service(), secure.config, timeout_s=1.0)


def test_nobody_at_the_port_and_somebody_who_says_nothing_are_failures():
    with pytest.raises(StageError, match=r"no adapter answers at 127.0.0.1:[0-9]+: "):
        ask_ready(Http(port=free_port()), timeout_s=1.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with pytest.raises(StageError, match=r"no adapter answers at .*: timed out"):
            ask_ready(Http(port=port), timeout_s=0.1)
        scp = Scp.model_validate({"ae-titles": [{"ae-title": "CT_AI"}]})
        with pytest.raises(StageError, match="did not answer"):
            echo(scp, "127.0.0.1", port, timeout_s=0.3)


def test_readiness_is_what_the_adapter_says_wherever_it_listens():
    whys = iter(["", "2 MiB are free where images are kept"])
    answers = server.Answers(
        why_not_ready=lambda: next(whys), page=lambda: None, metrics=lambda: b"", report=lambda job: None
    )
    with server.serve("0.0.0.0", 0, answers, token="secret") as port:
        http = Http(host="0.0.0.0", port=port)
        assert ask_ready(http, timeout_s=5.0) == "ok"
        with pytest.raises(StageError, match="the adapter is not ready: 2 MiB are free"):
            ask_ready(http, timeout_s=5.0)


def test_the_commands_ask_the_adapter_of_the_configuration(tmp_path):
    with Adapter(tmp_path) as adapter:
        assert adapter.clara_wf("health").out == "ok\n"
        assert adapter.clara_wf("echo").out == f"CT_AI at 127.0.0.1:{adapter.port}, called by ECHO, answers\n"
    gone = adapter.clara_wf("health")
    assert (gone.code, gone.out, gone.err.count("\n")) == (1, "", 1)
