"""What a compressed frame says of itself: read before it is decoded, so that a lie fills no memory.

References
----------
ISO/IEC 10918-1 B.2 (JPEG), 14495-1 C.2 (JPEG-LS), 15444-1 annex A (JPEG 2000 and HTJ2K).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_NO_LENGTH = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
_FRAME_HEADERS = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB, 0xF7})
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "


@dataclass(frozen=True)
class Codestream:
    """Size and type of the values of a compressed frame."""

    rows: int
    columns: int
    samples: int
    bits: int
    signed: bool = False


def describe_jpeg(data: bytes) -> Codestream:
    """Read the frame header of JPEG or JPEG-LS.

    Raises
    ------
    ValueError, struct.error
        If it is none, or does not end as it must.
    """
    position = 0
    while True:
        mark, marker = struct.unpack_from(">BB", data, position)
        if mark != 0xFF:
            raise ValueError("no marker where one must be")
        if marker == 0xFF:  # fill
            position += 1
            continue
        position += 2
        if marker in _NO_LENGTH:
            continue
        if marker in _FRAME_HEADERS:
            break
        if marker == 0xDA:
            raise ValueError("no frame header")
        position += struct.unpack_from(">H", data, position)[0]
    bits, rows, columns, samples = struct.unpack_from(">BHHB", data, position + 2)
    _require_end(data)
    return Codestream(rows, columns, samples, bits)


def describe_jpeg2000(data: bytes) -> Codestream:
    """Read the main header of a JPEG 2000 codestream, and see that every tile is there.

    Raises
    ------
    ValueError, struct.error
        If it is none, or is cut off.
    """
    start = data.find(b"\xff\x4f\xff\x51") if data.startswith(_JP2_SIGNATURE) else 0
    if data[start : start + 4] != b"\xff\x4f\xff\x51":
        raise ValueError("no codestream")
    right, bottom, left, top = struct.unpack_from(">4L", data, start + 8)
    samples, depth = struct.unpack_from(">HB", data, start + 40)
    position = start + 2
    while (marker := struct.unpack_from(">H", data, position)[0]) != 0xFF90:
        if marker < 0xFF00:
            raise ValueError("no marker where one must be")
        position += 2 + int(struct.unpack_from(">H", data, position + 2)[0])
    while struct.unpack_from(">H", data, position)[0] == 0xFF90:
        (length,) = struct.unpack_from(">L", data, position + 6)
        if length == 0:  # up to the end
            _require_end(data)
            break
        position += length
    else:
        if data[position : position + 2] != b"\xff\xd9":
            raise ValueError("a tile is cut off")
    return Codestream(bottom - top, right - left, samples, (depth & 0x7F) + 1, bool(depth & 0x80))


def _require_end(data: bytes) -> None:
    if not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise ValueError("its end is missing")
