"""Walk over the elements of an encoded data set, little endian, without decoding what is not wanted.

A `ValueError` or `struct.error` means that the data are unusual or cut off; a full parser should look.

References
----------
DICOM PS3.5 7.1, Data Elements; 7.5, Nesting of Data Sets.
"""

from __future__ import annotations

import struct

UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN"}
    | {b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
_SHORT_ELEMENT = struct.Struct("<HH2sH")
_IMPLICIT_ELEMENT = struct.Struct("<HHL")


def walk(
    data: bytes, position: int, *, end_group: int, implicit: bool, wanted: frozenset[int]
) -> tuple[dict[int, bytes], int]:
    """Return the wanted values up to the end of a group, and the position of what follows it."""
    found: dict[int, bytes] = {}
    unpack = _SHORT_ELEMENT.unpack_from
    while True:
        group, element, vr, length = unpack(data, position)
        if group > end_group:
            return found, position
        tag = group << 16 | element
        if not implicit and vr in _SHORT_VRS:  # nearly all of them, and this loop is most of a header's time
            start = position + 8
        else:
            tag, length, start = element_at(data, position, implicit=implicit)
        if length == UNDEFINED:
            position = _after_undefined(data, start, implicit=implicit)
            continue
        position = start + length
        if tag in wanted:
            if position > len(data):
                raise ValueError("the value reaches beyond what was read")
            found[tag] = data[start:position]


def element_at(data: bytes, position: int, *, implicit: bool) -> tuple[int, int, int]:
    """Return tag, length and start of the value of the element at a position."""
    group, element, length = _IMPLICIT_ELEMENT.unpack_from(data, position)
    tag = group << 16 | element
    if implicit or group == 0xFFFE:
        return tag, length, position + 8
    vr = data[position + 4 : position + 6]
    if vr in _LONG_VRS:
        if vr == b"UN" and data[position + 8 : position + 12] == b"\xff\xff\xff\xff":
            raise ValueError("an unknown value of undefined length is encoded as implicit")
        return tag, struct.unpack_from("<L", data, position + 8)[0], position + 12
    if vr not in _SHORT_VRS:
        raise ValueError("an explicit value representation was expected")
    return tag, length >> 16, position + 8


def _after_undefined(data: bytes, position: int, *, implicit: bool, depth: int = 0) -> int:
    """Return the position after a sequence, or an item, of undefined length."""
    if depth > 20:
        raise ValueError("sequences are nested deeper than an image needs")
    while True:
        tag, length, start = element_at(data, position, implicit=implicit)
        if tag in (0xFFFEE0DD, 0xFFFEE00D):
            return start
        if length == UNDEFINED:
            position = _after_undefined(data, start, implicit=implicit, depth=depth + 1)
        else:
            position = start + length
