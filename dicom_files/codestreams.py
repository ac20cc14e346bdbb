"""Compressed transfer syntaxes, and what a frame says of itself: read before it is decoded.

So a lie fills no memory.

References
----------
ISO/IEC 10918-1 annex B (JPEG), 14495-1 annex C (JPEG-LS), 15444-1 annex A (JPEG 2000 and HTJ2K). DICOM
PS3.5 A.4: what follows the end marker pads a fragment to even length.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dicom_files import uids

_NO_LENGTH = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
_FRAME_HEADERS = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB, 0xF7})
_JPEG_LS, _END_OF_IMAGE, _START_OF_SCAN = 0xF7, 0xD9, 0xDA
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
# a marker that ends coded values: neither stuffing nor a restart
_AFTER_JPEG = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_AFTER_JPEG_LS = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
_BEGINNING = re.compile(rb"\xff\xd8\xff[\xc0-\xfe]|\xff\x4f\xff\x51")


@dataclass(frozen=True)
class CompressedSyntax:
    """A compressed transfer syntax.

    Attributes
    ----------
    name
        As users know it.
    family
        Which decoder takes it.
    lossy
        Whether its frames may have been compressed with loss.
    """

    name: str
    family: str
    lossy: bool = False


SYNTAXES: Mapping[str, CompressedSyntax] = {
    uids.JPEGBaseline8Bit: CompressedSyntax("JPEG Baseline (Process 1)", "jpeg", lossy=True),
    uids.JPEGExtended12Bit: CompressedSyntax("JPEG Extended (Process 2 and 4)", "jpeg", lossy=True),
    uids.JPEGSpectralSelectionNonHierarchical68: CompressedSyntax(
        "JPEG Spectral Selection (Process 6 and 8)", "jpeg", lossy=True
    ),
    uids.JPEGFullProgressionNonHierarchical1012: CompressedSyntax(
        "JPEG Full Progression (Process 10 and 12)", "jpeg", lossy=True
    ),
    uids.JPEGLossless: CompressedSyntax("JPEG Lossless (Process 14)", "jpeg"),
    uids.JPEGLosslessSV1: CompressedSyntax("JPEG Lossless, First-Order Prediction", "jpeg"),
    uids.JPEGLSLossless: CompressedSyntax("JPEG-LS Lossless", "jpegls"),
    uids.JPEGLSNearLossless: CompressedSyntax("JPEG-LS Near-Lossless", "jpegls", lossy=True),
    uids.JPEG2000Lossless: CompressedSyntax("JPEG 2000 Lossless", "jpeg2000"),
    uids.JPEG2000: CompressedSyntax("JPEG 2000", "jpeg2000", lossy=True),
    uids.HTJ2KLossless: CompressedSyntax("HTJ2K Lossless", "jpeg2000"),
    uids.HTJ2KLosslessRPCL: CompressedSyntax("HTJ2K Lossless RPCL", "jpeg2000"),
    uids.HTJ2K: CompressedSyntax("HTJ2K", "jpeg2000", lossy=True),
    uids.RLELossless: CompressedSyntax("RLE Lossless", "rle"),
}
"""By *Transfer Syntax UID* (0002,0010)."""

DECODERS: Mapping[str, str] = {
    "jpeg": "jpeg8_decode",
    "jpegls": "jpegls_decode",
    "jpeg2000": "jpeg2k_decode",
}
"""By family: the function of ``imagecodecs`` that decodes a frame of it; RLE has no header, and no entry."""


@dataclass(frozen=True, slots=True)
class Codestream:
    """What a compressed frame says of itself.

    Attributes
    ----------
    rows, columns, samples, bits, signed
        Size and type of its values.
    size
        Bytes up to its end marker and with it; all that follows is padding.
    """

    rows: int
    columns: int
    samples: int
    bits: int
    signed: bool
    size: int


def describe(data: bytes) -> Codestream:
    """Read the header of a frame of JPEG, JPEG-LS, JPEG 2000 or HTJ2K, whichever it is.

    Parameters
    ----------
    data
        The frame, with whatever pads it.

    Raises
    ------
    ValueError, struct.error
        If it is none, is cut off, or another one follows.
    """
    return describe_jpeg(data) if data[:2] == b"\xff\xd8" else describe_jpeg2000(data)


def describe_jpeg(data: bytes) -> Codestream:
    """Read the frame header of JPEG or JPEG-LS.

    Parameters
    ----------
    data
        The frame, with whatever pads it.

    Raises
    ------
    ValueError, struct.error
        If it is none, is cut off, or another one follows.
    """
    found: tuple[int, int, int, int] | None = None
    position = 0
    for marker, position in _segments(data):
        if marker in _FRAME_HEADERS:
            found = struct.unpack_from(">BHHB", data, position + 2)
        elif marker == _START_OF_SCAN and found is None:
            break
    if found is None:
        raise ValueError("no frame header")
    bits, rows, columns, samples = found
    _refuse_another(data, position)
    return Codestream(rows, columns, samples, bits, False, position)


def describe_jpeg2000(data: bytes) -> Codestream:
    """Read the main header of a JPEG 2000 codestream, and see that every tile is there.

    Parameters
    ----------
    data
        The frame, with whatever pads it.

    Raises
    ------
    ValueError, struct.error
        If it is none, is cut off, or another one follows.
    """
    start = data.find(b"\xff\x4f\xff\x51") if data.startswith(_JP2_SIGNATURE) else 0
    if data[start : start + 4] != b"\xff\x4f\xff\x51":
        raise ValueError("no codestream")
    right, bottom, left, top = struct.unpack_from(">4L", data, start + 8)
    samples, depth = struct.unpack_from(">HB", data, start + 40)
    end = _after_tiles(data, _first_tile(data, start + 2))
    if data[end : end + 2] != b"\xff\xd9":
        raise ValueError("a tile is cut off")
    _refuse_another(data, end + 2)
    return Codestream(bottom - top, right - left, samples, (depth & 0x7F) + 1, bool(depth & 0x80), end + 2)


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield each marker of a JPEG image, and where what belongs to it begins, up to the end of the image."""
    position, after_scan = 0, _AFTER_JPEG
    while True:
        mark, marker = struct.unpack_from(">BB", data, position)
        if mark != 0xFF:
            raise ValueError("no marker where one must be")
        if marker == 0xFF:  # fill
            position += 1
            continue
        position += 2
        yield marker, position
        if marker == _END_OF_IMAGE:
            return
        if marker in _NO_LENGTH:
            continue
        position += struct.unpack_from(">H", data, position)[0]
        if marker == _JPEG_LS:
            after_scan = _AFTER_JPEG_LS
        elif marker == _START_OF_SCAN:
            following = after_scan.search(data, position)
            if following is None:
                raise ValueError("its end is missing")
            position = following.start()


def _first_tile(data: bytes, position: int) -> int:
    while (marker := struct.unpack_from(">H", data, position)[0]) != 0xFF90:
        if marker < 0xFF00:
            raise ValueError("no marker where one must be")
        position += 2 + int(struct.unpack_from(">H", data, position + 2)[0])
    return position


def _after_tiles(data: bytes, position: int) -> int:
    while struct.unpack_from(">H", data, position)[0] == 0xFF90:
        (length,) = struct.unpack_from(">L", data, position + 6)
        if length == 0:  # up to the end marker, whose bytes no coded value has
            end = data.find(b"\xff\xd9", position + 12)
            if end < 0:
                raise ValueError("its end is missing")
            return end
        position += length
    return position


def _refuse_another(data: bytes, end: int) -> None:
    if _BEGINNING.search(data, end):
        raise ValueError("another image follows in the same frame")
