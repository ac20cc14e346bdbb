"""Sends CT slices over many associations at once and takes little time itself; see `benchmarks/adapter.py`.

Every message is made before the clock starts, in PDUs as large as the receiver takes; then each association
sends one slice after the other and waits for Success. Prints a line of JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import socket
import struct
import threading
import time

CT, EXPLICIT_LITTLE = b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.1.2.1"
ROOT_UID = "1.2.826.0.1.3680043.10.1511"
_LARGEST_PDU = 1 << 18
_CONTEXT = 1


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def slice_of(study: int, number: int, rows: int) -> tuple[bytes, bytes]:
    """Return the SOPInstanceUID and the data set of a slice; every slice has other pixels."""
    study_uid = f"{ROOT_UID}.{study}"
    uid = f"{study_uid}.1.{number}".encode()
    pixels = hashlib.sha256(uid).digest() * (rows * rows // 16)
    short = struct.Struct("<H").pack
    head = (
        element(0x08, 0x16, b"UI", CT),
        element(0x08, 0x18, b"UI", uid),
        element(0x08, 0x60, b"CS", b"CT"),
        element(0x08, 0x103E, b"LO", b"PHANTOM"),
        element(0x10, 0x10, b"PN", b"PHANTOM"),
        element(0x10, 0x20, b"LO", b"PHANTOM"),
        element(0x20, 0x0D, b"UI", study_uid.encode()),
        element(0x20, 0x0E, b"UI", f"{study_uid}.1".encode()),
        element(0x20, 0x13, b"IS", str(number).encode()),
        element(0x28, 0x02, b"US", short(1)),
        element(0x28, 0x04, b"CS", b"MONOCHROME2"),
        element(0x28, 0x10, b"US", short(rows)),
        element(0x28, 0x11, b"US", short(rows)),
        *(element(0x28, at, b"US", short(each)) for at, each in ((0x100, 16), (0x101, 16), (0x102, 15))),
        element(0x28, 0x103, b"US", short(1)),
        struct.pack("<HH2sxxL", 0x7FE0, 0x10, b"OW", len(pixels)),
    )
    return uid, b"".join(head) + pixels


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def request(called: str) -> bytes:
    """Return an A-ASSOCIATE-RQ with one presentation context (PS3.8 9.3.2)."""
    context = bytes([_CONTEXT, 0, 0, 0]) + item(0x30, CT) + item(0x40, EXPLICIT_LITTLE)
    user = item(0x51, struct.pack(">L", _LARGEST_PDU)) + item(0x52, ROOT_UID.encode())
    body = struct.pack(">Hxx16s16s32x", 1, called.encode().ljust(16), b"SENDER".ljust(16))
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, user)
    return struct.pack(">BxL", 1, len(body)) + body


def message(number: int, uid: bytes, data: bytes, largest: int) -> bytes:
    """Return a C-STORE request and its data set as P-DATA (PS3.8 9.3.5)."""
    values = ((0x02, CT), (0x100, b"\1\0"), (0x110, struct.pack("<H", number)), (0x700, b"\0\0"))
    fields = [*values, (0x800, b"\0\0"), (0x1000, uid)]
    padded = [(each, value + b"\0" * (len(value) % 2)) for each, value in fields]
    body = b"".join(struct.pack("<HHL", 0, each, len(value)) + value for each, value in padded)
    command = struct.pack("<HHLL", 0, 0, 4, len(body)) + body
    pieces = [data[at : at + largest - 6] for at in range(0, len(data), largest - 6)]
    pdus = [_p_data(0x03, command)]
    pdus += [_p_data(0x02 if each is pieces[-1] else 0x00, each) for each in pieces]
    return b"".join(pdus)


def _p_data(header: int, value: bytes) -> bytes:
    return struct.pack(">BxLLBB", 4, len(value) + 6, len(value) + 2, _CONTEXT, header) + value


class Sender(threading.Thread):
    """One association and what it sends."""

    def __init__(
        self, port: int, called: str, slices: list[tuple[bytes, bytes]], begin: threading.Barrier
    ) -> None:
        super().__init__()
        self._wire = socket.create_connection(("127.0.0.1", port))
        self._wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wire.sendall(request(called))
        kind, body = self._pdu()
        if kind != 2:
            raise SystemExit(f"the association was not accepted: PDU type {kind}")
        at = body.index(b"\x51\0\0\4") + 4
        largest = min(int.from_bytes(body[at : at + 4], "big") or _LARGEST_PDU, _LARGEST_PDU)
        self._messages = [message(n + 1, uid, data, largest) for n, (uid, data) in enumerate(slices)]
        self._begin = begin
        self.ended, self.failed = 0.0, 0

    def run(self) -> None:
        self._begin.wait()
        for each in self._messages:
            self._wire.sendall(each)
            answer = self._pdu()[1]
            status = answer.index(b"\x00\x00\x00\x09\x02\0\0\0") + 8
            self.failed += answer[status : status + 2] != b"\0\0"
        self.ended = time.perf_counter()
        self._wire.sendall(struct.pack(">BxLxxxx", 5, 4))
        self._wire.recv(64)
        self._wire.close()

    def _pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxL", self._wire.recv(6, socket.MSG_WAITALL))
        return kind, self._wire.recv(length, socket.MSG_WAITALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("called")
    parser.add_argument("--associations", type=int, default=20)
    parser.add_argument("--instances", type=int, default=20, help="of each association")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--first", type=int, default=1, help="number of the first study; one an association")
    given = parser.parse_args()
    studies = [
        [slice_of(given.first + study, n + 1, given.rows) for n in range(given.instances)]
        for study in range(given.associations)
    ]
    begin = threading.Barrier(given.associations + 1)
    senders = [Sender(given.port, given.called, each, begin) for each in studies]
    for each in senders:
        each.start()
    before = resource.getrusage(resource.RUSAGE_SELF)
    begin.wait()
    begun = time.perf_counter()
    for each in senders:
        each.join()
    after = resource.getrusage(resource.RUSAGE_SELF)
    told = {
        "seconds": max(each.ended for each in senders) - begun,
        "processor_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "failed": sum(each.failed for each in senders),
        "digests": [hashlib.sha256(data).hexdigest() for each in studies for _, data in each],
        "load": os.getloadavg()[0],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
