"""Command sets of the messages that a caller sends and is answered with.

References
----------
DICOM PS3.7 9.3, 10.3 and E.1; always Implicit VR Little Endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from dicom_adapter.dimse.pdus import ProtocolError
from dicom_files.encoding import command_set, uid_value

SOP_CLASS, REQUESTED_SOP_CLASS, FIELD, MESSAGE_ID, RESPONDED_TO = 0x0002, 0x0003, 0x0100, 0x0110, 0x0120
PRIORITY, DATA_SET_TYPE, STATUS = 0x0700, 0x0800, 0x0900
SOP_INSTANCE, REQUESTED_SOP_INSTANCE, EVENT_TYPE, ACTION_TYPE = 0x1000, 0x1001, 0x1002, 0x1008
C_STORE, C_FIND, N_EVENT_REPORT, N_ACTION, RESPONSE = 0x0001, 0x0020, 0x0100, 0x0130, 0x8000
_NO_DATA_SET, _DATA_SET = 0x0101, 0x0001
_Values = Mapping[int, int | str]


def request(field: int, message_id: int, values: _Values) -> bytes:
    """Return the command set of a request that a data set follows."""
    return _command({FIELD: field, MESSAGE_ID: message_id, DATA_SET_TYPE: _DATA_SET, **values})


def response(to: Mapping[int, bytes], status: int) -> bytes:
    """Return the command set that answers a request, without a data set."""
    values: dict[int, int | str] = {
        FIELD: number(to, FIELD) | RESPONSE,
        RESPONDED_TO: number(to, MESSAGE_ID),
        DATA_SET_TYPE: _NO_DATA_SET,
        STATUS: status,
    }
    if EVENT_TYPE in to:
        values[EVENT_TYPE] = number(to, EVENT_TYPE)
    for each in (SOP_CLASS, SOP_INSTANCE):
        if each in to:
            values[each] = text(to, each)
    return _command(values)


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


def has_data_set(fields: Mapping[int, bytes]) -> bool:
    """Return whether a data set follows a command set."""
    return number(fields, DATA_SET_TYPE) != _NO_DATA_SET


def _command(values: _Values) -> bytes:
    return command_set((element, _value(value)) for element, value in sorted(values.items()))


def _value(value: int | str) -> bytes:
    return struct.pack("<H", value) if isinstance(value, int) else uid_value(value)
