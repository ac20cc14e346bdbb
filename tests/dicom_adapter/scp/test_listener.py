"""Many connections at once, and peers that take their time: they cost others nothing, and end."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest

from dicom_adapter.scp.pdu_stream import SlowPeerError, write
from dicom_adapter.supervision.worker import Worker
from tests.dicom_adapter.certificates import secured
from tests.dicom_adapter.destinations import wait_until
from tests.dicom_adapter.raw_pdus import (
    ABORT,
    ACCEPT,
    ECHO,
    REJECT,
    STORE,
    VERIFICATION,
    Caller,
    command,
    context,
    p_data,
    request,
    status_of,
    stored,
)
from tests.dicom_adapter.storage_service import dcmtk

_SOON_S = 5.0  # half of what a stranger may take for its request; usually it is milliseconds
LIMIT_EXCEEDED = (REJECT, b"\0\2\3\2")
KNOWN = {"sources": [{"ae-title": "SCANNER", "host-ip": "127.0.0.3"}]}


@pytest.fixture
def strangers():
    """Return what connects so many from an address, and says the beginning of a request."""
    made = []

    def connect(service, count, said=b"", source="127.0.0.2"):
        for _ in range(count):
            made.append(Caller(service.scp.port, source=source))
            with contextlib.suppress(ConnectionError):  # it may have been hung up on already
                made[-1].say(said)
        return made[-count:]

    yield connect
    for each in made:
        each.wire.close()


def echo_s(service):
    """Return how long another waits for the answer to its echo, seconds; a loaded machine has part in it."""
    begun = time.monotonic()
    with Caller(service.scp.port) as caller:
        caller.enter(context(1, VERIFICATION))
        caller.say(p_data((1, 3, command(ECHO, uid=VERIFICATION))))
        assert status_of(caller.hear()[1]) == 0
    return time.monotonic() - begun


def threads_of(name):
    return [each for each in threading.enumerate() if each.name == name]


# Who has not asked yet


@pytest.mark.parametrize(
    "said", [b"", request()[:1], request()[:-1]], ids=["idle", "one byte", "all but one"]
)
@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
def test_hundreds_who_wait_take_no_thread_and_keep_nobody_waiting(service, strangers, said, source):
    running = service(**{"max-associations": 1, "max-waiting": 50})
    strangers(running, 300, said, source)
    wait_until(
        lambda: running.told.endings.count(("displaced", "others wanted to connect")) == 250, what="room"
    )
    wait_until(lambda: running.scp.waiting == 50, what="their end")
    assert threads_of("association") == []
    assert echo_s(running) < _SOON_S


def test_who_asks_for_nothing_in_time_is_hung_up_on(service, strangers):
    running = service(**{"request-seconds": 0.3})
    (idle,), (slow,) = strangers(running, 1), strangers(running, 1, request()[:9])
    assert idle.hear() == (None, b"")
    assert slow.hear() == (ABORT, b"\0\0\2\0")
    wait_until(lambda: len(running.told.endings) == 2, what="both ends")
    assert {ending for ending, _ in running.told.endings} == {"silent", "slow"}


def answer_to_trickle(slow, said):
    """Say a byte every 50 ms until there is an answer, and return that and after how many seconds it came."""
    begun, heard = time.monotonic(), []
    hearing = threading.Thread(target=lambda: heard.append((slow.hear(), time.monotonic() - begun)))
    hearing.start()
    for at in range(40):
        if heard:
            break
        slow.say(said[at : at + 1])
        hearing.join(0.05)
    hearing.join()
    return heard[0]


def test_a_request_that_trickles_has_a_total_deadline(service, strangers):
    running, said = service(**{"request-seconds": 0.5}), request()
    (slow,) = strangers(running, 1)
    heard, seconds = answer_to_trickle(slow, said)
    assert heard == (ABORT, b"\0\0\2\0")
    assert 0.4 < seconds < 1.2


def test_a_request_in_single_bytes_is_taken(service, strangers):
    (caller,) = strangers(service(), 1)
    for byte in request():
        caller.say(bytes((byte,)))
    assert caller.hear()[0] == ACCEPT


def test_known_addresses_wait_whatever_strangers_do(service, strangers):
    running = service(**{"max-waiting": 10, **KNOWN})
    known = strangers(running, 3, request()[:20], "127.0.0.3")
    strangers(running, 100, request()[:20], "127.0.0.2")
    wait_until(lambda: len(running.told.endings) == 93, what="room")
    for each in known:
        each.say(request()[20:])
        assert each.hear()[0] == ACCEPT


def test_strangers_find_no_room_where_those_who_are_known_wait(service, strangers):
    running = service(**{"max-waiting": 2, **KNOWN})
    known = strangers(running, 2, request()[:20], "127.0.0.3")
    wait_until(lambda: running.scp.waiting == 2, what="both")
    with contextlib.suppress(ConnectionError):  # it may be hung up on before it knows that it is connected
        (stranger,) = strangers(running, 1)
        assert stranger.hear() == (None, b"")
    wait_until(lambda: running.told.endings, what="its end")
    assert running.told.endings == [("no room", "more connections than may wait")]
    for each in known:
        each.say(request()[20:])
        assert each.hear()[0] == ACCEPT


def test_a_crowd_of_one_address_makes_room_for_the_others(service, strangers):
    running = service(**{"max-waiting": 10})
    (quiet,) = strangers(running, 1, request()[:20], "127.0.0.4")
    strangers(running, 100, b"", "127.0.0.2")
    wait_until(lambda: len(running.told.endings) == 91, what="room")
    quiet.say(request()[20:])
    assert quiet.hear()[0] == ACCEPT


def test_a_flood_of_requests_that_are_rejected_keeps_nobody_waiting(service):
    running, flooding = service(**{"max-waiting": 50}), threading.Event()
    flooding.set()

    def flood():
        while flooding.is_set():
            with Caller(running.scp.port, source="127.0.0.2") as caller:
                caller.say(request(called=b"NOBODY"))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        wait_until(lambda: len(running.told.rejections) > 50, what="the flood")
        assert max(echo_s(running) for _ in range(3)) < _SOON_S
    finally:
        flooding.clear()
        thread.join()


def test_an_ipv4_caller_of_an_ipv6_port_is_known_by_its_own_address(service):
    known = {"reject-unknown-sources": True, "sources": [{"ae-title": "SCANNER", "host-ip": "127.0.0.1"}]}
    running = service(host="::", **known)
    with Caller(running.scp.port) as caller:
        caller.enter()


def test_a_port_without_descriptors_stays_open_and_idle(tmp_path):
    code = f"""
import resource, sys, threading, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from tests.dicom_adapter.storage_service import Service
running = Service(Path({str(tmp_path)!r}) / "adapter", **{{"max-waiting": 1000}})
held = [open("/dev/null") for _ in range(42)]
print(running.scp.port, flush=True)
sys.stdin.readline()
begun = time.process_time()
time.sleep(0.5)
print(time.process_time() - begun, sum(ending == "no room" for ending, _ in running.told.endings), flush=True)
sys.stdin.readline()
running.scp.stop()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as process:
        port = int(process.stdout.readline())
        callers = [Caller(port) for _ in range(100)]
        process.stdin.write("\n")
        process.stdin.flush()
        used_s, turned_away = process.stdout.readline().split()
        with Caller(port) as caller:
            caller.enter(context(1, VERIFICATION))
        for each in callers:
            each.wire.close()
        process.communicate("\n", timeout=10)
    assert process.returncode == 0
    assert float(used_s) < 0.25  # of half a second
    assert int(turned_away) > 0


# Who has an association


def test_one_address_takes_half_of_all_places_at_most(service, strangers):
    running = service(**{"max-associations": 4})
    first = strangers(running, 3, request())
    assert [each.hear()[0] for each in first[:2]] == [ACCEPT] * 2
    assert first[2].hear() == LIMIT_EXCEEDED
    assert echo_s(running) < _SOON_S


def test_limits_are_those_of_the_configuration_as_it_is_now(service, strangers):
    running = service(**{"max-associations": 1})
    first, second, third = strangers(running, 3)
    first.enter()
    second.say(request())
    assert second.hear() == LIMIT_EXCEEDED
    running.config = running.config.model_copy(update={"max_associations": 3})
    third.enter()


def test_a_quarter_of_all_places_is_for_known_addresses(service, strangers):
    running = service(**{"max-associations": 4, "max-associations-per-address": 4, **KNOWN})
    others = strangers(running, 4, request())
    assert [each.hear()[0] for each in others[:3]] == [ACCEPT] * 3
    assert others[3].hear() == LIMIT_EXCEEDED
    (known,) = strangers(running, 1, request(), "127.0.0.3")
    assert known.hear()[0] == ACCEPT


def test_who_has_said_nothing_makes_room_and_who_has_does_not(service, strangers, monkeypatch):
    monkeypatch.setattr("dicom_adapter.scp.admission._UNPROVEN_S", 0.0)
    running = service(**{"max-associations": 2, "max-associations-per-address": 2})
    busy, mute, new = strangers(running, 3)
    busy.enter(context(1, VERIFICATION))
    busy.say(p_data((1, 3, command(ECHO, uid=VERIFICATION))))
    assert status_of(busy.hear()[1]) == 0
    mute.enter()
    new.enter()
    assert mute.hear() == (ABORT, bytes(4))
    busy.say(p_data((1, 3, command(ECHO, uid=VERIFICATION))))
    assert status_of(busy.hear()[1]) == 0


def test_a_pdu_that_trickles_has_a_total_deadline(service, strangers):
    running = service(**{"idle-seconds": 0.5})
    (slow,) = strangers(running, 1)
    slow.enter()
    said = p_data((1, 3, command(STORE, data=True)), (1, 0, bytes(1000)))
    heard, seconds = answer_to_trickle(slow, said)
    assert heard == (ABORT, b"\0\0\2\0")
    assert 0.4 < seconds < 1.2
    wait_until(lambda: running.told.endings, what="its end")
    assert running.told.endings == [("slow", "a PDU took longer than 0.5 s")]


@pytest.mark.parametrize(("size", "endings"), [(8000, []), (100, ["slow"])])
def test_a_message_has_a_least_rate_beyond_the_time_of_a_silence(service, strangers, size, endings):
    running = service(**{"idle-seconds": 0.3, "least-rate": 20_000})
    (caller,) = strangers(running, 1)
    caller.enter()
    caller.say(p_data((1, 3, command(STORE, data=True))))
    for _ in range(8):  # 80,000 or 1,000 bytes a second
        if running.told.endings:
            break
        caller.say(p_data((1, 0, bytes(size))))
        time.sleep(0.1)
    assert [ending for ending, _ in running.told.endings] == endings


def test_time_that_we_take_ourselves_is_not_the_peers(service, strangers):
    running = service(**{"idle-seconds": 0.3})
    keep = running.receiver.keep
    running.receiver.keep = lambda *arguments: time.sleep(0.5) or keep(*arguments)
    (caller,) = strangers(running, 1)
    caller.enter()
    caller.say(stored("1.2.3.4.1"), stored("1.2.3.4.2"))
    assert [status_of(caller.hear()[1]) for _ in range(2)] == [0, 0]


@pytest.mark.parametrize("reads", [0, 1], ids=["nothing", "byte by byte"])
def test_a_peer_that_does_not_read_is_waited_for_once(reads):
    ours, deaf = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    over = threading.Event()

    def read():
        while not over.wait(0.02):
            deaf.recv(reads)

    reading = threading.Thread(target=read)
    reading.start()
    begun = time.monotonic()
    with pytest.raises(SlowPeerError, match=r"did not read for 0\.3 s"):
        write(ours, bytes(1 << 20), 0.3)
    assert 0.2 < time.monotonic() - begun < 3
    over.set()
    reading.join()
    ours.close()
    deaf.close()


def test_a_million_bytes_in_fragments_of_one_are_refused(service, strangers):
    running = service()
    (caller,) = strangers(running, 1)
    caller.enter()
    caller.say(p_data((1, 3, command(STORE, data=True))), p_data(*[(1, 0, b"x")] * 12_000))
    assert caller.hear() == (ABORT, b"\0\0\2\6")
    wait_until(lambda: running.told.endings, what="its end")
    assert running.told.endings == [("broken", "a message in countless tiny fragments")]


# TLS


@pytest.fixture
def tls(certificates):
    return {
        "enabled": True,
        "certificate": str(certificates / "server.pem"),
        "key": str(certificates / "server.key"),
    }


def test_half_open_handshakes_end_in_time_and_keep_nobody_waiting(service, strangers, certificates, tls):
    running = service(tls=tls, **{"request-seconds": 1.5})
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    half, garbage, idle = (
        strangers(running, 60, hello),
        strangers(running, 20, b"GET /"),
        strangers(running, 60),
    )
    assert dcmtk("echoscu", running, *secured(certificates, None, "server")).returncode == 0
    assert len(threads_of("association")) <= 32
    for each in (*half, *garbage, *idle):
        each.wire.settimeout(5)
        with contextlib.suppress(ConnectionError):
            assert each.wire.recv(1) in (b"", b"\x15")  # an alert
    wait_until(lambda: not threads_of("association"), what="the end of all threads")


def test_a_request_over_tls_has_a_total_deadline(service, certificates, tls):
    running = service(tls=tls, **{"request-seconds": 0.5})
    context = ssl.create_default_context(cafile=certificates / "server.pem")
    context.check_hostname = False
    with (
        socket.create_connection(("127.0.0.1", running.scp.port), 5) as plain,
        context.wrap_socket(plain) as wire,
    ):
        wire.sendall(request()[:10])
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            wire.recv(10)
        assert time.monotonic() - begun < 4
    wait_until(lambda: running.told.endings, what="its end")
    assert running.told.endings[-1][0] == "slow"


# The end


def test_a_stop_closes_once_however_the_threads_take_turns(service, monkeypatch):
    """What is closed twice may be another's by then."""
    failures = []
    monkeypatch.setattr(Worker, "_start_again", lambda worker, error: failures.append(error))
    stop = Worker.stop
    monkeypatch.setattr(Worker, "stop", lambda worker: (time.sleep(0.2), stop(worker)))
    service().scp.stop()
    assert failures == []


def test_a_stop_ends_within_seconds_whatever_peers_do(service, strangers):
    running = service(**{"idle-seconds": 60})
    idle, half, within, deaf = strangers(running, 4)
    half.say(request()[:30])
    within.enter()
    within.say(p_data((1, 3, command(STORE, data=True)), (1, 0, bytes(10)))[:-1])
    deaf.enter(context(1, VERIFICATION))
    deaf.wire.settimeout(0.2)
    try:
        while True:
            deaf.say(p_data((1, 3, command(ECHO, uid=VERIFICATION))) * 500)
    except TimeoutError:
        pass
    begun = time.monotonic()
    running.scp.stop()
    assert time.monotonic() - begun < 8
    assert idle.hear()[0] is None
    assert half.hear()[0] is None
    assert within.hear()[0] in (ABORT, None)
    wait_until(lambda: not threads_of("association"), what="the end of all threads")


def test_the_end_closes_no_descriptor_twice(service, tmp_path):
    """The number of one that is closed may be that of somebody else's file by then."""
    listener = service().scp._listener
    spare = listener._spare
    listener.close(5)
    with (tmp_path / "others").open("wb") as file:
        os.dup2(file.fileno(), spare)
        listener._end()
        assert os.path.samestat(os.fstat(spare), os.fstat(file.fileno()))
        os.close(spare)
