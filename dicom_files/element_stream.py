"""The wanted values of a data set that comes in pieces; what nobody wants is passed over and not held.

References
----------
DICOM PS3.5 7.1, Data Elements; 7.5, Nesting of Data Sets.
"""

from __future__ import annotations

import struct

from dicom_files.damage import ExcessError
from dicom_files.elements import DEEPEST, ENDS, LONGEST_VALUE, MOST_ELEMENTS, UNDEFINED, Element, Elements


class ElementStream:
    """Steps over the elements of a data set as they come, within the bounds of `dicom_files.elements`.

    Parameters
    ----------
    implicit, big
        Whether value representations are left out, and whether bytes are in big endian order.
    end
        The first tag that is not stepped over.
    wanted
        Tags below it.
    most
        How many elements and items may come in all.

    Attributes
    ----------
    values
        The encoded values that have come, by tag.
    ahead
        How many of the next bytes are passed over unseen; who can skip them may, and takes them off.
    is_done
        Whether the first tag behind has come: nothing more is looked at.
    """

    def __init__(
        self,
        *,
        implicit: bool,
        big: bool = False,
        end: int,
        wanted: frozenset[int],
        most: int = MOST_ELEMENTS,
    ) -> None:
        self.values: dict[int, bytes] = {}
        self.ahead, self.is_done = 0, False
        self._implicit, self._big = implicit, big
        self._end, self._wanted = end, wanted
        self._most = self._left = most
        self._open: list[bool] = []  # what of undefined length we are in, and whether that is implicit
        self._rest = b""

    def feed(self, piece: bytes | memoryview) -> None:
        """Look at more of the data set.

        Parameters
        ----------
        piece
            Its next bytes.

        Raises
        ------
        ExcessError
            If there are more elements than may be, they are nested too deep, a wanted value is too long, or
            comes twice and differs.
        ValueError
            If the data are unusual.
        """
        if self.is_done:
            return
        if self.ahead >= len(piece):
            self.ahead -= len(piece)
            return
        elements = Elements(self._rest + bytes(piece[self.ahead :]), implicit=self._implicit, big=self._big)
        position, size = self._step(elements), len(elements.data)
        self._rest, self.ahead = bytes(elements.data[position:]), max(0, position - size)

    def _step(self, elements: Elements) -> int:
        """Step over what is whole, and return the position of what is not."""
        position = 0
        while not self.is_done:
            try:
                element = elements.at(position, implicit=self._open[-1] if self._open else None)
            except struct.error:  # the rest of it is still to come
                break
            following = self._pass(elements, element)
            if following is None:
                break
            position = following
            self._left -= 1
            if self._left < 0:
                raise ExcessError(f"more than {self._most:,} elements and items of sequences")
        return position

    def _pass(self, elements: Elements, element: Element) -> int | None:
        """Return the position behind an element, or of what lies in it; None if more of it is to come."""
        if self._open and element.tag in ENDS:
            self._open.pop()
            return element.start
        if not self._open and element.tag >= self._end:
            self.is_done = True
            return element.start
        if element.length == UNDEFINED:
            if len(self._open) == DEEPEST:
                raise ExcessError(f"sequences and items nested more than {DEEPEST} deep")
            self._open.append(element.implicit)
            return element.start
        following = element.start + element.length
        if not self._open and element.tag in self._wanted:
            if element.length <= LONGEST_VALUE and following > len(elements.data):
                return None
            value = elements.value(element)
            if self.values.setdefault(element.tag, value) != value:
                raise ExcessError.twice(element.tag)
        return following
