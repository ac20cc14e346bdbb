"""Who an instance is, read when it comes from the first attributes of its data set."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom.filereader import read_dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_adapter.places import checked_uid
from dicom_files.damage import ExcessError, damages
from dicom_files.dataset import parsed_values
from dicom_files.elements import Elements
from stages.errors import InputError

_LAST = 0x0020000E  # SeriesInstanceUID
_WANTED = frozenset({0x00080005, 0x00080016, 0x00080018, 0x00080060, 0x0008103E, 0x0020000D, _LAST})
_ODD_AT_MOST = 1 << 24
_INFLATED_AT_FIRST = 1 << 18


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
        values = _texts(_values(data, transfer_syntax))
    except ExcessError as error:
        raise InputError(f"the data set is refused: its header has {error}") from error
    except damages() as error:
        raise InputError(f"the data set cannot be read: {type(error).__name__}") from error
    return Header(
        study_uid=checked_uid(values[0x0020000D], "StudyInstanceUID"),
        series_uid=checked_uid(values[_LAST], "SeriesInstanceUID"),
        sop_instance_uid=checked_uid(values[0x00080018], "SOPInstanceUID"),
        sop_class_uid=checked_uid(values[0x00080016], "SOPClassUID"),
        modality=values[0x00080060],
        series_description=values[0x0008103E],
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


def _texts(values: Mapping[int, bytes]) -> dict[int, str]:
    """Return values as texts, in the character set that is among them."""
    encoded = (struct.pack("<HHL", t >> 16, t & 0xFFFF, len(v)) + v for t, v in sorted(values.items()))
    found = read_dataset(BytesIO(b"".join(encoded)), is_implicit_VR=True, is_little_endian=True)
    return {tag: str(found[tag].value or "") if tag in found else "" for tag in _WANTED}


def _inflated(data: bytes | memoryview) -> bytes:
    decompressor: Any = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return bytes(decompressor.decompress(data[:_INFLATED_AT_FIRST], _INFLATED_AT_FIRST))
    except zlib.error as error:
        raise InputError("the data set is said to be deflated and is not") from error
