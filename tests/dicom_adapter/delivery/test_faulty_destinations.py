"""Destinations that stop, drip, lie or break off at each step: told within the time, whatever they do."""

import contextlib
import ssl
import struct
import threading
import time

import pytest

from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.association import Peer
from dicom_adapter.delivery.store_scu import StoreScu
from dicom_adapter.storage.results import find_results
from tests.dicom_adapter import faulty_peers
from tests.dicom_adapter.faulty_peers import (
    FaultyPeer,
    accept,
    answer_stores,
    drip,
    message,
    pdu,
    read_message,
    stored,
)
from tests.phantoms import ct_slices, save

TIMEOUT_S = 0.3
MIB = 1 << 20


@pytest.fixture
def files(tmp_path):
    return find_results(save(ct_slices((2, 16, 20)), tmp_path / "ct"))


def peer(port, **changed):
    told = {"name": "PACS", "host": "127.0.0.1", "ae_title": "PACS", "calling_ae_title": "CLARA"}
    return Peer(**{**told, "timeout_s": TIMEOUT_S, "slowest_rate": 1 << 30, **changed}, port=port)


def send(to, files):
    told = []
    StoreScu(peer=to).send(files, lambda result, answer: told.append(answer))
    return told


def request(wire):
    """Read the request for an association."""
    return faulty_peers.read_pdu(wire)[1]


def first_store(wire):
    """Accept the association, and return the first instance that comes."""
    accept(wire)
    return read_message(wire)


def answer_with(**changes):
    """Return what answers each instance with a status and elements changed."""
    return lambda wire: answer_stores(wire, lambda fields: stored(fields, **changes))


AT_THE_REQUEST = {
    "silent": (faulty_peers.silence, "longer than 0.3 s"),
    "reset": (faulty_peers.reset, "did not answer|cannot be reached"),
    "half": (
        lambda w: (request(w), w.sendall(b"\2\0\0\0\0\xb8\0\1"), faulty_peers.silence(w)),
        "longer than",
    ),
    "dripping": (lambda w: (request(w), drip(w, b"\2\0\0\0\2\0" + bytes(512))), "longer than 0.3 s"),
    "huge": (
        lambda w: (request(w), w.sendall(b"\2\0\x10\0\0\0" + faulty_peers.noise(300))),
        "268435456 bytes",
    ),
    "cut": (lambda w: (request(w), w.sendall(b"\2\0\0\0\0\xb8\0\1")), "hung up"),
    "short": (lambda w: (request(w), w.sendall(pdu(2, bytes(40)))), "40 bytes is cut"),
    "items": (
        lambda w: (request(w), w.sendall(pdu(2, bytes(68) + b"\x21\0\xff\xff"))),
        "65535 bytes reaches",
    ),
    "noise": (lambda w: (request(w), w.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")), "begins no PDU"),
    "data": (lambda w: (request(w), w.sendall(pdu(4, bytes(8)))), "with PDU type 0x04"),
    "narrow": (lambda w: accept(w, largest=4), "P-DATA of 4 bytes"),
    "aborts": (lambda w: (request(w), w.sendall(pdu(7, b"\0\0\2\2"))), "aborts .* unexpected PDU"),
    "permanent": (lambda w: (request(w), w.sendall(pdu(3, b"\0\1\1\3"))), "CLARA: Calling AE title not rec"),
    "transient": (
        lambda w: (request(w), w.sendall(pdu(3, b"\0\2\3\2"))),
        r"Local limit exceeded \(for now\)",
    ),
}


@pytest.mark.parametrize("name", AT_THE_REQUEST)
def test_one_that_does_not_answer_the_request_for_an_association_is_told_in_time(name, files):
    behave, told = AT_THE_REQUEST[name]
    begin = time.monotonic()
    with FaultyPeer(behave) as faulty, pytest.raises(DestinationError, match=told) as raised:
        send(peer(faulty.port), files)
    assert time.monotonic() - begin < 5
    assert raised.value.in_flight == ""


AT_AN_INSTANCE = {
    "silent": (lambda w: (first_store(w), faulty_peers.silence(w)), "longer than 0.3 s"),
    "half": (
        lambda w: (first_store(w), w.sendall(b"\4\0\0\0\0\x64\0\0"), faulty_peers.silence(w)),
        "longer than",
    ),
    "dripping": (lambda w: (first_store(w), drip(w, b"\4\0\0\0\0\x64" + bytes(100))), "longer than 0.3 s"),
    "cut": (lambda w: (first_store(w), w.sendall(b"\4\0\0\0\0\x64\0\0")), "hung up"),
    "reset": (lambda w: (first_store(w), faulty_peers.reset(w)), "went away"),
    "aborts": (lambda w: (first_store(w), w.sendall(pdu(7, b"\0\0\0\0"))), "aborted the association"),
    "releases": (lambda w: (first_store(w), w.sendall(pdu(5, bytes(4)))), "released the association"),
    "noise": (lambda w: (first_store(w), w.sendall(pdu(4, faulty_peers.noise(40)))), "went away"),
    "accepts twice": (lambda w: (first_store(w), w.sendall(pdu(2, bytes(80)))), "PDU type 0x02"),
    "endless": (
        lambda w: (first_store(w), [w.sendall(fragment(MIB // 2)) for _ in range(3)]),
        "more than 1 MiB",
    ),
    "other message": (answer_with(x0120=faulty_peers.number(99)), "another request"),
    "other command": (answer_with(x0100=faulty_peers.number(0x8020)), "another request"),
    "other instance": (answer_with(x1000=b"1.2.3.4.5\0"), "another instance"),
    "no status": (answer_with(x0900=b""), r"without \(0000,0900\)"),
}


def fragment(size):
    return pdu(4, struct.pack(">LBB", size + 2, 1, 1) + bytes(size))


@pytest.mark.parametrize("name", AT_AN_INSTANCE)
def test_one_that_does_not_answer_an_instance_is_told_in_time_with_what_may_have_arrived(name, files):
    behave, told = AT_AN_INSTANCE[name]
    begin = time.monotonic()
    with FaultyPeer(behave) as faulty:
        to = peer(faulty.port, timeout_s=0.3 if "longer" in told else 4)
        with pytest.raises(DestinationError, match=told) as raised:
            send(to, files)
    assert time.monotonic() - begin < 5
    assert raised.value.in_flight == files[0].sop_instance_uid
    assert not to.connections._open


def test_one_that_reads_nothing_is_told_in_time(tmp_path):
    (large,) = ct_slices((1, 1024, 4096))
    files = find_results(save([large], tmp_path / "ct"))
    with (
        FaultyPeer(lambda w: (accept(w), time.sleep(3))) as faulty,
        pytest.raises(DestinationError, match="longer"),
    ):
        send(peer(faulty.port), files)


def test_an_instance_may_take_as_long_as_the_slowest_rate_allows(tmp_path):
    (large,) = ct_slices((1, 1024, 2048))  # 4 MiB

    def behave(wire):
        accept(wire, largest=1 << 17)
        context, fields, _ = read_message(wire, delay_s=0.02)  # 33 P-DATA: 0.66 s
        wire.sendall(message(context, stored(fields)))

    with FaultyPeer(behave) as faulty:
        files = find_results(save([large], tmp_path / "ct"))
        (answer,) = send(peer(faulty.port, slowest_rate=4 * MIB), files)
    assert answer.verdict == "accepted"


@pytest.mark.parametrize(
    "change",
    [
        lambda context, syntax: (201, 0, syntax),  # never offered
        lambda context, syntax: (context, 0, "1.2.840.10008.1.2.4.50"),  # in a syntax that was not
        lambda context, syntax: (context, 3, syntax),  # abstract syntax not supported
    ],
)
def test_what_is_accepted_but_was_not_offered_is_refused(change, files):
    with FaultyPeer(lambda w: (accept(w, change=change), faulty_peers.silence(w))) as faulty:
        told = send(peer(faulty.port), files)
    assert {(each.verdict, each.status) for each in told} == {("refused", "context")}
    assert told[0].message.startswith("PACS does not take CT Image Storage in any syntax")


def test_one_that_takes_seven_bytes_at_once_gets_everything(files):
    got = []

    def behave(wire):
        accept(wire, largest=7)
        context, fields, data = read_message(wire)
        got.append(data)
        wire.sendall(message(context, stored(fields)))

    with FaultyPeer(behave) as faulty:
        assert send(peer(faulty.port, timeout_s=5), files[:1])[0].verdict == "accepted"
    assert files[0].path.read_bytes().endswith(got[0])


def test_one_that_never_agrees_to_the_release_has_all_the_same_what_it_has_answered(files):
    def behave(wire):
        accept(wire)
        for _ in files:
            context, fields, _ = read_message(wire)
            wire.sendall(message(context, stored(fields)))
        faulty_peers.silence(wire)

    with FaultyPeer(behave) as faulty:
        assert [each.verdict for each in send(peer(faulty.port), files)] == ["accepted"] * 2


# Connections


def test_a_name_that_does_not_resolve_is_told(files):
    with pytest.raises(DestinationError, match="cannot be reached"):
        send(peer(104, host="nowhere.invalid", timeout_s=2), files)


def test_an_address_of_version_6_is_called(files):
    with contextlib.ExitStack() as stack:
        try:
            faulty = stack.enter_context(FaultyPeer(answer_stores, host="::1"))
        except OSError:
            pytest.skip("there is no IPv6")
        assert [each.verdict for each in send(peer(faulty.port, host="::1"), files)] == ["accepted"] * 2
        assert f"[::1]:{faulty.port}" in peer(faulty.port, host="::1").place


def test_a_tls_handshake_has_a_total_time(files):
    with (
        FaultyPeer(lambda w: drip(w, b"\x16\3\3\1\0")) as faulty,
        pytest.raises(DestinationError, match="reached"),
    ):
        send(peer(faulty.port, tls=ssl.create_default_context()), files)


def test_what_speaks_no_tls_is_told(files):
    with (
        FaultyPeer(lambda w: w.sendall(bytes(100))) as faulty,
        pytest.raises(DestinationError, match="by TLS"),
    ):
        send(peer(faulty.port, tls=ssl.create_default_context()), files)


def test_a_certificate_of_another_name_is_told(files, certificates):
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    trusted = ssl.create_default_context(cafile=certificates / "server.pem")
    secured = lambda w: ours.wrap_socket(w, server_side=True)  # noqa: E731
    with (
        FaultyPeer(secured) as faulty,
        pytest.raises(DestinationError, match="address that we call stands in"),
    ):
        send(peer(faulty.port, tls=trusted, host="localhost"), files)


def test_a_stop_ends_what_waits_for_an_answer_at_once(files):
    with FaultyPeer(lambda w: (first_store(w), faulty_peers.silence(w))) as faulty:
        to = peer(faulty.port, timeout_s=20)
        threading.Timer(0.2, to.connections.end).start()
        begin = time.monotonic()
        with pytest.raises(DestinationError, match="went away"):
            send(to, files)
        assert time.monotonic() - begin < 5
        with pytest.raises(DestinationError, match="we are stopping"):
            send(to, files)
