"""A deflated file as if it were not: piece by piece, so that a bomb fills neither memory nor time.

References
----------
DICOM PS3.5 A.5, Deflated Little Endian Explicit VR.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from dicom_files.uids import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

_PIECE = 1 << 18
_META_AT_MOST = 1 << 12
_DEFLATED_AT_ONCE = 1 << 14
_EXPLICIT_AS_LONG = ExplicitVRLittleEndian.encode().ljust(len(DeflatedExplicitVRLittleEndian), b"\0")


def is_deflated(head: bytes) -> bool:
    """Return whether a file is deflated, as *Transfer Syntax UID* (0002,0010) at its beginning says.

    Parameters
    ----------
    head
        The first bytes of the file, 4096 at most.
    """
    at = head.find(DeflatedExplicitVRLittleEndian.encode(), 8, _META_AT_MOST)
    return at > 0 and head[at - 8 : at - 2] == b"\x02\x00\x10\x00UI"


class Inflater:
    """Inflates a data set that comes in pieces."""

    def __init__(self) -> None:
        self._inflating = zlib.decompressobj(-zlib.MAX_WBITS)

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Yield what the next bytes inflate to, in pieces of 256 KiB at most.

        Parameters
        ----------
        data
            Deflated bytes, without preamble and file meta information.

        Raises
        ------
        zlib.error
            If they cannot be inflated.
        """
        for at in range(0, len(data), _DEFLATED_AT_ONCE):
            rest, is_whole = bytes(data[at : at + _DEFLATED_AT_ONCE]), False
            while not is_whole:
                piece = self._inflating.decompress(rest, _PIECE)
                rest = self._inflating.unconsumed_tail
                is_whole = not rest and len(piece) < _PIECE
                yield piece


def inflated(file: BinaryIO) -> Iterator[bytes]:
    """Yield a deflated file in pieces, as explicit little endian.

    Parameters
    ----------
    file
        Positioned anywhere.

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
    inflater = Inflater()
    while data := file.read(_PIECE):
        yield from inflater.feed(data)


def inflated_head(file: BinaryIO, size: int) -> bytes:
    """Return the first bytes of a deflated file as explicit little endian, fewer where it ends before.

    Parameters
    ----------
    file
        Positioned anywhere.
    size
        How many bytes at most.
    """
    head = bytearray()
    for piece in inflated(file):
        head += piece
        if len(head) >= size:
            break
    return bytes(head[:size])


def deflated(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a data set deflated, as it comes, padded to an even number of bytes.

    Parameters
    ----------
    parts
        Its encoded bytes, explicit little endian.
    """
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    size = 0
    for part in parts:
        yield (packed := deflate.compress(part))
        size += len(packed)
    yield (packed := deflate.flush())
    if (size + len(packed)) % 2:
        yield b"\0"
