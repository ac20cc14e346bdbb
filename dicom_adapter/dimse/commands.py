"""Command sets, read and written without a DICOM library: a handful of fields, thousands of times.

References
----------
DICOM PS3.7 9.3 and 10.3 (messages), Annex C (statuses), E.1 (fields); always Implicit VR Little Endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dicom_files.encoding import command_set, uid_value

C_STORE, C_GET, C_FIND, C_MOVE, C_ECHO = 0x0001, 0x0010, 0x0020, 0x0021, 0x0030
N_EVENT_REPORT, C_CANCEL = 0x0100, 0x0FFF
SUCCESS, SOP_CLASS_NOT_SUPPORTED = 0x0000, 0x0122
UNRECOGNISED_OPERATION, RESOURCE_LIMITATION = 0x0211, 0x0213

_IS_RESPONSE = 0x8000
_LONGEST_UID = 64  # PS3.5 9.1
_SOP_CLASS, _FIELD, _MESSAGE_ID = 0x0002, 0x0100, 0x0110
_RESPONDED_TO, _DATA_SET_TYPE, _STATUS, _SOP_INSTANCE = 0x0120, 0x0800, 0x0900, 0x1000
_REQUESTED_CLASS, _REQUESTED_INSTANCE, _EVENT_TYPE = 0x0003, 0x1001, 0x1002
_NO_DATA_SET = 0x0101
_SHORT = struct.Struct("<H")


@dataclass(frozen=True, kw_only=True)
class StoreCommand:
    """What a C-STORE request says."""

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class Command:
    """What any command says.

    Attributes
    ----------
    field
        Command Field (0000,0100).
    message_id
        Its own; of a response and of C-CANCEL, that of the request.
    event_type
        Event Type ID (0000,1002) as it came, if it did.
    """

    field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    event_type: bytes = b""

    @property
    def is_answered(self) -> bool:
        """Whether the peer waits for a response: not to a response, nor to C-CANCEL (PS3.7 9.3.2.3)."""
        return not self.field & _IS_RESPONSE and self.field != C_CANCEL


def read_store_command(command: bytes) -> StoreCommand | None:
    """Return a C-STORE request; None for any other command, and for one that cannot be read."""
    fields = _fields(command)
    field, message_id = (fields.get(element, b"") for element in (_FIELD, _MESSAGE_ID))
    if len(field) != 2 or len(message_id) != 2 or int.from_bytes(field, "little") != C_STORE:
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
    uids = {_SOP_CLASS: request.sop_class_uid, _SOP_INSTANCE: request.sop_instance_uid}
    fields = {
        **{element: uid_value(uid) for element, uid in uids.items() if len(uid) <= _LONGEST_UID},
        _FIELD: _SHORT.pack(C_STORE | _IS_RESPONSE),
        _RESPONDED_TO: _SHORT.pack(request.message_id),
        _DATA_SET_TYPE: _SHORT.pack(_NO_DATA_SET),
        _STATUS: _SHORT.pack(status),
    }
    return command_set(sorted(fields.items()))


def read_command(command: bytes) -> Command | None:
    """Return any command; None for one that cannot be read, or answered.

    Parameters
    ----------
    command
        A whole command set.
    """
    fields = _fields(command)
    if len(fields.get(_FIELD, b"")) != 2:
        return None
    field = int.from_bytes(fields[_FIELD], "little")
    is_answered = not field & _IS_RESPONSE and field != C_CANCEL
    number = fields.get(_MESSAGE_ID if is_answered else _RESPONDED_TO, b"")
    if is_answered and len(number) != 2:
        return None
    return Command(
        field=field,
        message_id=int.from_bytes(number, "little"),
        sop_class_uid=_uid(fields.get(_SOP_CLASS) or fields.get(_REQUESTED_CLASS, b"")),
        sop_instance_uid=_uid(fields.get(_SOP_INSTANCE) or fields.get(_REQUESTED_INSTANCE, b"")),
        event_type=fields.get(_EVENT_TYPE, b""),
    )


def response(command: Command, status: int) -> bytes:
    """Return the command set that answers a command, without a data set.

    Parameters
    ----------
    status
        As in PS3.7 Annex C.
    """
    fields = {
        _SOP_CLASS: uid_value(command.sop_class_uid),
        _FIELD: _SHORT.pack(command.field | _IS_RESPONSE),
        _RESPONDED_TO: _SHORT.pack(command.message_id),
        _DATA_SET_TYPE: _SHORT.pack(_NO_DATA_SET),
        _STATUS: _SHORT.pack(status),
        _SOP_INSTANCE: uid_value(command.sop_instance_uid),
        _EVENT_TYPE: command.event_type,
    }
    return command_set((each, value) for each, value in sorted(fields.items()) if value)


def refusal_of(field: int) -> int:
    """Return the status that refuses a command which is no part of what was agreed upon.

    Parameters
    ----------
    field
        Its Command Field (0000,0100).

    References
    ----------
    DICOM PS3.7 9.1 (composite services: SOP class not supported), C.5.23 (unrecognized operation).
    """
    composite = (C_STORE, C_GET, C_FIND, C_MOVE, C_ECHO)
    return SOP_CLASS_NOT_SUPPORTED if field in composite else UNRECOGNISED_OPERATION


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


def _uid(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("ascii", "replace")
