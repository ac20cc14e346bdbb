"""Instances of a known source that are odd: texts in no character set, lying lengths."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
from collections.abc import Iterator

from soak.modality import ROOT_UID, Acknowledged
from soak.strangers import association_request, call

_CT = b"1.2.840.10008.5.1.4.1.1.2"
_LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT")


def send_odd(port: int, acknowledged: Acknowledged) -> Iterator[str]:
    """Send one odd instance of each kind, and give what was answered."""
    for study, uid, data in _instances():
        try:
            with call(port, "127.0.0.9") as wire:
                wire.settimeout(15)
                wire.sendall(association_request(b"KEPT", b"ODD"))
                if _pdu(wire)[0] != 2:
                    yield "not let in"
                    continue
                wire.sendall(_p_data(3, _command(uid)) + _p_data(2, data))
                status = _status(wire)
        except (OSError, EOFError):
            yield "hung up on"
            continue
        if status == 0:
            acknowledged.add("KEPT", study, uid, hashlib.sha256(data).hexdigest())
        yield f"0x{status:04X}"


def _instances() -> Iterator[tuple[str, str, bytes]]:
    for character_set in (b"ISO_IR 192", b"rot13", b"utf-16", b"undefined", b"ISO 2022 IR 87", b"\xff\xfe"):
        study, uid, head, tail = _identified()
        yield study, uid, _element(8, 5, b"CS", character_set) + head + tail
    study, uid, head, tail = _identified()
    yield study, uid, head + _element(0x10, 0x10, b"PN", random.randbytes(64)) + tail
    yield study, f"{uid}.1", random.randbytes(2000)
    study, uid, head, tail = _identified()
    yield study, uid, head + struct.pack("<HH2sHL", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF) * 200 + tail
    study, uid, head, tail = _identified()
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 20_000
    yield study, uid, head + _element(8, 0x1140, b"SQ", items) + tail
    study, uid, head, tail = _identified()
    yield study, uid, head + tail[:-3]


def _identified() -> tuple[str, str, bytes, bytes]:
    study = f"{ROOT_UID}.8.{random.randrange(1, 1 << 60)}"
    uid = f"{study}.1.1"
    head = _element(8, 0x16, b"UI", _CT) + _element(8, 0x18, b"UI", uid.encode())
    head += _element(8, 0x60, b"CS", b"CT") + _element(8, 0x103E, b"LO", b"\xe4\xb8\x80 \x1b$B axial \xff")
    tail = _element(0x20, 0xD, b"UI", study.encode()) + _element(0x20, 0xE, b"UI", f"{study}.1".encode())
    return study, uid, head, tail + _element(0x7FE0, 0x10, b"OW", bytes(512))


def _element(group: int, element: int, vr: bytes, value: bytes) -> bytes:
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    form = "<HH2sHL" if vr in _LONG else "<HH2sH"
    parts = (group, element, vr, 0, len(value)) if vr in _LONG else (group, element, vr, len(value))
    return struct.pack(form, *parts) + value


def _command(uid: str) -> bytes:
    values = (
        (0x0002, _CT + b"\0"),
        (0x0100, b"\x01\0"),
        (0x0110, b"\x01\0"),
        (0x0700, b"\0\0"),
        (0x0800, b"\0\0"),
        (0x1000, uid.encode() + b"\0" * (len(uid) % 2)),
    )
    body = b"".join(struct.pack("<HHL", 0, element, len(value)) + value for element, value in values)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def _p_data(header: int, data: bytes) -> bytes:
    pieces = [data[at : at + 16000] for at in range(0, max(len(data), 1), 16000)]
    found = b""
    for n, piece in enumerate(pieces):
        is_last = n == len(pieces) - 1
        control = header if is_last else header & 1
        found += struct.pack(">BxLLBB", 4, len(piece) + 6, len(piece) + 2, 1, control) + piece
    return found


def _pdu(wire: socket.socket) -> tuple[int, bytes]:
    head = _exactly(wire, 6)
    kind, length = struct.unpack(">BxL", head)
    return kind, _exactly(wire, length)


def _exactly(wire: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = wire.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _status(wire: socket.socket) -> int:
    kind, body = _pdu(wire)
    if kind != 4:
        raise EOFError
    at = body.index(struct.pack("<HHL", 0, 0x0900, 2)) + 8
    return int.from_bytes(body[at : at + 2], "little")
