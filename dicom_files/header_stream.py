"""The first values of a data set that comes over a network, without preamble and meta information.

What it takes is bounded, whatever a sender sends: no more elements are looked at than a header has, values
that nobody wants are passed over unseen, and of a deflated data set no more is inflated than 64 MiB.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Mapping

from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_files.damage import ExcessError, parse_errors
from dicom_files.dataset import parsed_values
from dicom_files.deflate import Inflater
from dicom_files.element_stream import ElementStream
from dicom_files.elements import Elements
from stages.errors import InputError

_FIRST_GROUP = 0x0008
_ODD_AT_MOST = 1 << 20
_INFLATED_AT_MOST = 1 << 26
_odd_ones = threading.Lock()  # pydicom's settings hold for all threads


class HeaderStream:
    """Reads the wanted values of a data set while it comes in pieces, of which it holds none.

    Parameters
    ----------
    transfer_syntax
        Its UID.
    end
        The first tag that is not looked at.
    wanted
        Tags below it.

    Raises
    ------
    ValueError
        If the UID is that of no transfer syntax.
    """

    def __init__(self, transfer_syntax: str, *, end: int, wanted: frozenset[int]) -> None:
        syntax = UID(transfer_syntax)
        self._implicit, self._big = syntax.is_implicit_VR, not syntax.is_little_endian
        self._end, self._wanted = end, wanted
        self._inflater = Inflater() if syntax == DeflatedExplicitVRLittleEndian else None
        self._inflated = 0
        self._stream: ElementStream | None = None
        self._values: Mapping[int, bytes] | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing more of the data set is looked at."""
        return self._values is not None

    @property
    def values(self) -> Mapping[int, bytes]:
        """The encoded values that have come, by tag."""
        if self._values is not None:
            return self._values
        return self._stream.values if self._stream else {}

    @property
    def ahead(self) -> int:
        """How many of the next bytes are passed over unseen."""
        return self._stream.ahead if self._stream and not self._inflater else 0

    def passed(self, count: int) -> None:
        """Note that bytes are left out of what is fed.

        Parameters
        ----------
        count
            How many, no more than lie `ahead`.
        """
        if self._stream:
            self._stream.ahead -= count

    def feed(self, piece: bytes | memoryview) -> None:
        """Look at more of the data set.

        Parameters
        ----------
        piece
            Its next bytes.

        Raises
        ------
        InputError
            If it cannot be read, or has more elements than a header has.
        """
        try:
            if self._inflater:
                self._feed_deflated(self._inflater, piece)
            else:
                self._feed(piece)
        except ExcessError as error:
            raise InputError(f"the data set is refused: its header has {error}") from error
        except InputError:
            raise
        except zlib.error as error:
            raise InputError("the data set is said to be deflated and is not") from error
        except parse_errors() as error:
            raise InputError(f"the data set cannot be read: {type(error).__name__}") from error

    def _feed_deflated(self, inflater: Inflater, data: bytes | memoryview) -> None:
        if self.is_done:
            return
        for piece in inflater.feed(data):
            self._inflated += len(piece)
            if self._inflated > _INFLATED_AT_MOST:
                raise ExcessError(
                    f"more than {_INFLATED_AT_MOST >> 20} MiB before the UIDs when it is inflated"
                )
            self._feed(piece)
            if self.is_done:
                return

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
            self._stream = ElementStream(
                implicit=self._implicit, big=self._big, end=self._end, wanted=self._wanted
            )
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
        """Read the usual header, which is whole in the first piece; return whether it was."""
        try:
            found, position = Elements(piece, implicit=self._implicit, big=self._big).values(
                0, end=self._end, wanted=self._wanted
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
                end=self._end,
                wanted=self._wanted,
            )
