"""Destinations that do what none should: a raw socket, and what each connection to it is answered with."""

import contextlib
import os
import socket
import struct
import threading
import time

FOREVER_S = 20.0


class FaultyPeer:
    """Listens; `behave` is called with each connection in a thread of its own, and may do as it likes."""

    def __init__(self, behave, *, host="127.0.0.1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = socket.create_server((host, 0), family=family)
        self.port = self._server.getsockname()[1]
        self.calls = 0
        self._behave, self._open = behave, []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        for each in (self._server, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                wire, _ = self._server.accept()
                self.calls += 1
                self._open.append(wire)
                threading.Thread(target=self._serve, args=(wire,), daemon=True).start()

    def _serve(self, wire):
        with contextlib.suppress(OSError, EOFError):
            self._behave(wire)
        with contextlib.suppress(OSError):
            wire.close()


def receive(wire, count):
    data = b""
    while len(data) < count:
        if not (piece := wire.recv(count - len(data))):
            raise EOFError
        data += piece
    return data


def read_pdu(wire):
    """Return type and body of the next PDU."""
    head = receive(wire, 6)
    return head[0], receive(wire, int.from_bytes(head[2:], "big"))


def pdu(kind, body):
    return struct.pack(">BxL", kind, len(body)) + body


def silence(wire):
    """Say nothing until the peer has hung up."""
    wire.settimeout(FOREVER_S)
    with contextlib.suppress(OSError):
        while wire.recv(65536):
            pass


def drip(wire, data=bytes(10_000)):
    """Send one byte after the other, each long before anybody's silence is over."""
    for each in data:
        wire.sendall(bytes([each]))
        time.sleep(0.05)


def reset(wire):
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


def item(kind, value):
    return struct.pack(">BxH", kind, len(value)) + value


def acceptance(request, *, largest=16384, change=lambda context, syntax: (context, 0, syntax)):
    """Return an A-ASSOCIATE-AC of all that was asked for, as `change` gives context, result and syntax."""
    answer, at = request[:68] + item(0x10, b"1.2.840.10008.3.1.1.1"), 68
    while at < len(request):
        kind, length = request[at], int.from_bytes(request[at + 2 : at + 4], "big")
        if kind == 0x20:
            content = request[at + 4 : at + 4 + length]
            abstract = int.from_bytes(content[6:8], "big")
            context, result, syntax = change(content[0], content[12 + abstract :].decode())
            answer += item(0x21, bytes([context, 0, result, 0]) + item(0x40, syntax.encode()))
        at += 4 + length
    return pdu(2, answer + item(0x50, item(0x51, struct.pack(">L", largest)) + item(0x52, b"1.2.3")))


def accept(wire, **options):
    """Read the request for an association, and accept it."""
    _, request = read_pdu(wire)
    wire.sendall(acceptance(request, **options))


def read_message(wire, *, delay_s=0.0):
    """Return context, command set and data set of a request, read with a wait before each PDU."""
    parts = {1: b"", 0: b""}
    while True:
        time.sleep(delay_s)
        kind, body = read_pdu(wire)
        if kind != 4:
            raise EOFError(f"PDU {kind}")
        at = 0
        while at < len(body):
            length, context, head = struct.unpack_from(">LBB", body, at)
            parts[head & 1] += body[at + 6 : at + 4 + length]
            at += 4 + length
            if head == 2 or (head == 3 and fields_of(parts[1])[0x0800] == number(0x0101)):
                return context, fields_of(parts[1]), parts[0]


def fields_of(command):
    fields, at = {}, 0
    while at < len(command):
        _, element, length = struct.unpack_from("<HHL", command, at)
        fields[element] = command[at + 8 : at + 8 + length]
        at += 8 + length
    return fields


def message(context, fields, data=None):
    """Return the P-DATA of a message."""
    command = b"".join(
        struct.pack("<HHL", 0, tag, len(value)) + value for tag, value in sorted(fields.items())
    )
    parts = struct.pack(">LBB", len(command) + 2, context, 3) + command
    if data is not None:
        parts += struct.pack(">LBB", len(data) + 2, context, 2) + data
    return pdu(4, parts)


def number(value):
    return struct.pack("<H", value)


def stored(fields, status=0, **changes):
    """Return the command set that answers a request to store."""
    answer = {0x0100: number(0x8001), 0x0120: fields[0x0110], 0x0800: number(0x0101), 0x0900: number(status)}
    return {**answer, 0x1000: fields[0x1000], **{int(name[1:], 16): v for name, v in changes.items()}}


def answer_stores(wire, answers=lambda fields: stored(fields)):
    """Answer requests to store, and the release."""
    accept(wire)
    with contextlib.suppress(EOFError):
        while True:
            context, fields, _ = read_message(wire)
            wire.sendall(message(context, answers(fields)))
    wire.sendall(pdu(6, bytes(4)))


def noise(count):
    return os.urandom(count)
