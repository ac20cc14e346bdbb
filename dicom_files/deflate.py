"""A deflated file as if it were not: piece by piece, so that a bomb fills neither memory nor time.

References
----------
DICOM PS3.5 A.5, Deflated Little Endian Explicit VR.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from dicom_files.uids import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

_PIECE = 1 << 18
_META_AT_MOST = 1 << 12
_EXPLICIT_AS_LONG = ExplicitVRLittleEndian.encode().ljust(len(DeflatedExplicitVRLittleEndian), b"\0")


def is_deflated(head: bytes) -> bool:
    """Tell whether *Transfer Syntax UID* (0002,0010) at the beginning of a file says that it is deflated."""
    at = head.find(DeflatedExplicitVRLittleEndian.encode(), 8, _META_AT_MOST)
    return at > 0 and head[at - 8 : at - 2] == b"\x02\x00\x10\x00UI"


def inflated(file: BinaryIO) -> Iterator[bytes]:
    """Give a deflated file in pieces, as explicit little endian.

    Raises
    ------
    zlib.error
        If it cannot be inflated.
    """
    file.seek(0)
    head = file.read(_META_AT_MOST)
    if head[128:136] != b"DICM\x02\0\0\0":
        raise zlib.error("its meta information does not tell its own length")
    end_of_meta = 144 + int.from_bytes(head[140:144], "little")
    yield head[:end_of_meta].replace(DeflatedExplicitVRLittleEndian.encode(), _EXPLICIT_AS_LONG)
    file.seek(end_of_meta)
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    while data := file.read(_PIECE):
        while data:
            yield inflating.decompress(data, _PIECE)
            data = inflating.unconsumed_tail


def inflated_head(file: BinaryIO, size: int) -> bytes:
    """Return the first bytes of a deflated file as explicit little endian, fewer where it ends before."""
    head = bytearray()
    for piece in inflated(file):
        head += piece
        if len(head) >= size:
            break
    return bytes(head[:size])
