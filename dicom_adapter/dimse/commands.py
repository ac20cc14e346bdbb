"""Command sets, read and written without a DICOM library: a handful of fields, thousands of times.

References
----------
DICOM PS3.7 9.3 and 10.3 (messages), Annex C (statuses), E.1 (fields); always Implicit VR Little Endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from dicom_adapter.dimse.pdus import ProtocolError
from dicom_files.encoding import command_set, uid_value
from dicom_files.uids import LONGEST

C_STORE, C_GET, C_FIND, C_MOVE, C_ECHO = 0x0001, 0x0010, 0x0020, 0x0021, 0x0030
N_EVENT_REPORT, N_ACTION, C_CANCEL, RESPONSE = 0x0100, 0x0130, 0x0FFF, 0x8000
SUCCESS, SOP_CLASS_NOT_SUPPORTED = 0x0000, 0x0122
UNRECOGNISED_OPERATION, RESOURCE_LIMITATION = 0x0211, 0x0213

SOP_CLASS, REQUESTED_SOP_CLASS = 0x0002, 0x0003
FIELD, MESSAGE_ID, RESPONDED_TO, PRIORITY = 0x0100, 0x0110, 0x0120, 0x0700
DATA_SET_TYPE, STATUS, SOP_INSTANCE, REQUESTED_SOP_INSTANCE = 0x0800, 0x0900, 0x1000, 0x1001
EVENT_TYPE, ACTION_TYPE, MOVE_DESTINATION = 0x1002, 0x1008, 0x0600
NO_DATA_SET, _DATA_SET = 0x0101, 0x0001

Values: TypeAlias = Mapping[int, int | str | bytes]
"""Values of a command set by element of group 0000: numbers of two bytes, texts, or bytes as they stand."""


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
        return not self.field & RESPONSE and self.field != C_CANCEL


# Read


def fields_of(command: bytes) -> dict[int, bytes]:
    """Return the values of a command set by element of group 0000.

    Raises
    ------
    ProtocolError
        If the elements do not fit.
    """
    fields = {}
    at = 0
    while at < len(command):
        if len(command) - at < 8:
            raise ProtocolError("a command set is cut")
        group, element, length = struct.unpack_from("<HHL", command, at)
        at += 8
        if group or length > len(command) - at:
            raise ProtocolError("a command set has elements that do not fit")
        fields[element] = command[at : at + length]
        at += length
    return fields


def number(fields: Mapping[int, bytes], element: int) -> int:
    """Return a number of a command set.

    Raises
    ------
    ProtocolError
        If it is not there.
    """
    value = fields.get(element, b"")
    if len(value) != 2:
        raise ProtocolError(f"a command set without (0000,{element:04X})")
    return int.from_bytes(value, "little")


def text(fields: Mapping[int, bytes], element: int) -> str:
    """Return a text of a command set, "" if it is not there."""
    return fields.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")


def has_data_set(command: bytes | bytearray) -> bool:
    """Return whether a data set follows a command (PS3.7 E.1-1: Command Data Set Type)."""
    return _readable_fields(bytes(command)).get(DATA_SET_TYPE, b"\x01\x01") != b"\x01\x01"


def read_store_command(command: bytes) -> StoreCommand | None:
    """Return a C-STORE request; None for any other command, and for one that cannot be read."""
    fields = _readable_fields(command)
    field, message_id = fields.get(FIELD, b""), fields.get(MESSAGE_ID, b"")
    if len(field) != 2 or len(message_id) != 2 or int.from_bytes(field, "little") != C_STORE:
        return None
    return StoreCommand(
        message_id=int.from_bytes(message_id, "little"),
        sop_class_uid=text(fields, SOP_CLASS),
        sop_instance_uid=text(fields, SOP_INSTANCE),
    )


def read_command(command: bytes) -> Command | None:
    """Return any command; None for one that cannot be read, or answered.

    Parameters
    ----------
    command
        A whole command set.
    """
    return command_of(_readable_fields(command))


def command_of(fields: Mapping[int, bytes]) -> Command | None:
    """Return the command that the values of a command set make; None if it cannot be answered."""
    if len(fields.get(FIELD, b"")) != 2:
        return None
    field = int.from_bytes(fields[FIELD], "little")
    is_answered = not field & RESPONSE and field != C_CANCEL
    message_id = fields.get(MESSAGE_ID if is_answered else RESPONDED_TO, b"")
    if is_answered and len(message_id) != 2:
        return None
    return Command(
        field=field,
        message_id=int.from_bytes(message_id, "little"),
        sop_class_uid=text(fields, SOP_CLASS if fields.get(SOP_CLASS) else REQUESTED_SOP_CLASS),
        sop_instance_uid=text(fields, SOP_INSTANCE if fields.get(SOP_INSTANCE) else REQUESTED_SOP_INSTANCE),
        event_type=fields.get(EVENT_TYPE, b""),
    )


def _readable_fields(command: bytes) -> dict[int, bytes]:
    try:
        return fields_of(command)
    except ProtocolError:
        return {}


# Written


def request(field: int, message_id: int, values: Values) -> bytes:
    """Return the command set of a request that a data set follows."""
    return _encoded({FIELD: field, MESSAGE_ID: message_id, DATA_SET_TYPE: _DATA_SET, **values})


def store_response(request: StoreCommand, status: int) -> bytes:
    """Return the command set that answers a C-STORE request; without a UID that is too long to be one."""
    uids = {SOP_CLASS: request.sop_class_uid, SOP_INSTANCE: request.sop_instance_uid}
    return _response(
        C_STORE,
        request.message_id,
        status,
        {element: uid for element, uid in uids.items() if len(uid) <= LONGEST},
    )


def response(command: Command, status: int) -> bytes:
    """Return the command set that answers a command, without a data set.

    Parameters
    ----------
    command
        The command.
    status
        As in PS3.7 Annex C.
    """
    values: Values = {
        SOP_CLASS: command.sop_class_uid,
        SOP_INSTANCE: command.sop_instance_uid,
        EVENT_TYPE: command.event_type,
    }
    return _response(
        command.field, command.message_id, status, {each: value for each, value in values.items() if value}
    )


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


def _response(field: int, message_id: int, status: int, values: Values) -> bytes:
    return _encoded(
        {
            FIELD: field | RESPONSE,
            RESPONDED_TO: message_id,
            DATA_SET_TYPE: NO_DATA_SET,
            STATUS: status,
            **values,
        }
    )


def _encoded(values: Values) -> bytes:
    return command_set((element, _bytes_of(value)) for element, value in sorted(values.items()))


def _bytes_of(value: int | str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    return struct.pack("<H", value) if isinstance(value, int) else uid_value(value)
