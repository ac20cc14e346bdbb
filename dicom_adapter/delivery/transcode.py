"""A result in another transfer syntax, for an archive that does not take its own: never with loss.

What comes out is held against what went in, element by element; what differs is not sent.

References
----------
DICOM PS3.5 10.1 (Implicit VR Little Endian is always offered), A.4 (compressed pixel data).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO, TypeAlias

from pydicom import dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_files.damage import parse_errors
from dicom_files.dataset import lenient
from stages.errors import StageError

_PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_UNPACKED = (*_PLAIN, DeflatedExplicitVRLittleEndian)
_PACKED = (
    *(RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLossless, JPEGLosslessSV1),
    *(HTJ2KLossless, HTJ2KLosslessRPCL),
)
_WRITTEN = (JPEG2000Lossless, JPEGLSLossless, RLELossless)
_PIXEL_DATA = 0x7FE00010
_PADDING = b" \0"
_OF_PIXELS = (_PIXEL_DATA, 0x00280004, 0x00280006, 0x7FE00001, 0x7FE00002)  # may change with their packing
_PACKABLE_BITS = (8, 16)
_FAILURES: tuple[type[Exception], ...] = (RuntimeError, *parse_errors())  # an encoder says RuntimeError
Element: TypeAlias = DataElement | RawDataElement


class TranscodeError(StageError):
    """A result cannot be given in a transfer syntax without a change."""


def alternatives(path: Path, syntax: str) -> list[str]:
    """Return the transfer syntaxes that a file can be given in: its own first, then what most archives take.

    Parameters
    ----------
    path
        The file.
    syntax
        Its own, as its file meta information has it.
    """
    own = UID(syntax)
    if own not in (*_UNPACKED, *_PACKED) or (own in _PACKED and not get_decoder(own).is_available):
        return [own]  # lossy, private, or one that only its own reader understands
    packed = [each for each in _WRITTEN if _is_packable(path) and get_encoder(each).is_available]
    return list(dict.fromkeys([own, *_PLAIN, *packed]))


def transcode(path: Path, syntax: str, target: IO[bytes]) -> int:
    """Write the data set of a file in another transfer syntax, and return how many bytes it has.

    Parameters
    ----------
    path, syntax
        The file and the UID of the transfer syntax.
    target
        Where to; it is rewound in the end.

    Raises
    ------
    TranscodeError
        If that is not possible without a change of any value.
    """
    wanted = UID(syntax)
    try:
        with lenient():
            before, made = dcmread(path), dcmread(path)
            _repack(made, wanted)
            if wanted.is_implicit_VR:
                _keep_bytes(made)
            written = DicomIO(target)
            written.is_implicit_VR, written.is_little_endian = wanted.is_implicit_VR, True
            write_dataset(written, made)
            size = target.tell()
            _verify(before, target, made)
    except _FAILURES as error:
        raise TranscodeError(f"it cannot be given in {wanted.name}: {type(error).__name__}") from error
    target.seek(0)
    return size


def _is_packable(path: Path) -> bool:
    try:
        with lenient():
            image = dcmread(path, stop_before_pixels=True, specific_tags=["BitsAllocated"])
        return image.get("BitsAllocated") in _PACKABLE_BITS
    except parse_errors():
        return False


def _repack(made: FileDataset, wanted: UID) -> None:
    """Unpack and pack the pixels, as a transfer syntax needs it."""
    if made.file_meta.TransferSyntaxUID in _PACKED:
        made.decompress(as_rgb=False, generate_instance_uid=False)
    if wanted in _PACKED:
        made.compress(wanted, generate_instance_uid=False)
    made.file_meta.TransferSyntaxUID = wanted


def _keep_bytes(made: Dataset) -> None:
    """Make values be written as they lie, not decoded, where no VR is written beside them."""
    for tag in list(made.keys()):
        if _is_sequence(made.get_item(tag)):
            for each in made[tag].value:
                _keep_bytes(each)
    made.set_original_encoding(True, True, made._character_set)


def _verify(before: FileDataset, written: IO[bytes], made: FileDataset) -> None:
    """Refuse what was written if it says anything else."""
    written.seek(0)
    syntax = made.file_meta.TransferSyntaxUID
    read = read_dataset(written, syntax.is_implicit_VR, True)  # type: ignore[arg-type]
    is_packed = {syntax, before.file_meta.TransferSyntaxUID} & {*_PACKED}
    _compare(before, read, apart_from=_OF_PIXELS if is_packed else ())
    if syntax in _PACKED:
        after = FileDataset(None, read, file_meta=made.file_meta)  # type: ignore[arg-type]
        _compare_pixels(before, after)


def _compare(before: Dataset, after: Dataset, *, apart_from: tuple[int, ...] = ()) -> None:
    """Refuse what is not the same, but for padding and for lengths of groups, which are no values."""
    for tag in set(before.keys()) | set(after.keys()):
        if tag in apart_from or not tag & 0xFFFF:
            continue
        one, other = before.get_item(tag), after.get_item(tag)
        if one is None or other is None:
            raise ValueError(f"{tag} is in one alone")
        if _is_sequence(one) or _is_sequence(other):
            for pair in zip(_items(before, one), _items(after, other), strict=True):
                _compare(*pair)
        elif isinstance(one, RawDataElement) and isinstance(other, RawDataElement):
            if (one.value or b"").rstrip(_PADDING) != (other.value or b"").rstrip(_PADDING):
                raise ValueError(f"{tag} differs")
        elif before[tag].value != after[tag].value:
            raise ValueError(f"{tag} differs")


def _compare_pixels(before: FileDataset, after: FileDataset) -> None:
    """Refuse packed pixels that are not, bit for bit, those that were packed."""
    for each in (before, after):
        if each.file_meta.TransferSyntaxUID in _PACKED:
            each.decompress(as_rgb=False, generate_instance_uid=False)
    if before.PixelData != after.PixelData:
        raise ValueError("pixels differ")


def _is_sequence(element: Element) -> bool:
    return (element.VR or (dictionary_has_tag(element.tag) and dictionary_VR(element.tag))) == "SQ"


def _items(dataset: Dataset, element: Element) -> Iterable[Dataset]:
    if isinstance(element, RawDataElement):
        is_implicit = element.is_implicit_VR or element.VR == "UN"
        element = convert_raw_data_element(element._replace(VR="SQ", is_implicit_VR=is_implicit), ds=dataset)
    return list(element.value)
