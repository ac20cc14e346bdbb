"""The header of one DICOM file: the few attributes the reader needs, and where the pixels lie.

Most files are scanned directly, in little endian and up to *Pixel Data* (7FE0,0010); whatever is
unusual (deflated, big endian, no preamble, long or odd headers) is left to pydicom.

References
----------
DICOM PS3.5 section 7, The Data Set; PS3.10 section 7, DICOM File Format.
"""

from __future__ import annotations

import math
import re
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from stages import InputError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

ATTRIBUTES: Mapping[str, tuple[int, str]] = {
    "ImageType": (0x00080008, "Image Type"),
    "SOPClassUID": (0x00080016, "SOP Class UID"),
    "SOPInstanceUID": (0x00080018, "SOP Instance UID"),
    "Modality": (0x00080060, "Modality"),
    "PatientID": (0x00100020, "Patient ID"),
    "StudyInstanceUID": (0x0020000D, "Study Instance UID"),
    "SeriesInstanceUID": (0x0020000E, "Series Instance UID"),
    "ImagePositionPatient": (0x00200032, "Image Position (Patient)"),
    "ImageOrientationPatient": (0x00200037, "Image Orientation (Patient)"),
    "FrameOfReferenceUID": (0x00200052, "Frame of Reference UID"),
    "SamplesPerPixel": (0x00280002, "Samples per Pixel"),
    "NumberOfFrames": (0x00280008, "Number of Frames"),
    "Rows": (0x00280010, "Rows"),
    "Columns": (0x00280011, "Columns"),
    "PixelSpacing": (0x00280030, "Pixel Spacing"),
    "BitsAllocated": (0x00280100, "Bits Allocated"),
    "BitsStored": (0x00280101, "Bits Stored"),
    "HighBit": (0x00280102, "High Bit"),
    "PixelRepresentation": (0x00280103, "Pixel Representation"),
    "PixelPaddingValue": (0x00280120, "Pixel Padding Value"),
    "RescaleIntercept": (0x00281052, "Rescale Intercept"),
    "RescaleSlope": (0x00281053, "Rescale Slope"),
    "RescaleType": (0x00281054, "Rescale Type"),
}
_WANTED = frozenset(tag for tag, _ in ATTRIBUTES.values())
_META = frozenset({0x00020002, 0x00020003, 0x00020010})
_PIXEL_DATA = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SCANNED_BYTES = 1 << 15
_MAX_INFLATED_BYTES = 1 << 28
_DAMAGES = (
    AttributeError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


@dataclass(frozen=True, slots=True)
class Header:
    """The needed attributes of one DICOM file.

    Attributes
    ----------
    path
        The file.
    values
        Encoded values by tag.
    transfer_syntax
        *Transfer Syntax UID* (0002,0010); implicit or explicit little endian where the file has no
        meta information.
    pixel_offset, pixel_length
        Where the value of *Pixel Data* (7FE0,0010) begins in the file, and its length, in bytes; None
        where there is none, or it cannot be told without decompressing (length: encapsulated).
    instance_from_meta
        Whether *SOP Instance UID* (0008,0018) is missing and was taken from the file's meta information.
    """

    path: Path
    values: Mapping[int, bytes]
    transfer_syntax: str
    pixel_offset: int | None
    pixel_length: int | None
    instance_from_meta: bool = False

    @property
    def name(self) -> str:
        """The file's name, fit for one line of a log."""
        return printable(self.path)

    def text(self, keyword: str) -> str:
        """Return a value as text, empty where the attribute is missing or empty."""
        return self.values.get(ATTRIBUTES[keyword][0], b"").decode("ascii", "replace").strip("\0 ")

    def uid(self, keyword: str) -> str:
        """Return a UID, refused where it is missing or none."""
        text = self.text(keyword)
        if not text:
            raise self.refuse(keyword, "is missing")
        if len(text) > 64 or not _UID.fullmatch(text):
            raise self.refuse(keyword, f"is no UID: {text[:80]!r}")
        return text

    def numbers(self, keyword: str, count: int) -> tuple[float, ...]:
        """Return decimal numbers, refused where they are missing, too few or not finite."""
        text = self.text(keyword)
        if not text:
            raise self.refuse(keyword, "is missing")
        try:
            found = tuple(float(part) for part in text.split("\\"))
        except ValueError:
            found = ()
        if len(found) != count or not all(map(math.isfinite, found)):
            raise self.refuse(keyword, f"must be {count} finite number(s), found {text[:80]!r}")
        return found

    def integer(self, keyword: str, default: int | None = None) -> int:
        """Return an unsigned short, refused where it is missing and there is no default."""
        raw = self.values.get(ATTRIBUTES[keyword][0], b"")
        if not raw and default is not None:
            return default
        if len(raw) != 2:
            raise self.refuse(keyword, "is missing" if not raw else f"has {len(raw)} bytes instead of 2")
        return int.from_bytes(raw, "big" if self.transfer_syntax == EXPLICIT_BIG else "little")

    def refuse(self, keyword: str, problem: str) -> InputError:
        """Return the error that names this file and one of its attributes."""
        return InputError(f"{self.name}: {self.named(keyword)} {problem}")

    @staticmethod
    def named(keyword: str) -> str:
        """Return an attribute's name and tag."""
        tag, name = ATTRIBUTES[keyword]
        return f"{name} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def printable(path: Path) -> str:
    """Return a file's name, fit for one line of a log."""
    return path.name if path.name.isprintable() else ascii(path.name)


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
        with path.open("rb", buffering=_SCANNED_BYTES) as file:
            head = file.read(_SCANNED_BYTES)
            if not _looks_like_dicom(head):
                return None
            return _scan(path, head) or _read_by_pydicom(path, file)
    except OSError as error:
        raise InputError(f"cannot read {printable(path)}: {error.strerror}") from error


def _looks_like_dicom(head: bytes) -> bool:
    if head[128:132] == b"DICM":
        return True
    # without preamble: a data set that begins with group 0002 or 0008 and a small element number
    return len(head) > 132 and head[:2] in (b"\x02\x00", b"\x08\x00") and head[3] == 0 and head[2] <= 0x18


def _scan(path: Path, head: bytes) -> Header | None:
    """Walk through a little endian header; None where pydicom should have a look."""
    if head[128:132] != b"DICM":
        return None
    try:
        meta, position = _walk(head, 132, end_group=2, implicit=False, wanted=_META)
        syntax = meta.get(0x00020010, b"").decode("ascii").strip("\0 ")
        if syntax in ("", EXPLICIT_BIG, DEFLATED):
            return None
        implicit = syntax == IMPLICIT_LITTLE
        values, position = _walk(head, position, end_group=0x7FDF, implicit=implicit, wanted=_WANTED)
        tag, length, start = _element(head, position, implicit=implicit)
    except (struct.error, ValueError):
        return None
    if tag != _PIXEL_DATA:
        return None
    from_meta = _fill_from_meta(values, meta)
    return Header(path, values, syntax, start, None if length == _UNDEFINED else length, from_meta)


def _fill_from_meta(values: dict[int, bytes], meta: Mapping[int, bytes]) -> bool:
    """Take SOP class and instance from the meta information where the data set has none."""
    lacks_instance = not values.get(0x00080018, b"").strip(b"\0 ")
    for tag, meta_tag in ((0x00080016, 0x00020002), (0x00080018, 0x00020003)):
        if not values.get(tag, b"").strip(b"\0 "):
            values[tag] = meta.get(meta_tag, b"")
    return lacks_instance


def _walk(
    data: bytes, position: int, *, end_group: int, implicit: bool, wanted: frozenset[int]
) -> tuple[dict[int, bytes], int]:
    """Return the wanted values up to the end of a group, and the position of what follows it."""
    found: dict[int, bytes] = {}
    limit = (end_group + 1) << 16
    while True:
        tag, length, start = _element(data, position, implicit=implicit)
        if tag >= limit:
            return found, position
        if length == _UNDEFINED:
            position = _after_undefined(data, start, implicit=implicit)
            continue
        position = start + length
        if tag in wanted:
            if position > len(data):
                raise ValueError("the value reaches beyond what was read")
            found[tag] = data[start:position]


def _element(data: bytes, position: int, *, implicit: bool) -> tuple[int, int, int]:
    """Return tag, length and start of the value of the element at a position."""
    group, element, length = struct.unpack_from("<HHL", data, position)
    tag = group << 16 | element
    if implicit or group == 0xFFFE:
        return tag, length, position + 8
    vr = data[position + 4 : position + 6]
    if not vr.isalpha():
        raise ValueError("an explicit value representation was expected")
    if vr in _LONG_VRS:
        if vr == b"UN" and data[position + 8 : position + 12] == b"\xff\xff\xff\xff":
            raise ValueError("an unknown value of undefined length is encoded as implicit")
        return tag, struct.unpack_from("<L", data, position + 8)[0], position + 12
    return tag, length >> 16, position + 8


def _after_undefined(data: bytes, position: int, *, implicit: bool, depth: int = 0) -> int:
    """Return the position after a sequence, or an item, of undefined length."""
    if depth > 20:
        raise ValueError("sequences are nested deeper than an image needs")
    while True:
        tag, length, start = _element(data, position, implicit=implicit)
        if tag in (0xFFFEE0DD, 0xFFFEE00D):
            return start
        if length == _UNDEFINED:
            position = _after_undefined(data, start, implicit=implicit, depth=depth + 1)
        else:
            position = start + length


def _read_by_pydicom(path: Path, file: BinaryIO) -> Header | None:
    from pydicom import config, dcmread
    from pydicom.errors import BytesLengthException, InvalidDicomError

    damages = (InvalidDicomError, BytesLengthException, EOFError, *_DAMAGES)
    _refuse_inflating(path, file)
    file.seek(0)
    try:
        with config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what is odd and needed is refused by its name
            dataset = dcmread(file, stop_before_pixels=True, specific_tags=sorted(_WANTED), force=True)
            raw = {tag: dataset.get_item(tag).value for tag in _WANTED if tag in dataset}
            syntax = str(dataset.file_meta.get("TransferSyntaxUID", "")) or _encoding(dataset)
    except damages as error:
        raise InputError(f"{printable(path)} is damaged: {type(error).__name__} in its header") from error
    if not raw:
        return None
    values = {tag: value for tag, value in raw.items() if isinstance(value, bytes)}
    meta = {tag: str(dataset.file_meta[tag].value).encode() for tag in _META if tag in dataset.file_meta}
    from_meta = _fill_from_meta(values, meta)
    offset, length = (None, None) if syntax == DEFLATED else _pixel_element(file, syntax)
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
        tag, length, start = _element(head, 0, implicit=syntax == IMPLICIT_LITTLE)
    except (struct.error, ValueError):
        return None, None
    if tag != _PIXEL_DATA:
        return None, None
    return position + start, None if length == _UNDEFINED else length


def _refuse_inflating(path: Path, file: BinaryIO) -> None:
    """Refuse a deflated file that would fill the memory, before pydicom inflates it."""
    file.seek(0)
    head = file.read(1024)
    if DEFLATED.encode() not in head or head[132:136] != b"\x02\x00\x00\x00":
        return
    file.seek(144 + int.from_bytes(head[140:144], "little"))
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    size = 0
    data = file.read()
    try:
        while data and size <= _MAX_INFLATED_BYTES:
            size += len(inflating.decompress(data, 1 << 22))
            data = inflating.unconsumed_tail
    except zlib.error as error:
        raise InputError(f"{printable(path)} is damaged: it cannot be inflated") from error
    if size > _MAX_INFLATED_BYTES:
        raise InputError(f"{printable(path)} inflates to more than {_MAX_INFLATED_BYTES >> 20} MiB; refused")
