"""Uncompressed pixels: from the file straight into their place, touched once; deflated ones as a stream.

References
----------
DICOM PS3.5 8.1.1, Pixel Data encoding; A.5, Deflated Little Endian.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_files.damage import unreadable
from dicom_files.deflate import inflated
from dicom_files.uids import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from dicom_reader.files.headers import ImageHeader
from dicom_reader.pixels.hounsfield import PixelEncoding
from stages import InputError

NATIVE = frozenset(
    {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
)


def refuse_unreadable(header: ImageHeader, *, frame_bytes: int, frames: int) -> None:
    """Refuse pixels whose length contradicts the matrix, before anything is allocated.

    Parameters
    ----------
    header
        Of the slice.
    frame_bytes
        How many bytes a frame of its matrix has.
    frames
        How many frames the file has.
    """
    expected = frame_bytes * frames
    if header.pixel_offset is None:
        raise InputError(f"{header.name} has no Pixel Data (7FE0,0010)")
    if header.pixel_length is None or header.pixel_length - expected not in (0, 1):
        raise InputError(
            f"{header.name}: Pixel Data (7FE0,0010) has {header.pixel_length or 'an undefined number of'} "
            f"bytes, its matrix needs {expected}"
        )


def read_uncompressed(header: ImageHeader, encoding: PixelEncoding, plane: NDArray[np.int16]) -> None:
    """Read the stored values of a slice into their place; the sign of 8 bits is not extended.

    Parameters
    ----------
    header
        Of the slice.
    encoding
        How its values are stored.
    plane
        Filled with the 16 bits of each stored value, shape (rows, columns).
    """
    narrow = encoding.bits_allocated == 8
    target = np.empty(plane.shape, np.uint8) if narrow else plane
    offset = (header.pixel_offset or 0) + ((header.frame or 1) - 1) * target.nbytes
    into = target.reshape(-1).view(np.uint8).data
    try:
        if header.transfer_syntax == DeflatedExplicitVRLittleEndian:
            _inflate_into(header, into, offset)
        else:
            _read_into(header, into, offset)
    except OSError as error:
        raise unreadable(header.name, error) from error
    if narrow:
        plane[...] = target
    elif header.transfer_syntax == ExplicitVRBigEndian:
        plane.byteswap(inplace=True)


def _read_into(header: ImageHeader, into: memoryview, offset: int) -> None:
    with header.path.open("rb", buffering=0) as file:
        file.seek(offset)
        done = 0
        while done < len(into):
            count = file.readinto(into[done:])
            if not count:
                raise _truncated(header, done, len(into))
            done += count


def _inflate_into(header: ImageHeader, into: memoryview, offset: int) -> None:
    """Inflate up to the end of a slice, and keep no more than a piece of what comes before it."""
    done = 0
    try:
        for start, piece in _pieces(header.path):
            skipped = max(offset - start, 0)
            wanted = piece[skipped : skipped + len(into) - done]
            into[done : done + len(wanted)] = wanted
            done += len(wanted)
            if done == len(into):
                return
    except zlib.error as error:
        raise InputError(f"{header.name} is damaged: it cannot be inflated") from error
    raise _truncated(header, done, len(into))


def _pieces(path: Path) -> Iterator[tuple[int, bytes]]:
    start = 0
    with path.open("rb") as file:
        for piece in inflated(file):
            yield start, piece
            start += len(piece)


def _truncated(header: ImageHeader, there: int, expected: int) -> InputError:
    return InputError(
        f"{header.name} is truncated: {max(there, 0)} of {expected} bytes of Pixel Data (7FE0,0010) "
        "are there; send it again"
    )
