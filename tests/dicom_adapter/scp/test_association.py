"""On the wire: what peers cut, mix up, exaggerate or leave out ends one association and no more."""

import hashlib
import random
import socket
import struct
import threading

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt

from dicom_adapter.storage.receiver import read_received
from tests.dicom_adapter.destinations import wait_until
from tests.dicom_adapter.instances import CT, instance
from tests.dicom_adapter.storage_service import Service, associate, data_set_of, dcmtk

CUTS, FUZZES = 60, 200
ABORT, ACCEPT, P_DATA, RELEASE_RQ, RELEASE_RP = 7, 2, 4, 5, 6
SIZES = (2048, 70_000, 4096)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    running = Service(tmp_path_factory.mktemp("wire") / "adapter")
    yield running
    running.scp.stop()


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Return the PDUs that a peer sends to store three instances, and the hashes of their data sets."""
    running, said = Service(tmp_path_factory.mktemp("heard") / "adapter", **{"max-pdu": 16384}), []
    association = AE(ae_title="TEST").associate(
        *("127.0.0.1", running.scp.port),
        contexts=[build_context(CT, ExplicitVRLittleEndian)],
        ae_title="CT_AI",
        evt_handlers=[(evt.EVT_DATA_SENT, lambda event: said.append(bytes(event.data)))],
    )
    for n, size in enumerate(SIZES, 1):
        assert association.send_c_store(instance(n, size=size, fill=n)).Status == 0
    association.release()
    running.scp.stop()
    assert len(running.files) == len(SIZES)
    return said, {digest_of(path) for path in running.files}


def digest_of(path):
    return hashlib.sha256(data_set_of(path)).hexdigest()


class Peer:
    """A connection to the service that sends what it is told to."""

    def __init__(self, service):
        self.wire = socket.create_connection(("127.0.0.1", service.scp.port), timeout=10)

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        self.wire.close()

    def say(self, *pdus):
        try:
            for each in pdus:
                self.wire.sendall(each)
        except OSError:
            pass  # the service has hung up already, which is one way to answer

    def hear(self):
        """Return type and body of the next PDU; (None, b"") when the service has hung up."""
        try:
            head = self._exactly(6)
            return (head[0], self._exactly(struct.unpack(">L", head[2:])[0])) if head else (None, b"")
        except ConnectionError:
            return None, b""

    def _exactly(self, count):
        data = b""
        while len(data) < count and (piece := self.wire.recv(count - len(data))):
            data += piece
        return data

    def enter(self, spoken):
        self.say(spoken[0])
        assert self.hear()[0] == ACCEPT

    def leave(self):
        """Say that nothing more comes, and wait until the service has hung up."""
        try:
            self.wire.shutdown(socket.SHUT_WR)
        except OSError:
            return
        while self.hear()[0] is not None:
            pass


def p_data(*values):
    """Return a P-DATA of presentation data values: context, control header and fragment."""
    items = b"".join(struct.pack(">LBB", len(data) + 2, cx, header) + data for cx, header, data in values)
    return struct.pack(">BxL", P_DATA, len(items)) + items


def message(pdus):
    """Return context, command set and data set of the first message among PDUs."""
    command, data, context = b"", b"", 0
    for pdu in pdus:
        at = 6
        while at < len(pdu):
            length, context, header = struct.unpack_from(">LBB", pdu, at)
            part = pdu[at + 6 : at + 4 + length]
            command, data = (command + part, data) if header & 1 else (command, data + part)
            at += 4 + length
            if header == 2:
                return context, command, data
    raise AssertionError("no whole message")


def nothing_is_amiss(service, sent=None):
    """The next one is served, nobody's thread is left, and every file is a whole instance in its folder."""
    assert dcmtk("echoscu", service).returncode == 0
    wait_until(lambda: not service.told.open, what="the end of all associations")
    wait_until(
        lambda: not [each for each in threading.enumerate() if each.name.startswith("association")],
        what="the end of all threads",
    )
    assert list(service.places.incoming.iterdir()) == []
    for path in service.files:
        assert read_received(path).sop_instance_uid == path.name.removesuffix(".dcm").partition("~")[0]
        assert sent is None or digest_of(path) in sent
    outside = [p for p in service.places.root.rglob("*") if p.is_file() and p not in service.files]
    assert outside == []


def test_a_connection_cut_anywhere_leaves_whole_instances_only(service, spoken):
    pdus, sent = spoken
    rest, chance = b"".join(pdus[1:]), random.Random(1)
    for n in range(CUTS):
        with Peer(service) as peer:
            if n % 10 == 0:
                peer.say(pdus[0][: chance.randrange(len(pdus[0]))])
            else:
                peer.enter(pdus)
                peer.say(rest[: chance.randrange(len(rest))])
            if n % 2:
                peer.leave()  # else the connection is closed with answers unread, which resets it
    nothing_is_amiss(service, sent)


def test_pdus_that_are_fuzzed_end_one_association_and_nothing_else(service, spoken):
    pdus, _ = spoken
    for seed in range(FUZZES):
        chance = random.Random(seed)
        with Peer(service) as peer:
            if seed % 5 == 0:
                peer.say(fuzzed(pdus[0], chance))
            else:
                peer.enter(pdus)
            which = chance.randrange(1, len(pdus))
            peer.say(*pdus[1:which], fuzzed(pdus[which], chance), *pdus[which + 1 :])
            peer.leave()
    nothing_is_amiss(service)


def fuzzed(pdu, chance):
    """Return a PDU with something wrong: near its heads, where lengths and types are, more often than not."""
    made = bytearray(pdu)
    for _ in range(chance.randint(1, 4)):
        at = min(int(chance.expovariate(1 / 60)), len(made) - 1)
        kind = chance.randrange(4)
        if kind == 0:
            made[at] = chance.randrange(256)
        elif kind == 1:
            del made[at : at + chance.randint(1, 20)]
        elif kind == 2:
            made[at:at] = chance.randbytes(chance.randint(1, 20))
        else:
            made[at : at + 4] = chance.choice([b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff"])
        if not made:
            return b"\0"
    return bytes(made)


@pytest.mark.parametrize("length", [1 << 21, (1 << 32) - 1])
def test_a_pdu_that_says_it_is_huge_is_refused_before_it_comes(service, spoken, length):
    with Peer(service) as stranger:
        stranger.say(struct.pack(">BxL", 1, length))
        assert stranger.hear()[0] in (None, ABORT)
    with Peer(service) as peer:
        peer.enter(spoken[0])
        peer.say(struct.pack(">BxL", P_DATA, length))
        assert peer.hear() == (ABORT, b"\x00\x00\x02\x06")  # by the provider, invalid parameter value


def test_a_message_in_the_smallest_fragments_is_put_together(tmp_path, spoken):
    running = Service(tmp_path / "adapter")
    context, command, data = message(spoken[0][1:])
    pieces = [(1, command), (0, data)]
    values = [
        (context, is_command | (2 if end >= len(whole) else 0), whole[end - 7 : end])
        for is_command, whole in pieces
        for end in range(7, len(whole) + 7, 7)
    ]
    with Peer(running) as peer:
        peer.enter(spoken[0])
        peer.say(*(p_data(each) for each in values[:50]), p_data(*values[50:]))
        assert peer.hear()[0] == P_DATA
        peer.say(spoken[0][-1])
        assert peer.hear()[0] == RELEASE_RP
    running.scp.stop()
    assert [data_set_of(path) for path in running.files] == [data]


@pytest.mark.parametrize(
    "values",
    [
        [(99, 3, b"command")],
        [(1, 2, b"data before any command")],
        [(1, 1, b"begun"), (3, 1, b"another")],
        [(1, 3, b"no command set")],
        [(1, 1, bytes(70_000))],
    ],
    ids=["context not accepted", "data first", "mixed", "garbage", "endless command"],
)
def test_a_message_against_the_rules_aborts_the_association(service, spoken, values):
    with Peer(service) as peer:
        peer.enter(spoken[0])
        peer.say(*(p_data(each) for each in values))
        assert peer.hear()[0] == ABORT
        assert peer.hear()[0] is None
    nothing_is_amiss(service)


def test_only_what_is_to_be_stored_may_be_large(service, spoken):
    context, command, _ = message(spoken[0][1:])
    find = command.replace(
        b"\x00\x00\x00\x01\x02\x00\x00\x00\x01\x00", b"\x00\x00\x00\x01\x02\x00\x00\x00\x20\x00"
    )
    assert find != command
    with Peer(service) as peer:
        peer.enter(spoken[0])
        peer.say(p_data((context, 3, find)), *[p_data((context, 0, bytes(1 << 17)))] * 150)
        assert peer.hear()[0] in (ABORT, None)
    nothing_is_amiss(service)


def test_a_peer_that_falls_silent_is_aborted(tmp_path, spoken):
    running = Service(tmp_path / "adapter", **{"idle-seconds": 0.3, "request-seconds": 0.3})
    with Peer(running) as peer, Peer(running) as mute:
        peer.enter(spoken[0])
        peer.say(spoken[0][1][:-1])  # all but the last byte of a PDU
        assert peer.hear()[0] == ABORT
        mute.say(b"\x01")
        assert mute.hear()[0] == ABORT
    running.scp.stop()


def test_a_stop_aborts_who_is_still_there_and_takes_no_more(tmp_path):
    running = Service(tmp_path / "adapter")
    association = associate(running)
    running.scp.stop()
    wait_until(lambda: association.is_aborted, what="the abort")
    assert dcmtk("echoscu", running).returncode != 0
