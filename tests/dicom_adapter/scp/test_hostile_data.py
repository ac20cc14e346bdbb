"""Data sets that nobody would send: a whole adapter keeps or refuses each by itself, within bounds."""

import socket
import struct
import time
import zlib
from pathlib import Path

import pytest

from tests.dicom_adapter.adapters import Adapter
from tests.dicom_adapter.instances import CT

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
KEPT, FULL, MISMATCH, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000
UNDEFINED = 0xFFFFFFFF
LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT")
MIB = 1 << 20
STUDY, SERIES, INSTANCE = b"1.2.3", b"1.2.3.4", b"1.2.3.4.1"


def element(tag, vr, value, *, length=None, order="<"):
    value += b"\0" * (len(value) % 2)
    length = len(value) if length is None else length
    if vr is None:
        return struct.pack(order + "HHL", tag >> 16, tag & 0xFFFF, length) + value
    form = "HH2sxxL" if vr in LONG else "HH2sH"
    return struct.pack(order + form, tag >> 16, tag & 0xFFFF, vr, length) + value


def item(value=b"", *, length=None, tag=0xFFFEE000):
    return element(tag, None, value, length=length)


def identity(*, explicit=True, order="<", before=b"", study=STUDY, instance=INSTANCE):
    """Return the attributes that tell who an instance is, and something before the study."""
    texts = ((0x00080016, b"UI", CT.encode()), (0x00080018, b"UI", instance), (0x00080060, b"CS", b"CT"))
    tail = ((0x0020000D, b"UI", study), (0x0020000E, b"UI", SERIES))

    def encoded(values):
        return b"".join(element(t, vr if explicit else None, v, order=order) for t, vr, v in values)

    return encoded(texts) + before + encoded(tail)


GOOD = identity()
BEFORE = GOOD.index(b"\x20\x00\x0d\x00")
SEQUENCE = element(0x00081140, b"SQ", b"", length=UNDEFINED)
END_OF_SEQUENCE, END_OF_ITEM = item(tag=0xFFFEE0DD), item(tag=0xFFFEE00D)
UIDS_INSIDE = element(0x0020000D, b"UI", b"6.6.6") + element(0x0020000E, b"UI", b"6.6.6.6")


def within(value):
    return GOOD[:BEFORE] + value + GOOD[BEFORE:]


def deflated(data):
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def bomb(tag):
    """Return a deflated data set with 96 MiB of zeros in front of the UIDs, or behind them."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = element(tag, b"OB", b"", length=96 * MIB)
    at = len(GOOD) if tag >> 16 == 0x7FE0 else BEFORE
    packed = packer.compress(GOOD[:at] + head)
    for _ in range(96):
        packed += packer.compress(bytes(MIB))
    return packed + packer.compress(GOOD[at:]) + packer.flush()


CASES = {  # what takes long to make is made when it is sent
    "a sequence with UIDs in it before the UIDs": (
        within(SEQUENCE + item(UIDS_INSIDE) + END_OF_SEQUENCE),
        KEPT,
    ),
    "the same, all of undefined length": (
        within(SEQUENCE + item(UIDS_INSIDE + END_OF_ITEM, length=UNDEFINED) + END_OF_SEQUENCE),
        KEPT,
    ),
    "20,000 sequences in each other": (
        lambda: within((SEQUENCE + item(length=UNDEFINED)) * 20_000),
        NOT_UNDERSTOOD,
    ),
    "1,000,000 empty items": (
        lambda: within(SEQUENCE + item() * 1_000_000 + END_OF_SEQUENCE),
        NOT_UNDERSTOOD,
    ),
    "500,000 empty elements": (lambda: within(element(0x00091010, b"LO", b"") * 500_000), NOT_UNDERSTOOD),
    "a private element of 40 MiB": (lambda: within(element(0x00091010, b"OB", bytes(40 * MIB))), KEPT),
    "a sequence of 8 MiB, of undefined length": (
        lambda: within(SEQUENCE + item(bytes(8 * MIB)) + END_OF_SEQUENCE),
        KEPT,
    ),
    "a length that reaches far beyond": (
        within(element(0x00091010, b"OB", b"xx", length=0xFFFFFFF0)),
        NOT_UNDERSTOOD,
    ),
    "a sequence that never ends": (within(SEQUENCE + item(b"") * 3), NOT_UNDERSTOOD),
    "an end of a sequence that never began": (within(END_OF_SEQUENCE), NOT_UNDERSTOOD),
    "elements in descending order": (GOOD[BEFORE:] + GOOD[:BEFORE], KEPT),
    "meta information in the data set": (element(0x00020010, b"UI", b"1.2.3") + GOOD, NOT_UNDERSTOOD),
    "the study twice, and they differ": (within(element(0x0020000D, b"UI", b"6.6.6")), NOT_UNDERSTOOD),
    "the study twice, the same": (within(element(0x0020000D, b"UI", STUDY)), KEPT),
    "another instance than the request": (identity(instance=b"1.2.3.4.9"), MISMATCH),
    "letters for a representation": (within(element(0x00091010, b"ZZ", b"xx")), KEPT),
    "bytes for a representation": (within(element(0x00091010, b"\xff\0", b"xx")), NOT_UNDERSTOOD),
    "an odd length": (
        within(struct.pack("<HH2sH", 0x0009, 0x1010, b"LO", 3) + b"abc"),
        KEPT,
    ),
    "a description of 64 KiB": (within(element(0x0008103E, b"UT", b"\xe4" * 65_536)), KEPT),
    "a description of 65 KiB": (within(element(0x0008103E, b"UT", b"x" * 66_560)), NOT_UNDERSTOOD),
    "a description with NUL, ESC and a surrogate": (
        element(0x00080005, b"CS", b"ISO_IR 192")
        + within(element(0x0008103E, b"LO", b"a\0\x1b$B\xed\xa0\x80")),
        KEPT,
    ),
    "a codec that makes surrogates": (
        element(0x00080005, b"CS", b"raw_unicode_escape")
        + within(element(0x0008103E, b"LO", b"\\ud800\xe4")),
        KEPT,
    ),
    "10,000 character sets": (element(0x00080005, b"CS", b"\\" * 10_000) + GOOD, KEPT),
    "a path for a study": (identity(study=b"../../../etc"), NOT_UNDERSTOOD),
    "two studies in one value": (identity(study=b"1.2.3\\1.2.4"), NOT_UNDERSTOOD),
    "nothing": (b"", NOT_UNDERSTOOD),
    "noise": (bytes(range(256)) * 64, NOT_UNDERSTOOD),
    "implicit where explicit was agreed": (identity(explicit=False), KEPT),
    "little endian where big was agreed": (GOOD, NOT_UNDERSTOOD, BIG),
    "big endian": (identity(order=">"), KEPT, BIG),
    "explicit where implicit was agreed": (GOOD, NOT_UNDERSTOOD, IMPLICIT),
    "deflated": (deflated(GOOD), KEPT, DEFLATED),
    "not deflated, said to be": (GOOD, NOT_UNDERSTOOD, DEFLATED),
    "96 MiB of deflated zeros before the UIDs": (lambda: bomb(0x00091010), NOT_UNDERSTOOD, DEFLATED),
    "96 MiB of deflated zeros behind them": (lambda: bomb(0x7FE00010), KEPT, DEFLATED),
}


def data_of(name):
    """Return the data set of a case."""
    data = CASES[name][0]
    return data() if callable(data) else data


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    made = Adapter(tmp_path_factory.mktemp("adapter"), workflows=[])
    made.settings["storage"]["largest-instance"] = "64M"
    made.write()
    with made:
        yield made


def pdu(kind, body):
    return struct.pack(">BxL", kind, len(body)) + body


def value(header, data):
    return struct.pack(">LBB", len(data) + 2, 1, header) + data


def part(kind, body):
    return struct.pack(">BxH", kind, len(body)) + body


class Caller:
    """An association over a raw socket, of which nothing checks what is sent."""

    def __init__(self, port, syntax):
        self.wire = socket.create_connection(("127.0.0.1", port), timeout=30)
        context = bytes([1, 0, 0, 0]) + part(0x30, CT.encode()) + part(0x40, syntax.encode())
        body = struct.pack(">Hxx16s16s32x", 1, b"CT_AI".ljust(16), b"HOSTILE".ljust(16))
        body += part(0x10, b"1.2.840.10008.3.1.1.1") + part(0x20, context)
        self.wire.sendall(pdu(1, body + part(0x50, part(0x51, struct.pack(">L", 16384)))))
        assert self.read()[0] == 2

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        self.wire.close()

    def store(self, data, *, instance=INSTANCE):
        """Send a data set, and return the status that is answered."""
        fields = (
            (0x02, CT.encode()),
            (0x100, b"\1\0"),
            (0x110, b"\1\0"),
            (0x800, b"\0\0"),
            (0x1000, instance),
        )
        self.wire.sendall(pdu(4, value(3, b"".join(element(tag, None, each) for tag, each in fields))))
        for at in range(0, max(len(data), 1), 200_000):
            is_last = at + 200_000 >= len(data)
            self.wire.sendall(pdu(4, value(2 if is_last else 0, data[at : at + 200_000])))
        kind, body = self.read()
        assert kind == 4, f"the association ended with PDU type {kind}"
        at = body.index(struct.pack("<HHL", 0, 0x900, 2)) + 8
        return int.from_bytes(body[at : at + 2], "little")

    def read(self):
        kind, length = struct.unpack(">BxL", self.wire.recv(6, socket.MSG_WAITALL))
        return kind, self.wire.recv(length, socket.MSG_WAITALL)


def peak_mib(adapter):
    status = Path(f"/proc/{adapter.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


@pytest.mark.parametrize("name", CASES)
def test_it_is_kept_or_refused_by_itself_within_24_mib_and_10_s(adapter, name):
    _, status, *syntax = CASES[name]
    data = data_of(name)
    with Caller(adapter.port, *(syntax or [EXPLICIT])) as caller:
        Path(f"/proc/{adapter.process.pid}/clear_refs").write_text("5")
        before, begun = peak_mib(adapter), time.monotonic()
        assert f"{caller.store(data):#06x}" == f"{status:#06x}"
        assert time.monotonic() - begun < 10
        assert peak_mib(adapter) - before < 24
        assert caller.store(data if syntax else GOOD) in (KEPT, status), "the association goes on"
    assert "Traceback" not in adapter.log.read_text()


@pytest.mark.parametrize("instance", [b"\xff\xfe", b"1.2." + b"3" * 60_000, b"../../x ", b""])
@pytest.mark.parametrize("size", [0, 2 * MIB])
def test_a_request_whose_uid_is_none_is_refused_and_the_association_goes_on(adapter, instance, size):
    with Caller(adapter.port, EXPLICIT) as caller:
        assert (
            caller.store(GOOD + element(0x7FE00010, b"OB", bytes(size)), instance=instance) == NOT_UNDERSTOOD
        )
        assert caller.store(GOOD) == KEPT


def test_what_is_larger_than_the_largest_takes_no_space_and_the_association_goes_on(adapter):
    with Caller(adapter.port, EXPLICIT) as caller:
        assert caller.store(GOOD + element(0x7FE00010, b"OB", bytes(70 * MIB))) == FULL
        assert caller.store(GOOD) == KEPT
    assert list((adapter.folder / "dicom-adapter/incoming").iterdir()) == []


def test_what_was_kept_is_taken_into_a_new_database(adapter):
    with Caller(adapter.port, EXPLICIT) as caller:
        for name in ("a codec that makes surrogates", "a private element of 40 MiB"):
            assert caller.store(data_of(name)) == KEPT
    adapter.kill()
    for file in (adapter.folder / "dicom-adapter").glob("adapter.sqlite*"):
        file.unlink()
    kept = len(list((adapter.folder / "dicom-adapter/studies").rglob("*.dcm")))
    rebuilt = adapter.clara_wf("rebuild")
    assert f"found beside it: {kept} instances" in rebuilt.out, rebuilt.err
    adapter.start()
