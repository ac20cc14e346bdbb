"""The elements of an encoded data set: stepped over without decoding what is not wanted, and counted.

A `ValueError` or `struct.error` means that the data are unusual or cut off; a full parser should look,
within the same bounds. An `ExcessError` means that nobody should.

References
----------
DICOM PS3.5 7.1, Data Elements; 7.5, Nesting of Data Sets; 6.2.2, Unknown (UN) Value Representation.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from dicom_files.damage import ExcessError

UNDEFINED = 0xFFFFFFFF
MOST_ELEMENTS = 50_000  # of a header, with the items of its sequences; that of a CT slice has a few hundred
MOST_OF_FRAMES = 500_000  # of the functional groups of all frames, which come behind
DEEPEST = 64  # sequences and items in each other
LONGEST_VALUE = 1 << 16  # bytes of a value that is wanted
FUNCTIONAL_GROUPS = 0x52000000
PIXEL_DATA = 0x7FE00010

Data = bytes | memoryview | mmap.mmap

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
ENDS = frozenset({_ITEM_END, _SEQUENCE_END})
_ITEM_BYTES = {False: b"\xfe\xff\x00\xe0", True: b"\xff\xfe\xe0\x00"}
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN"}
    | {b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
_STRUCTS = {
    big: (struct.Struct(order + "HH2sH"), struct.Struct(order + "HHL"), struct.Struct(order + "L"))
    for big, order in ((False, "<"), (True, ">"))
}
VRS = _LONG_VRS | _SHORT_VRS


class Element(NamedTuple):
    """Where an element lies, or an item.

    Attributes
    ----------
    tag, vr
        The representation is empty where it is implicit, and of an item.
    start, length
        Of its value, bytes; the length may be undefined.
    implicit
        Whether elements that lie in it leave out their representations.
    """

    tag: int
    vr: bytes
    start: int
    length: int
    implicit: bool


class Elements:
    """What steps over the elements of a data set, and lets no more of them pass than a header has.

    Parameters
    ----------
    data
        The bytes they lie in.
    implicit, big
        Whether value representations are left out, and whether bytes are in big endian order.
    most
        How many elements and items may come in all, those in sequences of undefined length included.
    """

    def __init__(self, data: Data, *, implicit: bool, big: bool = False, most: int = MOST_ELEMENTS) -> None:
        self.data = data
        self.implicit, self._big = implicit, big
        self._short, self._plain, self._length = _STRUCTS[big]
        self.allow(most)

    def allow(self, most: int) -> None:
        """Set how many elements and items may come from now on.

        Parameters
        ----------
        most
            How many.
        """
        self._most = self._left = most

    def values(self, position: int, *, end: int, wanted: frozenset[int]) -> tuple[dict[int, bytes], int]:
        """Return the wanted values of the elements below a tag, and the position of what follows them.

        Parameters
        ----------
        position
            Where the first element begins.
        end
            The first tag that is not stepped over; where the data end before it, their end is returned.
        wanted
            Tags.

        Raises
        ------
        ExcessError
            If there are more elements than may be, they are nested too deep, or a wanted value is too long,
            or comes twice and differs.
        ValueError, struct.error
            If the data are unusual or cut off.
        """
        found: dict[int, Any] = {}
        data, size, unpack = self.data, len(self.data), self._short.unpack_from
        quick: frozenset[bytes] = frozenset() if self.implicit else _SHORT_VRS
        left = self._left  # this loop is most of a header's time
        while position != size:
            group, number, vr, length = unpack(data, position)
            tag = group << 16 | number
            if tag >= end:
                break
            if not left:
                raise self._too_many()
            left -= 1
            if vr in quick:
                start = position + 8
            else:
                element = self.at(position)
                start, length = element.start, element.length
                if length == UNDEFINED:
                    self._left = left
                    position = self._after(element)
                    left = self._left
                    continue
            position = start + length
            if tag in wanted:
                if position > size or length > LONGEST_VALUE:
                    self._require_value(tag, start, length)
                value = data[start:position]
                if found.setdefault(tag, value) != value:
                    raise ExcessError.twice(tag)
        self._left = left
        if isinstance(data, memoryview):
            return {tag: bytes(value) for tag, value in found.items()}, position
        return found, position

    def at(self, position: int, *, implicit: bool | None = None) -> Element:
        """Return the element at a position.

        Parameters
        ----------
        position
            Where its tag begins.
        implicit
            Whether its representation is left out, where that is not as in the data set.
        """
        implicit = self.implicit if implicit is None else implicit
        group, number, length = self._plain.unpack_from(self.data, position)
        tag = group << 16 | number
        if implicit or group == 0xFFFE:
            return Element(tag, b"", position + 8, length, implicit)
        vr = bytes(self.data[position + 4 : position + 6])
        if vr in _LONG_VRS:
            length = self._length.unpack_from(self.data, position + 8)[0]
            return Element(tag, vr, position + 12, length, vr == b"UN")
        if vr not in _SHORT_VRS:
            raise ValueError("an explicit value representation was expected")
        return Element(tag, vr, position + 8, self._short.unpack_from(self.data, position)[3], False)

    def items(self, sequence: Element) -> Iterator[Element]:
        """Yield the items of a sequence; those of undefined length with the length that they have.

        Parameters
        ----------
        sequence
            An element that is one.
        """
        position = sequence.start
        end = len(self.data) if sequence.length == UNDEFINED else position + sequence.length
        while position < end:
            self._count()
            item = self.at(position, implicit=sequence.implicit)
            if item.tag == _SEQUENCE_END:
                return
            if item.tag != _ITEM:
                raise ValueError("an item was expected")
            position = self._end_of(item)
            yield item if item.length != UNDEFINED else item._replace(length=position - 8 - item.start)

    def inside(self, item: Element) -> Iterator[Element]:
        """Yield the elements of an item.

        Parameters
        ----------
        item
            An item of a sequence.
        """
        position, end = item.start, item.start + item.length
        while position < end:
            self._count()
            element = self.at(position, implicit=item.implicit)
            yield element
            position = self._end_of(element)

    def is_sequence(self, element: Element) -> bool:
        """Return whether an element is a sequence, as far as its bytes tell.

        Parameters
        ----------
        element
            Any.
        """
        if element.vr == b"SQ" or element.length == UNDEFINED:
            return True
        begins = self.data[element.start : element.start + 4] == _ITEM_BYTES[self._big]
        return begins and element.implicit and not element.tag >> 16 & 1

    def value(self, element: Element) -> bytes:
        """Return the encoded value of an element.

        Parameters
        ----------
        element
            Of defined length.

        Raises
        ------
        ExcessError
            If it is longer than a value that anybody wants.
        ValueError
            If it is cut off.
        """
        self._require_value(element.tag, element.start, element.length)
        return bytes(self.data[element.start : element.start + element.length])

    def measure(self, position: int, *, end: int) -> int:
        """Step over the elements below a tag, and into all sequences; return the position behind them.

        Parameters
        ----------
        position
            Where the first element begins.
        end
            The first tag that is not stepped over.

        Raises
        ------
        ExcessError, ValueError, struct.error
            As `values`.
        """
        while position != len(self.data):
            element = self.at(position)
            if element.tag >= end:
                break
            position = self._measured(element, depth=1)
        return position

    def _measured(self, element: Element, *, depth: int) -> int:
        """Count an element and all that lies in it, and return the position behind it."""
        self._count()
        if depth > DEEPEST:
            raise self._too_deep()
        if not self.is_sequence(element):
            return element.start + element.length
        if element.length == UNDEFINED:
            return self._measured_items(element, None, depth=depth)
        end = element.start + element.length
        with suppress(ValueError, struct.error):  # nobody will find a sequence in it either
            self._measured_items(element, end, depth=depth)
        return end

    def _measured_items(self, sequence: Element, end: int | None, *, depth: int) -> int:
        position = sequence.start
        while end is None or position < end:
            self._count()
            item = self.at(position, implicit=sequence.implicit)
            if item.tag == _SEQUENCE_END:
                return item.start
            if sequence.vr in (b"OB", b"OW"):  # its items are fragments of compressed pixels
                position = item.start + item.length
                continue
            position = item.start
            while item.length == UNDEFINED or position < item.start + item.length:
                element = self.at(position, implicit=item.implicit)
                if element.tag == _ITEM_END:
                    position = element.start
                    break
                position = self._measured(element, depth=depth + 2)
        return position

    def _end_of(self, element: Element) -> int:
        return self._after(element) if element.length == UNDEFINED else element.start + element.length

    def _require_value(self, tag: int, start: int, length: int) -> None:
        if length > LONGEST_VALUE:
            where = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
            raise ExcessError(f"{where} of {length:,} bytes, where {LONGEST_VALUE:,} are the most")
        if start + length > len(self.data):
            raise ValueError("a value reaches beyond what was read")

    def _after(self, outer: Element, *, depth: int = 1) -> int:
        """Return the position after a sequence, or an item, of undefined length."""
        if depth > DEEPEST:
            raise self._too_deep()
        position = outer.start
        while True:
            self._count()
            element = self.at(position, implicit=outer.implicit)
            if element.tag in ENDS:
                return element.start
            if element.length == UNDEFINED:
                position = self._after(element, depth=depth + 1)
            else:
                position = element.start + element.length

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise self._too_many()

    def _too_many(self) -> ExcessError:
        return ExcessError(f"more than {self._most:,} elements and items of sequences")

    @staticmethod
    def _too_deep() -> ExcessError:
        return ExcessError(f"sequences and items nested more than {DEEPEST} deep")
