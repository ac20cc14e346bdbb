"""Who an instance is, read when it comes from the first attributes of its data set."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_adapter.places import checked_uid
from stages.errors import InputError

_LAST = 0x0020000E  # SeriesInstanceUID
_WANTED = (0x00080005, 0x00080016, 0x00080018, 0x00080060, 0x0008103E, 0x0020000D, _LAST)
_BEGINNINGS = (1 << 14, 1 << 20, 1 << 24)
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
        If it cannot be read, or has no usable UIDs.
    """
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        data = _inflated(data)
    beginnings = (_values(data[:size], transfer_syntax) for size in _BEGINNINGS if size < len(data))
    values = next(filter(None, beginnings), None) or _values(data, transfer_syntax, is_all=True)
    return Header(
        study_uid=checked_uid(values[0x0020000D], "StudyInstanceUID"),
        series_uid=checked_uid(values[_LAST], "SeriesInstanceUID"),
        sop_instance_uid=checked_uid(values[0x00080018], "SOPInstanceUID"),
        sop_class_uid=checked_uid(values[0x00080016], "SOPClassUID"),
        modality=values[0x00080060],
        series_description=values[0x0008103E],
    )


def _values(data: bytes | memoryview, transfer_syntax: UID, *, is_all: bool = False) -> dict[int, str]:
    """Return the wanted values; none if more than its beginning is needed for that."""
    behind = []

    def is_behind(tag: BaseTag, vr: str | None, length: int) -> bool:
        if tag > _LAST:
            behind.append(tag)
        return bool(behind)

    try:
        found = read_dataset(
            BytesIO(data),
            is_implicit_VR=transfer_syntax.is_implicit_VR,
            is_little_endian=transfer_syntax.is_little_endian,
            stop_when=is_behind,
            specific_tags=list(map(BaseTag, _WANTED)),
        )
        values = {tag: str(found[tag].value or "") if tag in found else "" for tag in _WANTED}
    except Exception as error:  # pydicom raises anything on broken data
        if not is_all:
            return {}
        raise InputError(f"the data set cannot be read: {type(error).__name__}") from error
    return values if behind or is_all else {}


def _inflated(data: bytes | memoryview) -> bytes:
    decompressor: Any = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return bytes(decompressor.decompress(data[:_INFLATED_AT_FIRST], _INFLATED_AT_FIRST))
    except zlib.error as error:
        raise InputError("the data set is said to be deflated and is not") from error
