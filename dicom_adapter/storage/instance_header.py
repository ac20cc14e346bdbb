"""Who an instance is, read while it comes from the first attributes of its data set.

What it takes is bounded, whatever a sender sends: no more elements are looked at than a header has, values
that nobody wants are passed over unseen, and of a deflated data set no more is inflated than `_INFLATED`.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_adapter.storage.paths import checked_uid
from dicom_files.character_sets import decoded
from dicom_files.damage import ExcessError, damages
from dicom_files.dataset import parsed_values
from dicom_files.element_stream import ElementStream
from dicom_files.elements import Elements
from stages.errors import InputError

_CHARACTER_SET, _SOP_CLASS, _SOP_INSTANCE = 0x00080005, 0x00080016, 0x00080018
_MODALITY, _DESCRIPTION, _STUDY, _SERIES = 0x00080060, 0x0008103E, 0x0020000D, 0x0020000E
_WANTED = frozenset({_CHARACTER_SET, _SOP_CLASS, _SOP_INSTANCE, _MODALITY, _DESCRIPTION, _STUDY, _SERIES})
_END = _SERIES + 1
_FIRST_GROUP = 0x0008
_ODD_AT_MOST = 1 << 20
_INFLATED, _INFLATED_AT_ONCE = 1 << 26, 1 << 18
_DEFLATED_AT_ONCE = 1 << 14
_LONGEST_TEXT = 1 << 10  # bytes that a filter looks at; a description has 64 characters
_odd_ones = threading.Lock()  # pydicom's settings hold for all threads


@dataclass(frozen=True, kw_only=True)
class Header:
    """Who an instance is. The description stays out of logs and pages."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str
    series_description: str


def read_header(data: bytes | memoryview, transfer_syntax: str) -> Header:
    """Return who an instance is whose data set is in memory.

    Parameters
    ----------
    data
        The data set as it came, without preamble and file meta information.
    transfer_syntax
        Its UID.

    Raises
    ------
    InputError
        As `HeaderReader`.
    """
    reader = HeaderReader(transfer_syntax)
    reader.feed(data)
    return reader.header()


class HeaderReader:
    """Reads who an instance is while its data set comes in pieces, of which it holds none.

    Parameters
    ----------
    transfer_syntax
        Its UID.
    """

    def __init__(self, transfer_syntax: str) -> None:
        syntax = UID(transfer_syntax)
        self._implicit, self._big = syntax.is_implicit_VR, not syntax.is_little_endian
        self._inflating: Any = None
        if syntax == DeflatedExplicitVRLittleEndian:
            self._inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        self._inflated = 0
        self._stream: ElementStream | None = None
        self._values: Mapping[int, bytes] | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing more of the data set is looked at."""
        return self._values is not None

    @property
    def ahead(self) -> int:
        """How many of the next bytes are passed over unseen."""
        return self._stream.ahead if self._stream and not self._inflating else 0

    def passed(self, count: int) -> None:
        """Note that so many bytes, no more than lie `ahead`, are left out of what is fed."""
        if self._stream:
            self._stream.ahead -= count

    def feed(self, piece: bytes | memoryview) -> None:
        """Look at the next bytes of the data set.

        Raises
        ------
        InputError
            If it cannot be read, or has more elements than a header has.
        """
        try:
            if self._inflating:
                self._feed_deflated(piece)
            else:
                self._feed(piece)
        except ExcessError as error:
            raise InputError(f"the data set is refused: its header has {error}") from error
        except InputError:
            raise
        except zlib.error as error:
            raise InputError("the data set is said to be deflated and is not") from error
        except damages() as error:
            raise InputError(f"the data set cannot be read: {type(error).__name__}") from error

    def header(self) -> Header:
        """Return who it is, once it is `is_done` or nothing more comes.

        Raises
        ------
        InputError
            If it has no usable UIDs.
        """
        values = self._values
        if values is None:
            values = self._stream.values if self._stream else {}
        text = values.get(_DESCRIPTION, b"")[:_LONGEST_TEXT]
        return Header(
            study_uid=_uid(values, _STUDY, "StudyInstanceUID"),
            series_uid=_uid(values, _SERIES, "SeriesInstanceUID"),
            sop_instance_uid=_uid(values, _SOP_INSTANCE, "SOPInstanceUID"),
            sop_class_uid=_uid(values, _SOP_CLASS, "SOPClassUID"),
            modality=decoded(values.get(_MODALITY, b"")[:_LONGEST_TEXT]),
            series_description=decoded(text, values.get(_CHARACTER_SET, b"")),
        )

    def _feed_deflated(self, data: bytes | memoryview) -> None:
        for at in range(0, len(data), _DEFLATED_AT_ONCE):
            piece = bytes(data[at : at + _DEFLATED_AT_ONCE])
            is_whole = False
            while not (is_whole or self.is_done):
                inflated = self._inflating.decompress(piece, _INFLATED_AT_ONCE)
                piece = self._inflating.unconsumed_tail
                is_whole = not piece and len(inflated) < _INFLATED_AT_ONCE
                self._inflated += len(inflated)
                if self._inflated > _INFLATED:
                    raise ExcessError(f"more than {_INFLATED >> 20} MiB before the UIDs when it is inflated")
                self._feed(inflated)

    def _require_a_data_set(self, begin: bytes | memoryview) -> None:
        """Refuse what readers of the file would take for its meta information (PS3.10 7.1)."""
        group = int.from_bytes(begin[:2], "big" if self._big else "little")
        if len(begin) >= 2 and group < _FIRST_GROUP:
            raise InputError(
                f"the data set is refused: it begins with group {group:04X}, which has no place in it"
            )

    def _feed(self, piece: bytes | memoryview) -> None:
        if self.is_done:
            return
        is_first = self._stream is None
        if is_first:
            self._require_a_data_set(piece)
            if self._is_read_at_once(piece):
                return
        if self._stream is None:
            self._stream = ElementStream(implicit=self._implicit, big=self._big, end=_END, wanted=_WANTED)
        try:
            self._stream.feed(piece)
        except ExcessError:
            raise
        except ValueError:
            if not is_first:
                raise
            self._read_odd(piece)
        else:
            if self._stream.is_done:
                self._values = self._stream.values

    def _is_read_at_once(self, piece: bytes | memoryview) -> bool:
        """Read the usual header, which is whole in the first piece; tell whether it was."""
        try:
            found, position = Elements(piece, implicit=self._implicit, big=self._big).values(
                0, end=_END, wanted=_WANTED
            )
        except ExcessError:
            raise
        except (ValueError, struct.error):  # odd, or there is more to come
            return False
        if position < len(piece):
            self._values = found
        return self.is_done

    def _read_odd(self, piece: bytes | memoryview) -> None:
        with _odd_ones:
            self._values = parsed_values(
                bytes(piece[:_ODD_AT_MOST]),
                implicit=self._implicit,
                big=self._big,
                end=_END,
                wanted=_WANTED,
            )


def _uid(values: Mapping[int, bytes], tag: int, name: str) -> str:
    return checked_uid(values.get(tag, b"").decode("ascii", "replace").rstrip("\0 "), name)
