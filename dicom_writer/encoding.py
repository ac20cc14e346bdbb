"""Data elements as bytes, little endian: for the parts of a result that come by the thousand.

Explicit VR unless the name says otherwise. pydicom writes the rest, which comes first (`save`).

References
----------
DICOM PS3.5 7.1.2, Data Element Structure with Explicit VR; 7.5, Nesting of Data Sets.
"""

from __future__ import annotations

import itertools
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info

_LONG = frozenset({"OB", "OW", "SQ", "UN", "UT", "UC", "UR"})
_ITEM = struct.Struct("<HHL")
_UNDEFINED = 0xFFFFFFFF


def element(tag: int, vr: str, value: bytes) -> bytes:
    """Return one data element; a value of odd length is padded as its VR asks for."""
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    size = struct.pack("<2xL" if vr in _LONG else "<H", len(value))
    return head + size + value


def text(tag: int, vr: str, *values: object) -> bytes:
    """Return an element of characters; several values are parted by backslashes."""
    return element(tag, vr, "\\".join(map(str, values)).encode("ascii"))


def numbers(tag: int, vr: str, *values: int) -> bytes:
    """Return an element of unsigned integers, US or UL."""
    return element(tag, vr, struct.pack(f"<{len(values)}{'H' if vr == 'US' else 'L'}", *values))


def item(content: bytes) -> bytes:
    """Return an item of a sequence, of defined length."""
    return _ITEM.pack(0xFFFE, 0xE000, len(content)) + content


def sequence(tag: int, *contents: bytes) -> bytes:
    """Return a sequence of items with these contents."""
    return element(tag, "SQ", b"".join(map(item, contents)))


def code(tag: int, value: str, scheme: str, meaning: str) -> bytes:
    """Return a code sequence of one item."""
    coded = text(0x00080100, "SH", value) + text(0x00080102, "SH", scheme) + text(0x00080104, "LO", meaning)
    return sequence(tag, coded)


def save(dataset: FileDataset, path: Path, tail: Iterable[bytes] = ()) -> None:
    """Write a data set, and behind it encoded elements whose tags are higher than all of its own.

    Parameters
    ----------
    dataset
        Its meta information names the transfer syntax: explicit VR little endian, deflated or not.
    tail
        Bytes that are written as they come, so that the pixels need not be in memory at once.
    """
    with open(path, "wb") as file:
        file.write(file_head(dataset.file_meta))
        parts = itertools.chain([encoded(dataset)], tail)
        is_deflated = dataset.file_meta.TransferSyntaxUID.is_deflated
        for part in _deflated(parts) if is_deflated else parts:
            file.write(part)


def encoded(dataset: Dataset, *, implicit: bool = False) -> bytes:
    """Return a data set as bytes, little endian; what was never decoded stays byte for byte as it is."""
    elements = elements_of(dataset, implicit=implicit)
    return b"".join(elements[tag] for tag in sorted(elements))


def elements_of(
    dataset: Dataset, *, implicit: bool = False, encodings: tuple[str, ...] = ()
) -> dict[int, bytes]:
    """Return each element of a data set encoded, by its tag, to be joined in the order of tags.

    Parameters
    ----------
    implicit
        Whether value representations are left out.
    encodings
        Of the data set around it, which hold where it names no character set itself.
    """
    if dataset.get("SpecificCharacterSet"):
        encodings = encodings_of(dataset)
    return {
        int(tag): _encoded(dataset.get_item(tag), implicit, encodings or (default_encoding,))
        for tag in dataset.keys()  # noqa: SIM118
    }


def encodings_of(dataset: Dataset) -> tuple[str, ...]:
    """Return the encodings that a data set names, Python's; the default where it names none that exists."""
    stated = dataset.get("SpecificCharacterSet") or "ISO_IR 6"
    return _encodings((stated,) if isinstance(stated, str) else tuple(stated))


@lru_cache
def _encodings(stated: tuple[str, ...]) -> tuple[str, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return tuple(convert_encodings(list(stated)))


def _encoded(one: DataElement | RawDataElement, implicit: bool, encodings: tuple[str, ...]) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    if one.VR != "SQ" or isinstance(one, RawDataElement):
        write_data_element(buffer, one, list(encodings))
        return buffer.getvalue()
    items = b"".join(
        item(b"".join(inner[tag] for tag in sorted(inner)))
        for inner in (elements_of(x, implicit=implicit, encodings=encodings) for x in one.value or ())
    )
    return implicit_element(one.tag, items) if implicit else element(one.tag, "SQ", items)


def implicit_element(tag: int, value: bytes) -> bytes:
    """Return one data element, implicit VR; a value of odd length is padded by a space."""
    return _ITEM.pack(tag >> 16, tag & 0xFFFF, len(value) + len(value) % 2) + value + b" " * (len(value) % 2)


def implicit_sequence(tag: int, items: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    """Yield a sequence, implicit VR, of undefined length: items are written as they come."""
    yield _ITEM.pack(tag >> 16, tag & 0xFFFF, _UNDEFINED)
    for content in items:
        yield _ITEM.pack(0xFFFE, 0xE000, _UNDEFINED)
        yield from content
        yield _ITEM.pack(0xFFFE, 0xE00D, 0)
    yield _ITEM.pack(0xFFFE, 0xE0DD, 0)


def _deflated(parts: Iterable[bytes]) -> Iterator[bytes]:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    size = 0
    for part in parts:
        yield (packed := deflate.compress(part))
        size += len(packed)
    yield (packed := deflate.flush())
    if (size + len(packed)) % 2:
        yield b"\0"


def pixel_data(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield *Pixel Data* (7FE0,0010), uncompressed, of so many bytes, padded to an even number."""
    yield struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OB", size + size % 2)
    yield from chunks
    yield bytes(size % 2)


def encapsulated_pixel_data(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Yield *Pixel Data* (7FE0,0010), compressed, one fragment a frame, with an empty offset table."""
    yield struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF) + item(b"")
    yield from map(item, frames)
    yield _ITEM.pack(0xFFFE, 0xE0DD, 0)


def file_head(meta: FileMetaDataset) -> bytes:
    """Return preamble and meta information of a file."""
    encoded = DicomBytesIO()
    write_file_meta_info(encoded, meta, enforce_standard=True)
    return bytes(128) + b"DICM" + encoded.getvalue()


def file_head_maker(meta: FileMetaDataset) -> Callable[[str], bytes]:
    """Return what gives preamble and meta information of files that differ in their SOP instance only."""
    file_head(meta)  # fills in what is missing
    elements = elements_of(meta)
    before = b"".join(elements[tag] for tag in sorted(elements) if 0x00020000 < tag < 0x00020003)
    behind = b"".join(elements[tag] for tag in sorted(elements) if tag > 0x00020003)

    def head(sop_instance_uid: str) -> bytes:
        group = before + text(0x00020003, "UI", sop_instance_uid) + behind
        return bytes(128) + b"DICM" + numbers(0x00020000, "UL", len(group)) + group

    return head
