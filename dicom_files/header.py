"""One file -> a few values of its header, and where its pixels lie; the one way of opening a DICOM file.

Most files are stepped through directly, up to *Pixel Data* (7FE0,0010), from their first kilobytes, with
or without preamble and meta information; what is odd is left to pydicom. No pixel is looked at, and no
more elements than a header has.

References
----------
DICOM PS3.5 section 7, The Data Set; PS3.10 section 7, DICOM File Format.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from dicom_files.damage import ExcessError, parse_errors, too_large, unreadable
from dicom_files.deflate import inflated_head, is_deflated
from dicom_files.elements import (
    FUNCTIONAL_GROUPS,
    MOST_OF_FRAMES,
    PIXEL_DATA,
    UNDEFINED,
    Data,
    Elements,
)
from dicom_files.file_meta import META_TAGS, beginning_of, looks_like_dicom
from dicom_files.uids import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from stages.errors import InputError, printable

ROWS = 0x00280010

_DICOMDIR = MediaStorageDirectoryStorage.encode()
_OFFSET_TABLES = frozenset({0x7FE00001, 0x7FE00002})  # Extended Offset Table and its Lengths
_PIXEL_GROUP = 0x7FE00000
_FIRST_BYTES = (
    1 << 13,
    1 << 16,
)  # read of a file at first; all of it is mapped where a header is longer
_MAX_DEFLATED_HEADER = 1 << 24


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What is wanted of a DICOM file.

    Attributes
    ----------
    values
        Encoded values by tag.
    transfer_syntax
        *Transfer Syntax UID* (0002,0010); implicit or explicit, little or big endian as found where the
        file has no meta information.
    pixel_offset, pixel_length
        Where the value of *Pixel Data* (7FE0,0010) begins in the file, and its length, in bytes; None
        where there is none, or it cannot be told without decompressing (length: encapsulated).
    instance_from_meta
        Whether *SOP Instance UID* (0008,0018) is missing and was taken from the file's meta information.
    """

    values: Mapping[int, bytes]
    transfer_syntax: str
    pixel_offset: int | None
    pixel_length: int | None
    instance_from_meta: bool

    def text(self, tag: int) -> str:
        """Return a value as text, empty where the element is missing or empty.

        Parameters
        ----------
        tag
            Group and element as one number.
        """
        return self.values.get(tag, b"").decode("ascii", "replace").strip("\0 ")


def read_file_header(path: Path, wanted: frozenset[int]) -> FileHeader | None:
    """Read some values of a file's header, without its pixels.

    Parameters
    ----------
    path
        The file.
    wanted
        The tags of the values, below that of *Pixel Data* (7FE0,0010), *Rows* (0028,0010) among them.

    Returns
    -------
    FileHeader or None
        None when the file is not DICOM, or is a DICOMDIR.

    Raises
    ------
    InputError
        If the file cannot be read, or is DICOM and damaged, or has more elements than a header has.
    """
    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(_FIRST_BYTES[0]) or b""
            if not looks_like_dicom(head):
                return None
            if is_deflated(head):
                return _read_deflated(path, file, wanted)
            if scanned := _scan_more_and_more(file, head, wanted):
                return scanned.header
        with path.open("rb") as buffered:
            return _read_by_pydicom(printable(path.name), buffered, wanted)
    except ExcessError as error:
        raise too_large(printable(path.name), error) from error
    except OSError as error:
        raise unreadable(printable(path.name), error) from error


@dataclass(frozen=True, slots=True)
class _Scanned:
    header: FileHeader | None


def _scan_more_and_more(file: BinaryIO, head: bytes, wanted: frozenset[int]) -> _Scanned | None:
    """Scan the beginning of a file, and more of it where the header is longer."""
    for size in _FIRST_BYTES:
        if size > len(head):
            head += file.read(size - len(head)) or b""
        is_whole = len(head) < size
        if scanned := _scan(head, wanted, is_whole=is_whole):
            return scanned
        if is_whole:
            return None
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return _scan(mapped, wanted, is_whole=True)


def _read_deflated(path: Path, file: BinaryIO, wanted: frozenset[int]) -> FileHeader | None:
    try:
        head = inflated_head(file, _FIRST_BYTES[1])
        scanned = _scan(head, wanted, is_whole=len(head) < _FIRST_BYTES[1])
        if scanned is None:
            head = inflated_head(file, _MAX_DEFLATED_HEADER)
            scanned = _scan(head, wanted, is_whole=len(head) < _MAX_DEFLATED_HEADER)
    except zlib.error as error:
        raise InputError(f"{printable(path.name)} is damaged: it cannot be inflated") from error
    header = scanned.header if scanned else _read_by_pydicom(printable(path.name), BytesIO(head), wanted)
    return replace(header, transfer_syntax=DeflatedExplicitVRLittleEndian) if header else None


def _scan(data: Data, wanted: frozenset[int], *, is_whole: bool) -> _Scanned | None:
    """Step through a header; None where more of it, or pydicom, should have a look."""
    try:
        beginning = beginning_of(data)
        meta = beginning.meta
        if meta.get(0x00020002, b"").strip(b"\0 ") == _DICOMDIR:
            return _Scanned(None)
        elements = beginning.elements(data)
        values, position = elements.values(beginning.start, end=_behind(wanted), wanted=wanted)
        if not (values or meta):
            return None
        pixels = _find_pixels(elements, position, values, wanted, is_whole=is_whole)
    except ExcessError:
        raise
    except (struct.error, ValueError):
        return None
    if pixels is None:
        return None
    from_meta = _fill_from_meta(values, meta)
    return _Scanned(FileHeader(values, beginning.transfer_syntax, *pixels, from_meta))


@cache
def _behind(wanted: frozenset[int]) -> int:
    return max(wanted) + 1


def _find_pixels(
    elements: Elements, position: int, values: dict[int, bytes], wanted: frozenset[int], *, is_whole: bool
) -> tuple[int | None, int | None] | None:
    """Return start and length of the pixel data, and take wanted values that are out of their order.

    None where another element is in the place of the pixels. What is not an image, without *Rows*, such as
    contours, may have any number of elements, and is not stepped through to its end.
    """
    try:
        more, position = elements.values(position, end=FUNCTIONAL_GROUPS, wanted=wanted)
        values.update(more)
        elements.allow(MOST_OF_FRAMES)
        more, position = elements.values(position, end=_PIXEL_GROUP, wanted=wanted)
        values.update(more)
    except ExcessError:
        if ROWS in values:
            raise
        return None, None
    if position == len(elements.data) and is_whole:
        return None, None
    element = elements.at(position)
    while element.tag in _OFFSET_TABLES:
        element = elements.at(element.start + element.length)
    if element.tag != PIXEL_DATA:
        return None
    return element.start, None if element.length == UNDEFINED else element.length


def _fill_from_meta(values: dict[int, bytes], meta: Mapping[int, bytes]) -> bool:
    """Take SOP class and instance from the meta information where the data set has none."""
    lacks_instance = not values.get(0x00080018, b"").strip(b"\0 ")
    for tag, meta_tag in ((0x00080016, 0x00020002), (0x00080018, 0x00020003)):
        if not values.get(tag, b"").strip(b"\0 "):
            values[tag] = meta.get(meta_tag, b"")
    return lacks_instance


def _read_by_pydicom(name: str, file: BinaryIO, wanted: frozenset[int]) -> FileHeader | None:
    from dicom_files.dataset import lenient, parsed, syntax_of

    try:
        with lenient():
            dataset = parsed(file, tags=wanted)
            raw = {tag: dataset.get_item(tag).value for tag in wanted if tag in dataset}
            meta = {t: str(dataset.file_meta[t].value).encode() for t in META_TAGS if t in dataset.file_meta}
            syntax = meta.get(0x00020010, b"").decode("ascii", "replace") or syntax_of(dataset)
    except (ExcessError, OSError):
        raise
    except parse_errors() as error:
        raise InputError(f"{name} is damaged: {type(error).__name__} in its header") from error
    if meta.get(0x00020002, b"") == _DICOMDIR:
        return None
    if not (raw or meta):
        file.seek(128)
        if file.read(4) == b"DICM":
            raise InputError(f"{name} is damaged: nothing of an image's header is in it")
        return None
    values = {tag: value for tag, value in raw.items() if isinstance(value, bytes)}
    from_meta = _fill_from_meta(values, meta)
    offset, length = _pixel_element(file, syntax)
    return FileHeader(values, syntax, offset, length, from_meta)


def _pixel_element(file: BinaryIO, syntax: str) -> tuple[int | None, int | None]:
    """Return start and length of the pixel data that the file is positioned at."""
    position = file.tell()
    elements = Elements(
        file.read(12), implicit=syntax == ImplicitVRLittleEndian, big=syntax == ExplicitVRBigEndian
    )
    try:
        element = elements.at(0)
    except (struct.error, ValueError):
        return None, None
    if element.tag != PIXEL_DATA:
        return None, None
    return position + element.start, None if element.length == UNDEFINED else element.length
