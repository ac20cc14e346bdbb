"""Who an instance is, read when it comes from the first attributes of its data set."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_adapter.places import checked_uid
from dicom_files.character_sets import decoded
from dicom_files.damage import ExcessError, damages
from dicom_files.dataset import parsed_values
from dicom_files.elements import Elements
from stages.errors import InputError

_LAST = 0x0020000E  # SeriesInstanceUID
_WANTED = frozenset({0x00080005, 0x00080016, 0x00080018, 0x00080060, 0x0008103E, 0x0020000D, _LAST})
_ODD_AT_MOST = 1 << 24
_INFLATED_AT_FIRST = 1 << 18
_LONGEST_TEXT = 1 << 10  # bytes that a filter looks at; a description has 64 characters


@dataclass(frozen=True, kw_only=True)
class Header:
    """Who an instance is. The description stays out of logs and pages."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str
    series_description: str


def read_header(data: bytes | memoryview, transfer_syntax: UID) -> Header:
    """Return who an instance is.

    Parameters
    ----------
    data
        The data set as it came, without preamble and file meta information.

    Raises
    ------
    InputError
        If it cannot be read, has no usable UIDs, or more elements than a header has.
    """
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        data = _inflated(data)
    try:
        values = _values(data, transfer_syntax)
    except ExcessError as error:
        raise InputError(f"the data set is refused: its header has {error}") from error
    except damages() as error:
        raise InputError(f"the data set cannot be read: {type(error).__name__}") from error
    return Header(
        study_uid=_uid(values, 0x0020000D, "StudyInstanceUID"),
        series_uid=_uid(values, _LAST, "SeriesInstanceUID"),
        sop_instance_uid=_uid(values, 0x00080018, "SOPInstanceUID"),
        sop_class_uid=_uid(values, 0x00080016, "SOPClassUID"),
        modality=decoded(values.get(0x00080060, b"")[:_LONGEST_TEXT]),
        series_description=decoded(values.get(0x0008103E, b"")[:_LONGEST_TEXT], values.get(0x00080005, b"")),
    )


def _values(data: bytes | memoryview, transfer_syntax: UID) -> Mapping[int, bytes]:
    """Return the encoded values that tell who an instance is."""
    implicit, big = transfer_syntax.is_implicit_VR, not transfer_syntax.is_little_endian
    try:
        return Elements(data, implicit=implicit, big=big).values(0, end=_LAST + 1, wanted=_WANTED)[0]
    except ExcessError:
        raise
    except (ValueError, struct.error):
        odd = bytes(data[:_ODD_AT_MOST])
        return parsed_values(odd, implicit=implicit, big=big, end=_LAST + 1, wanted=_WANTED)


def _uid(values: Mapping[int, bytes], tag: int, name: str) -> str:
    return checked_uid(values.get(tag, b"").decode("ascii", "replace").rstrip("\0 "), name)


def _inflated(data: bytes | memoryview) -> bytes:
    decompressor: Any = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return bytes(decompressor.decompress(data[:_INFLATED_AT_FIRST], _INFLATED_AT_FIRST))
    except zlib.error as error:
        raise InputError("the data set is said to be deflated and is not") from error
