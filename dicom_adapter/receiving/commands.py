"""C-STORE's command sets, read and written without a DICOM library: a handful of fields, thousands of times.

References
----------
DICOM PS3.7 9.3.1 (C-STORE), E.1 (fields); always Implicit VR Little Endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_GROUP_LENGTH, _SOP_CLASS, _FIELD, _MESSAGE_ID = 0x0000, 0x0002, 0x0100, 0x0110
_RESPONDED_TO, _DATA_SET_TYPE, _STATUS, _SOP_INSTANCE = 0x0120, 0x0800, 0x0900, 0x1000
_C_STORE_RQ, _C_STORE_RSP, _NO_DATA_SET = 0x0001, 0x8001, 0x0101


@dataclass(frozen=True, kw_only=True)
class StoreCommand:
    """What a C-STORE request says."""

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str


def read_store_command(command: bytes) -> StoreCommand | None:
    """Return a C-STORE request; None for any other command, and for one that cannot be read."""
    fields = _fields(command)
    field, message_id = (fields.get(element, b"") for element in (_FIELD, _MESSAGE_ID))
    if len(field) != 2 or len(message_id) != 2 or int.from_bytes(field, "little") != _C_STORE_RQ:
        return None
    return StoreCommand(
        message_id=int.from_bytes(message_id, "little"),
        sop_class_uid=_uid(fields.get(_SOP_CLASS, b"")),
        sop_instance_uid=_uid(fields.get(_SOP_INSTANCE, b"")),
    )


def has_data_set(command: bytes | bytearray) -> bool:
    """Tell whether a data set follows a command (PS3.7 E.1-1: Command Data Set Type)."""
    return _fields(bytes(command)).get(_DATA_SET_TYPE, b"\x01\x01") != b"\x01\x01"


def store_response(request: StoreCommand, status: int) -> bytes:
    """Return the command set that answers a request."""
    body = b"".join(
        (
            _element(_SOP_CLASS, _padded(request.sop_class_uid)),
            _element(_FIELD, struct.pack("<H", _C_STORE_RSP)),
            _element(_RESPONDED_TO, struct.pack("<H", request.message_id)),
            _element(_DATA_SET_TYPE, struct.pack("<H", _NO_DATA_SET)),
            _element(_STATUS, struct.pack("<H", status)),
            _element(_SOP_INSTANCE, _padded(request.sop_instance_uid)),
        )
    )
    return _element(_GROUP_LENGTH, struct.pack("<L", len(body))) + body


def _fields(command: bytes) -> dict[int, bytes]:
    """Return the values of group 0000 by element; empty if the elements do not fit."""
    fields = {}
    at = 0
    while at < len(command):
        if len(command) - at < 8:
            return {}
        group, element, length = struct.unpack_from("<HHL", command, at)
        at += 8
        if group or length > len(command) - at:
            return {}
        fields[element] = command[at : at + length]
        at += length
    return fields


def _element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, element, len(value)) + value


def _uid(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("ascii", "replace")


def _padded(uid: str) -> bytes:
    value = uid.encode("ascii", "replace")
    return value + b"\0" * (len(value) % 2)
