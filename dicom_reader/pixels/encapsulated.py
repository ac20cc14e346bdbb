"""Compressed pixels in a file: where the fragments of each frame lie, and their bytes.

References
----------
DICOM PS3.5 A.4, Transfer syntaxes for encapsulation of encoded pixel data.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from dicom_files.damage import unreadable
from dicom_reader.files.headers import ImageHeader
from stages import InputError

_ITEM, _DELIMITER = 0xE000FFFE, 0xE0DDFFFE  # as little endian bytes read as one number
_STARTS = (b"\xff\xd8", b"\xff\x4f")  # JPEG and JPEG-LS; JPEG 2000
_MAX_FRAGMENTS = 1 << 20
_AT_ONCE_AT_MOST = 1 << 26

Fragment = tuple[int, int]


def compressed_frame(header: ImageHeader, *, frames: int) -> bytes:
    """Return the compressed bytes of a slice.

    Parameters
    ----------
    header
        Of the slice.
    frames
        How many frames the file has, the slice being one of them.

    Raises
    ------
    InputError
        If the fragments are cut off, or do not tell where each frame begins.
    """
    if header.pixel_offset is None:
        raise InputError(f"{header.name} has no Pixel Data (7FE0,0010)")
    if header.pixel_length is not None:
        raise InputError(
            f"{header.name}: Pixel Data (7FE0,0010) is compressed, by its transfer syntax, "
            "but not in fragments"
        )
    try:
        if frames == 1:
            return _only_frame(header.path, header.pixel_offset)
        return _one_of_frames(header.path, header.pixel_offset, frames, (header.frame or 1) - 1)
    except (struct.error, ValueError) as error:
        raise InputError(
            f"{header.name}: the fragments of its Pixel Data (7FE0,0010) are damaged: {error}"
        ) from error
    except OSError as error:
        raise unreadable(header.name, error) from error


def _only_frame(path: Path, offset: int) -> bytes:
    """Read what follows the header at once, and join the fragments."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size - offset
        if size > _AT_ONCE_AT_MOST:
            return b"".join(_read(file, fragment) for fragment in _fragments(path, offset)[1:])
        data = _read(file, (offset, max(size, 0)))
    fragments: list[bytes] = []
    position = 0
    while len(fragments) < _MAX_FRAGMENTS:
        tag, length = struct.unpack_from("<LL", data, position)
        if tag == _DELIMITER:
            return b"".join(fragments[1:])
        start, position = position + 8, position + 8 + length
        if tag != _ITEM or position > len(data):
            raise ValueError(f"fragment {len(fragments)} is cut off")
        fragments.append(data[start:position])
    raise ValueError(f"more than {_MAX_FRAGMENTS} of them")


def _one_of_frames(path: Path, offset: int, frames: int, index: int) -> bytes:
    status = path.stat()
    fragments = _frames(path, offset, frames, (status.st_mtime_ns, status.st_size))[index]
    with path.open("rb", buffering=0) as file:
        return b"".join(_read(file, fragment) for fragment in fragments)


def _read(file: BinaryIO, fragment: Fragment) -> bytes:
    start, length = fragment
    file.seek(start)
    return file.read(length)


def _fragments(path: Path, offset: int) -> list[Fragment]:
    """Return start and length of every item: the Basic Offset Table and the fragments."""
    size = path.stat().st_size
    items: list[Fragment] = []
    with path.open("rb", buffering=0) as file:
        while len(items) < _MAX_FRAGMENTS:
            file.seek(offset)
            tag, length = struct.unpack("<LL", file.read(8))
            if tag == _DELIMITER:
                return items
            if tag != _ITEM or offset + 8 + length > size:
                raise ValueError(f"fragment {len(items)} is cut off")
            items.append((offset + 8, length))
            offset += 8 + length
    raise ValueError(f"more than {_MAX_FRAGMENTS} of them")


@lru_cache(maxsize=8)
def _frames(path: Path, offset: int, frames: int, version: tuple[int, int]) -> list[list[Fragment]]:
    """Return the fragments of every frame: one each, or as the table or their beginnings say.

    The version only tells one content of the file from another, since the answer is kept.
    """
    table, *fragments = _fragments(path, offset)
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    with path.open("rb", buffering=0) as file:
        if table[1] == 4 * frames:
            offsets = set(struct.unpack(f"<{frames}L", _read(file, table)))
            starts = [start - fragments[0][0] in offsets for start, _ in fragments]
        else:
            starts = [_read(file, (start, 2)) in _STARTS for start, _ in fragments]
    if sum(starts) != frames or not starts[0]:
        raise ValueError(f"{len(fragments)} of them, where {frames} frames begin is not told")
    return _grouped(fragments, starts)


def _grouped(fragments: Sequence[Fragment], starts: Sequence[bool]) -> list[list[Fragment]]:
    groups: list[list[Fragment]] = []
    for fragment, begins in zip(fragments, starts, strict=True):
        if begins:
            groups.append([])
        groups[-1].append(fragment)
    return groups
