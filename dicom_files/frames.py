"""The functional groups of a multi-frame file: what its frames share, and what each has for itself.

References
----------
DICOM PS3.3 C.7.6.16, Multi-frame Functional Groups.
"""

from __future__ import annotations

import mmap
from itertools import islice
from pathlib import Path

from dicom_files.deflate import inflated_head
from dicom_files.elements import MOST_OF_FRAMES, Data, Element, Elements
from dicom_files.file_meta import beginning_of
from dicom_files.uids import DeflatedExplicitVRLittleEndian

_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_FRAME_TYPE, _IMAGE_TYPE = 0x00089007, 0x00080008
_UNASSIGNED = frozenset({0x00209170, 0x00209171})  # legacy attributes that no functional group has
_MAX_HEADER = 1 << 26

Values = dict[int, bytes]


def read_functional_groups(
    path: Path, transfer_syntax: str, *, wanted: frozenset[int], at_most: int
) -> tuple[Values, list[Values]]:
    """Return the wanted values that all frames of a file share, and those of each frame, encoded, by tag.

    Parameters
    ----------
    path
        The file.
    transfer_syntax
        Its UID.
    wanted
        Tags, in whatever functional group they are; for *Image Type* (0008,0008) *Frame Type* (0008,9007)
        is taken where it is there.
    at_most
        How many frames are looked at.

    Raises
    ------
    ExcessError
        If it has more elements than the functional groups of any image.
    OSError
        If the file cannot be read.
    Exception
        Whatever of `dicom_files.damage.PARSE_ERRORS` a damaged file raises.
    """
    with path.open("rb") as file:
        if transfer_syntax == DeflatedExplicitVRLittleEndian:
            return _groups_in(inflated_head(file, _MAX_HEADER), wanted, at_most)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return _groups_in(mapped, wanted, at_most)


def _groups_in(data: Data, wanted: frozenset[int], at_most: int) -> tuple[Values, list[Values]]:
    beginning = beginning_of(data)
    elements = beginning.elements(data)
    _, position = elements.values(beginning.start, end=_SHARED, wanted=frozenset())
    elements.allow(MOST_OF_FRAMES)
    found: dict[int, list[Values]] = {_SHARED: [], _PER_FRAME: []}
    rest = Element(0, b"", position, len(data) - position, implicit=elements.implicit)
    for element in elements.inside(rest):
        if element.tag > _PER_FRAME:
            break
        if element.tag in found and elements.is_sequence(element):
            items = islice(elements.items(element), at_most)
            found[element.tag] = [_flattened(elements, item, wanted | {_FRAME_TYPE}) for item in items]
    return (found[_SHARED] or [{}])[0], found[_PER_FRAME]


def _flattened(elements: Elements, groups: Element, wanted: frozenset[int]) -> Values:
    """Return the wanted values of the functional groups of one frame, or of all."""
    first: Values = {}
    last: Values = {}
    for element in sorted(elements.inside(groups)):
        if elements.is_sequence(element):
            values = last if element.tag in _UNASSIGNED else first
            for item in islice(elements.items(element), 1):
                values.update({e.tag: elements.value(e) for e in elements.inside(item) if e.tag in wanted})
    if _FRAME_TYPE in first:
        first[_IMAGE_TYPE] = first.pop(_FRAME_TYPE)
    return {**last, **first}
