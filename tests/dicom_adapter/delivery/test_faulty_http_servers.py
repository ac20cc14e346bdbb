"""DICOMweb servers that stop, drip, lie or never end: told within the time, read up to 1 MiB."""

import gzip
import json
import time

import pytest

from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.stow import StowClient
from dicom_adapter.storage.results import find_results
from tests.dicom_adapter.faulty_peers import FaultyPeer, drip, receive, reset, silence
from tests.phantoms import ct_slices, save

MIB = 1 << 20
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def files(tmp_path):
    return find_results(save(ct_slices((1, 16, 20)), tmp_path / "ct"))


def client(port, **changed):
    options = {"name": "WEB", "timeout_s": 0.3, "slowest_rate": 1 << 30, **changed}
    return StowClient(url=f"http://127.0.0.1:{port}/dicom-web", **options)


def send(to, files):
    told = []
    to.send(files, lambda result, answer: told.append(answer))
    return told


def read_request(wire):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += receive(wire, 1)
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return head, receive(wire, int(lengths[0].split(b":")[1])) if lengths else b""


def answering(*pieces, then=silence):
    """Return what answers a request with some bytes, and goes on otherwise."""

    def behave(wire):
        read_request(wire)
        for each in pieces:
            wire.sendall(each)
        then(wire)

    return behave


def endlessly(piece):
    def send_on(wire):
        while True:
            wire.sendall(piece)
            time.sleep(0.001)

    return send_on


def sized(body, *headers):
    return OK + b"".join(headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body


ROGUES = {
    "silent": (silence, "longer than 0.3 s"),
    "dripping status": (answering(then=lambda w: drip(w, OK + bytes(500))), "longer than 0.3 s"),
    "dripping body": (answering(OK, b"Content-Length: 10000\r\n\r\n", then=drip), "longer than 0.3 s"),
    "half a body": (answering(OK, b"Content-Length: 100\r\n\r\nab"), "longer than 0.3 s"),
    "endless headers": (answering(OK, then=endlessly(b"X-A: b\r\n" * 50)), "got more than 100 headers"),
    "endless header": (answering(OK, then=endlessly(b"X" * 4096)), "got more than 65536 bytes"),
    "endless continue": (answering(then=endlessly(b"HTTP/1.1 100 Continue\r\n\r\n")), "longer than 0.3 s"),
    "endless chunks": (
        answering(OK, b"Transfer-Encoding: chunked\r\n\r\n", then=endlessly(b"1\r\nx\r\n")),
        "longer than 0.3 s",
    ),
    "many chunks": (
        answering(
            OK, b"Transfer-Encoding: chunked\r\n\r\n", b"80000\r\n" + bytes(0x80000) + b"\r\n", b"80000\r\n"
        ),
        "longer than 0.3 s",
    ),
    "10 GiB": (
        answering(OK, b"Content-Length: 10737418240\r\n\r\n", then=endlessly(bytes(MIB))),
        "more than 1 MiB",
    ),
    "a bomb": (
        answering(sized(gzip.compress(bytes(64 * MIB)), b"Content-Encoding: gzip\r\n")),
        "more than 1 MiB",
    ),
    "not what it says": (answering(sized(b"{}", b"Content-Encoding: gzip\r\n")), "cannot be unpacked"),
    "a cut body": (answering(OK, b"Content-Length: 100\r\n\r\nab", then=lambda w: None), "hung up within"),
    "no body": (answering(OK, b"Content-Length: 100\r\n\r\n", then=lambda w: None), "hung up within"),
    "a cut chunk": (
        answering(OK, b"Transfer-Encoding: chunked\r\n\r\n10\r\n{}", then=lambda w: None),
        "IncompleteRead",
    ),
    "noise": (answering(b"\0\1\2\3 no HTTP\r\n\r\n"), "does not answer"),
    "reset": (answering(then=reset), "does not answer"),
    "hung up": (answering(then=lambda w: None), "does not answer"),
}


@pytest.mark.parametrize("name", ROGUES)
def test_one_that_does_not_answer_is_told_in_time_with_what_may_have_arrived(name, files):
    behave, told = ROGUES[name]
    begin = time.monotonic()
    with FaultyPeer(behave) as faulty, pytest.raises(DestinationError, match=told) as raised:
        send(client(faulty.port), files)
    assert time.monotonic() - begin < 5
    assert raised.value.in_flight == files[0].sop_instance_uid


def test_one_that_does_not_read_is_told_in_time(tmp_path):
    files = find_results(save(ct_slices((1, 1024, 4096)), tmp_path / "ct"))
    with (
        FaultyPeer(lambda w: time.sleep(2)) as faulty,
        pytest.raises(DestinationError, match=r"longer than 0\.3"),
    ):
        send(client(faulty.port), files)


def test_one_that_has_moved_is_told_with_where_to(files):
    moved = b"HTTP/1.1 301 Moved\r\nLocation: https://new:8443/dicom-web/studies\r\nContent-Length: 0\r\n\r\n"
    with (
        FaultyPeer(answering(moved)) as faulty,
        pytest.raises(DestinationError, match=r"moved .* 'https://new:8443"),
    ):
        send(client(faulty.port), files)


def test_one_that_hangs_up_once_it_has_refused_what_is_too_large_is_heard(tmp_path):
    files = find_results(save(ct_slices((1, 1024, 4096)), tmp_path / "ct"))

    def refuse(wire):
        receive(wire, 1000)
        wire.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        time.sleep(0.2)

    with FaultyPeer(refuse) as faulty:
        try:
            (answer,) = send(client(faulty.port, timeout_s=3), files)
        except DestinationError:
            pytest.skip("the answer was lost with the connection, as TCP allows")
    assert (answer.verdict, answer.message) == ("refused", "WEB refused it (HTTP 413)")


@pytest.mark.parametrize("head", [b"HTTP/1.0 200 OK\r\n\r\n", OK + b"Connection: close\r\n\r\n"])
def test_an_answer_that_ends_with_its_connection_is_read_and_the_next_goes_over_another(tmp_path, head):
    files = find_results(save(ct_slices((3, 16, 20)), tmp_path / "ct"))
    with FaultyPeer(answering(head, b'{"00081199": {}}', then=lambda w: None)) as faulty:
        to = client(faulty.port)
        assert [each.verdict for each in send(to, files)] == ["accepted"] * 3
        assert faulty.calls == 3
    assert not to.connections._open


def test_a_page_to_log_in_at_is_no_success(files):
    with FaultyPeer(answering(sized(b"<!DOCTYPE html><title>Log in</title>"))) as faulty:
        (answer,) = send(client(faulty.port), files)
    assert (answer.verdict, answer.may_be_there) == ("refused", True)
    assert "nothing that is an answer of STOW-RS" in answer.message


def test_an_answer_that_came_packed_is_read(files):
    failed = gzip.compress(json.dumps({"00081198": {"Value": [{"00081197": {"Value": [0xA700]}}]}}).encode())
    with FaultyPeer(answering(sized(failed, b"Content-Encoding: gzip\r\n"))) as faulty:
        (answer,) = send(client(faulty.port), files)
    assert answer.verdict == "busy"


def test_an_answer_nested_too_deep_is_none(files):
    with FaultyPeer(answering(sized(b"[" * 500_000))) as faulty:
        (answer,) = send(client(faulty.port), files)
    assert answer.verdict == "refused"
