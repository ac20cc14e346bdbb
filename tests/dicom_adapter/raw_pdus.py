"""What a peer says on the wire, byte by byte, so that tests can say it wrong."""

import socket
import struct

from tests.dicom_adapter.instances import CT

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
VERIFICATION, COMMITMENT = "1.2.840.10008.1.1", "1.2.840.10008.1.20.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
ACCEPT, REJECT, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 2, 3, 4, 5, 6, 7
RELEASE = struct.pack(">BxLL", RELEASE_RQ, 4, 0)
ECHO, FIND, STORE = 0x0030, 0x0020, 0x0001


def item(kind, value):
    return struct.pack(">BxH", kind, len(value)) + value


def context(number, abstract=CT, syntaxes=(EXPLICIT,)):
    inner = item(0x30, abstract.encode()) + b"".join(item(0x40, each.encode()) for each in syntaxes)
    return item(0x20, bytes([number, 0, 0, 0]) + inner)


def role(uid, as_user, as_provider):
    return item(0x54, struct.pack(">H", len(uid)) + uid.encode() + bytes((as_user, as_provider)))


def request(
    *contexts,
    called=b"CT_AI",
    calling=b"SCANNER",
    name=APPLICATION_CONTEXT,
    user=b"",
    largest=16384,
    more=b"",
    version=1,
):
    """Return an A-ASSOCIATE-RQ; `more` are further items, `user` further ones of the user information."""
    titles = called.ljust(16)[:16] + calling.ljust(16)[:16]
    said = item(0x50, item(0x51, struct.pack(">L", largest)) + item(0x52, b"1.2.3") + user)
    body = struct.pack(">HH", version, 0) + titles + bytes(32) + item(0x10, name.encode())
    return pdu(1, body + b"".join(contexts or (context(1),)) + more + said)


def pdu(kind, body):
    return struct.pack(">BxL", kind, len(body)) + body


def p_data(*values):
    """Return a P-DATA of presentation data values: context, control header and fragment."""
    return pdu(
        P_DATA, b"".join(struct.pack(">LBB", len(data) + 2, cx, head) + data for cx, head, data in values)
    )


def command(field, *, uid=CT, number=7, data=False, more=()):
    """Return a command set; `more` are pairs of element and value."""
    fields = {
        0x0002: uid.encode() + b"\0" * (len(uid) % 2),
        0x0100: struct.pack("<H", field),
        0x0110: struct.pack("<H", number),
        0x0800: struct.pack("<H", 0 if data else 0x0101),
        **dict(more),
    }
    return b"".join(struct.pack("<HHL", 0, each, len(v)) + v for each, v in sorted(fields.items()))


def fields_of(body):
    """Return the values of the command set in the body of a P-DATA, by element."""
    found, at, data = {}, 0, body[6:]
    while at < len(data):
        _, element, length = struct.unpack_from("<HHL", data, at)
        found[element] = data[at + 8 : at + 8 + length]
        at += 8 + length
    return found


def status_of(body):
    return int.from_bytes(fields_of(body)[0x0900], "little")


def results_of(body):
    """Return what an A-ASSOCIATE-AC says of each context: its result and transfer syntax."""
    return {value[0]: (value[2], value[8:].decode()) for kind, value in items_of(body[68:]) if kind == 0x21}


def items_of(data):
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from(">BxH", data, at)
        yield kind, data[at + 4 : at + 4 + length]
        at += 4 + length


def stored(uid):
    """Return what stores an instance of a few elements in the explicit syntax."""
    said = [
        (0x0008, 0x0016, CT),
        (0x0008, 0x0018, uid),
        (0x0020, 0x000D, "1.2.3"),
        (0x0020, 0x000E, "1.2.3.4"),
    ]
    data = b""
    for group, element, value in said:
        padded = value.encode() + b"\0" * (len(value) % 2)
        data += struct.pack("<HH2sH", group, element, b"UI", len(padded)) + padded
    named = {0x1000: uid.encode() + b"\0" * (len(uid) % 2)}
    return p_data((1, 3, command(STORE, data=True, more=named)), (1, 2, data))


class Caller:
    """A connection to a service, over which is said what a test says."""

    def __init__(self, port, *, source="127.0.0.1", timeout=10):
        self.wire = socket.create_connection(("127.0.0.1", port), timeout=timeout, source_address=(source, 0))

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        self.wire.close()

    def say(self, *pdus):
        self.wire.sendall(b"".join(pdus))

    def hear(self):
        """Return type and body of the next PDU; (None, b"") when the service has hung up."""
        try:
            head = self._exactly(6)
            return (head[0], self._exactly(int.from_bytes(head[2:], "big"))) if head else (None, b"")
        except ConnectionError:
            return None, b""

    def _exactly(self, count):
        data = b""
        while len(data) < count and (piece := self.wire.recv(count - len(data))):
            data += piece
        return data

    def enter(self, *contexts, **more):
        """Open an association and return the body of its acceptance."""
        self.say(request(*contexts, **more))
        kind, body = self.hear()
        assert kind == ACCEPT, (kind, body)
        return body
