"""Protocol data units, for those who call and those who are called; what comes is not trusted.

References
----------
DICOM PS3.8 9.3 (protocol data units), 9.3.8 (sources and reasons of an abort), Annex E (messages in P-DATA).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from dicom_files.uids import DICOMApplicationContext

IMPLEMENTATION_UID = str(PYNETDICOM_IMPLEMENTATION_UID)
IMPLEMENTATION_VERSION = PYNETDICOM_IMPLEMENTATION_VERSION
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA = 0x01, 0x02, 0x03, 0x04
RELEASE_RQ, RELEASE_RP, ABORT = 0x05, 0x06, 0x07
BY_USER, BY_PROVIDER = 0x00, 0x02
NO_REASON, UNRECOGNISED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER = 0x00, 0x01, 0x02, 0x06
LARGEST_PDU = 1 << 20  # of what is read, whatever it is
OFFERED = 1 << 17  # the largest PDU that we ask for
_FIXED = 68  # bytes of an A-ASSOCIATE-AC before its items
_VALUE_HEAD = 6  # of a presentation data value
_CONTEXT_RQ, _CONTEXT_AC, _ABSTRACT, _SYNTAX = 0x20, 0x21, 0x30, 0x40
_APPLICATION, _USER, _LENGTH, _CLASS, _ROLE, _VERSION = 0x10, 0x50, 0x51, 0x52, 0x54, 0x55
_AS_PROVIDER = bytes((0, 1))  # we are not its user, but its provider
_REJECTIONS: Mapping[tuple[int, int], str] = {
    (1, 2): "Application context name not supported",
    (1, 3): "Calling AE title not recognised",
    (1, 7): "Called AE title not recognised",
    (2, 2): "Protocol version not supported",
    (3, 1): "Temporary congestion",
    (3, 2): "Local limit exceeded",
}
_ABORTS = {
    1: "unrecognised PDU",
    2: "unexpected PDU",
    4: "unrecognised PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}


class ProtocolError(Exception):
    """A peer says what the standard does not allow; `reason` is that of the abort (PS3.8 9.3.8).

    Parameters
    ----------
    message
        What the peer has said, a sentence.
    reason
        The number of the reason.
    """

    def __init__(self, message: str, reason: int = NO_REASON) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What an A-ASSOCIATE-AC says.

    Attributes
    ----------
    syntaxes
        Transfer syntax of each presentation context that was accepted.
    largest
        The largest P-DATA that the peer takes, bytes without its head.
    provided
        SOP classes whose objects it sends to us.
    """

    syntaxes: Mapping[int, str]
    largest: int
    provided: frozenset[str] = frozenset()


def pdu(kind: int, body: bytes) -> bytes:
    """Return a protocol data unit.

    Parameters
    ----------
    kind, body
        Its type and its bytes.
    """
    return struct.pack(">BxL", kind, len(body)) + body


def abort(source: int, reason: int) -> bytes:
    """Return the A-ABORT.

    Parameters
    ----------
    source, reason
        The number of who aborts and the number of the reason.
    """
    return pdu(ABORT, bytes((0, 0, source, reason)))


def associate_request(
    called: str, calling: str, contexts: Sequence[tuple[str, str]], *, provided: Sequence[str] = ()
) -> bytes:
    """Return an A-ASSOCIATE-RQ; its contexts, pairs of abstract and transfer syntax, are 1, 3, 5...

    Parameters
    ----------
    called, calling
        The AE title that is called and our AE title.
    contexts
        Pairs of abstract and transfer syntax.
    provided
        SOP classes whose objects the peer is to send to us (PS3.7 D.3.3.4), each no more than once.
    """
    titles = b"".join(each.encode("ascii", "replace")[:16].ljust(16) for each in (called, calling))
    items = [item(_APPLICATION, DICOMApplicationContext.encode())]
    for n, (abstract, syntax) in enumerate(contexts):
        names = item(_ABSTRACT, abstract.encode()) + item(_SYNTAX, syntax.encode())
        items.append(item(_CONTEXT_RQ, bytes([2 * n + 1, 0, 0, 0]) + names))
    user = (
        item(_LENGTH, struct.pack(">L", OFFERED))
        + item(_CLASS, IMPLEMENTATION_UID.encode())
        + b"".join(item(_ROLE, _sized(each.encode()) + _AS_PROVIDER) for each in provided)
        + item(_VERSION, IMPLEMENTATION_VERSION.encode())
    )
    body = struct.pack(">HH", 1, 0) + titles + bytes(32) + b"".join(items) + item(_USER, user)
    return pdu(ASSOCIATE_RQ, body)


def read_accept(body: bytes, contexts: Sequence[tuple[str, str]]) -> Accepted:
    """Return what was accepted of what was offered; what was not offered counts as not accepted.

    Parameters
    ----------
    body
        Its bytes.
    contexts
        Pairs of abstract and transfer syntax.

    Raises
    ------
    ProtocolError
        If it is cut, its items do not fit, or no data would fit into a P-DATA.
    """
    if len(body) <= _FIXED:
        raise ProtocolError(f"its A-ASSOCIATE-AC of {len(body)} bytes is cut")
    syntaxes: dict[int, str] = {}
    largest = 0
    provided: set[str] = set()
    for kind, value in _items(body[_FIXED:]):
        if kind == _CONTEXT_AC and len(value) >= 4:
            number, result = value[0], value[2]
            names = [text for inner, text in _items(value[4:]) if inner == _SYNTAX] if not result else []
            offered = contexts[number // 2][1] if number % 2 and number // 2 < len(contexts) else None
            if names and names[0].rstrip(b"\0 ").decode("ascii", "replace") == offered:
                syntaxes[number] = offered
        elif kind == _USER:
            largest = next((_number(text) for inner, text in _items(value) if inner == _LENGTH), 0)
            provided |= {_provided(text) for inner, text in _items(value) if inner == _ROLE}
    if largest and largest <= _VALUE_HEAD:
        raise ProtocolError(f"it takes P-DATA of {largest} bytes, into which nothing fits")
    return Accepted(syntaxes=syntaxes, largest=largest, provided=frozenset(provided - {""}))


def why_rejected(body: bytes) -> str:
    """Return what an A-ASSOCIATE-RJ says, in the standard's words (PS3.8 table 9-21).

    Parameters
    ----------
    body
        Its bytes.
    """
    _, result, source, reason = body[:4].ljust(4, b"\0")
    for_good = "" if result == 1 else " (for now)"
    return _REJECTIONS.get((source, reason), "no reason given") + for_good


def why_aborted(body: bytes) -> str:
    """Return what an A-ABORT says, in the standard's words (PS3.8 table 9-26).

    Parameters
    ----------
    body
        Its bytes.
    """
    _, _, source, reason = body[:4].ljust(4, b"\0")
    return _ABORTS.get(reason, "no reason given") if source == 2 else "no reason given"


def fragments(context: int, data: bytes, *, largest: int, is_command: bool, is_last: bool) -> Iterator[bytes]:
    """Yield the P-DATA that carry some of a message, each as large as the peer takes.

    Parameters
    ----------
    context, data
        The presentation context's number and that part of the message.
    largest
        As the peer has said: 0 for no limit.
    is_command
        Whether it is of the command set.
    is_last
        Whether nothing of the message follows.
    """
    size = min(largest or OFFERED, OFFERED) - _VALUE_HEAD
    size -= size % 2 if size > 1 else 0
    for begin in range(0, max(len(data), 1), size):
        piece = data[begin : begin + size]
        ends = is_last and begin + size >= len(data)
        head = (is_command and 1) | (ends and 2)
        yield struct.pack(">BxLLBB", P_DATA, len(piece) + 6, len(piece) + 2, context, head) + piece


def values_of(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the presentation data values of a P-DATA: context, message control header, fragment.

    Parameters
    ----------
    body
        Its bytes.

    Raises
    ------
    ProtocolError
        If they do not fit.
    """
    at = 0
    while at < len(body):
        length = _number(body[at : at + 4])
        if len(body) - at < 6 or not 2 <= length <= len(body) - at - 4:
            raise ProtocolError("a presentation data value is cut")
        yield body[at + 4], body[at + 5], body[at + 6 : at + 4 + length]
        at += 4 + length


def item(kind: int, value: bytes) -> bytes:
    """Return an item of a request for an association, or of its acceptance.

    Parameters
    ----------
    kind, value
        Its type and its content.
    """
    return struct.pack(">BxH", kind, len(value)) + value


def _provided(role: bytes) -> str:
    """Return the SOP class that a role selection lets us provide; "" if it does not."""
    length = _number(role[:2])
    return role[2 : 2 + length].decode("ascii", "replace") if role[3 + length : 4 + length] == b"\1" else ""


def _sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        length = _number(data[at + 2 : at + 4])
        if at + 4 + length > len(data):
            raise ProtocolError(f"an item of {length} bytes reaches beyond its A-ASSOCIATE-AC")
        yield data[at], data[at + 4 : at + 4 + length]
        at += 4 + length


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")
