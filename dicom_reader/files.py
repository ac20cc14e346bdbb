"""One file -> its header, and where its pixels lie.

Most files are scanned directly, in little endian and up to *Pixel Data* (7FE0,0010), from their first
kilobytes; whatever is unusual (big endian, no preamble, odd headers) is left to pydicom. No pixel is
looked at.

References
----------
DICOM PS3.5 section 7, The Data Set; PS3.10 section 7, DICOM File Format.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dicom_reader.deflated import DEFLATED, inflated_head, is_deflated
from dicom_reader.headers import ATTRIBUTES, EXPLICIT_BIG, Header, unreadable
from dicom_reader.scan import UNDEFINED, element_at, walk
from stages import InputError
from stages.logs import printable

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"

_WANTED = frozenset(tag for tag, _ in ATTRIBUTES.values())
_META = frozenset({0x00020002, 0x00020003, 0x00020010})
_DICOMDIR = b"1.2.840.10008.1.3.10"
_PIXEL_DATA = 0x7FE00010
_BEFORE_PIXEL_DATA = frozenset({0x7FE00001, 0x7FE00002})  # Extended Offset Table and its Lengths
_SCANNED_BYTES = (1 << 13, 1 << 16, 1 << 20)
_MAX_DEFLATED_HEADER = 1 << 24
_DAMAGES = (
    AttributeError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def read_header(path: Path) -> Header | None:
    """Read the header of a file, without its pixels.

    Returns
    -------
    Header or None
        None when the file is not DICOM.

    Raises
    ------
    InputError
        If the file cannot be read, or is DICOM and damaged.
    """
    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(_SCANNED_BYTES[0]) or b""
            if not _looks_like_dicom(head):
                return None
            if is_deflated(head):
                return _read_deflated(path, file)
            return _scan_more_and_more(path, file, head) or _read_by_pydicom(path)
    except OSError as error:
        raise unreadable(printable(path.name), error) from error


def _looks_like_dicom(head: bytes) -> bool:
    if head[128:132] == b"DICM":
        return True
    # without preamble: a data set that begins with group 0002 or 0008 and a small element number
    return len(head) > 132 and head[:2] in (b"\x02\x00", b"\x08\x00") and head[3] == 0 and head[2] <= 0x18


def _scan_more_and_more(path: Path, file: BinaryIO, head: bytes) -> Header | None:
    """Scan the beginning of a file, and more of it where the header is longer."""
    for size in _SCANNED_BYTES:
        if size > len(head):
            head += file.read(size - len(head)) or b""
        header = _scan(path, head)
        if header or len(head) < size:
            return header
    return None


def _read_deflated(path: Path, file: BinaryIO) -> Header | None:
    try:
        header = _scan(path, inflated_head(file, _SCANNED_BYTES[1]))
        if header is None:
            header = _read_by_pydicom(path, BytesIO(inflated_head(file, _MAX_DEFLATED_HEADER)))
    except zlib.error as error:
        raise InputError(f"{printable(path.name)} is damaged: it cannot be inflated") from error
    return replace(header, transfer_syntax=DEFLATED) if header else None


def _scan(path: Path, head: bytes) -> Header | None:
    """Walk through a little endian header; None where more of it, or pydicom, should have a look."""
    if head[128:132] != b"DICM":
        return None
    try:
        meta, position = walk(head, 132, end_group=2, implicit=False, wanted=_META)
        syntax = meta.get(0x00020010, b"").decode("ascii").strip("\0 ")
        if syntax in ("", EXPLICIT_BIG):
            return None
        implicit = syntax == IMPLICIT_LITTLE
        values, position = walk(head, position, end_group=0x7FDF, implicit=implicit, wanted=_WANTED)
        tag, length, start = element_at(head, position, implicit=implicit)
        while tag in _BEFORE_PIXEL_DATA:
            tag, length, start = element_at(head, start + length, implicit=implicit)
    except (struct.error, ValueError):
        return None
    if tag != _PIXEL_DATA:
        return None
    from_meta = _fill_from_meta(values, meta)
    return Header(path, values, syntax, start, None if length == UNDEFINED else length, from_meta)


def _fill_from_meta(values: dict[int, bytes], meta: Mapping[int, bytes]) -> bool:
    """Take SOP class and instance from the meta information where the data set has none."""
    lacks_instance = not values.get(0x00080018, b"").strip(b"\0 ")
    for tag, meta_tag in ((0x00080016, 0x00020002), (0x00080018, 0x00020003)):
        if not values.get(tag, b"").strip(b"\0 "):
            values[tag] = meta.get(meta_tag, b"")
    return lacks_instance


def _read_by_pydicom(path: Path, file: BinaryIO | None = None) -> Header | None:
    if file is None:
        with path.open("rb") as opened:
            return _read_by_pydicom(path, opened)
    from pydicom import config, dcmread
    from pydicom.errors import BytesLengthException, InvalidDicomError

    damages = (InvalidDicomError, BytesLengthException, EOFError, *_DAMAGES)
    try:
        with config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what is odd and needed is refused by its name
            dataset = dcmread(file, stop_before_pixels=True, specific_tags=sorted(_WANTED), force=True)
            raw = {tag: dataset.get_item(tag).value for tag in _WANTED if tag in dataset}
            meta = {t: str(dataset.file_meta[t].value).encode() for t in _META if t in dataset.file_meta}
            syntax = meta.get(0x00020010, b"").decode("ascii", "replace") or _encoding(dataset)
    except damages as error:
        raise InputError(
            f"{printable(path.name)} is damaged: {type(error).__name__} in its header"
        ) from error
    if meta.get(0x00020002, b"") == _DICOMDIR:
        return None
    if not (raw or meta):
        file.seek(128)
        if file.read(4) == b"DICM":
            raise InputError(f"{printable(path.name)} is damaged: nothing of an image's header is in it")
        return None
    values = {tag: value for tag, value in raw.items() if isinstance(value, bytes)}
    from_meta = _fill_from_meta(values, meta)
    offset, length = _pixel_element(file, syntax)
    return Header(path, values, syntax, offset, length, from_meta)


def _encoding(dataset: FileDataset) -> str:
    """Name the encoding that pydicom found in a file that does not say."""
    implicit, little = dataset.original_encoding
    return (IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE) if little else EXPLICIT_BIG


def _pixel_element(file: BinaryIO, syntax: str) -> tuple[int | None, int | None]:
    """Return start and length of the pixel data that the file is positioned at."""
    position = file.tell()
    head = file.read(12)
    if syntax == EXPLICIT_BIG:  # swapped into what little endian would be
        head = head[1::-1] + head[3:1:-1] + head[4:8] + head[:7:-1]
    try:
        tag, length, start = element_at(head, 0, implicit=syntax == IMPLICIT_LITTLE)
    except (struct.error, ValueError):
        return None, None
    if tag != _PIXEL_DATA:
        return None, None
    return position + start, None if length == UNDEFINED else length
