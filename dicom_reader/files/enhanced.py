"""An enhanced multi-frame CT file: each frame a slice with its own place and rescale.

What the frames share and what each has for itself lies in functional groups; the header of a frame is
that of the file with the values of its groups in it, as if it had been a file of its own. Legacy
converted images are read the same way.

References
----------
DICOM PS3.3 C.7.6.16, Multi-frame Functional Groups; A.38, Enhanced CT; A.70, Legacy Converted Enhanced CT.
"""

from __future__ import annotations

import mmap
from dataclasses import replace
from itertools import islice

from dicom_files.damage import PARSE_ERRORS, ExcessError, too_large, unreadable
from dicom_files.deflate import inflated_head
from dicom_files.elements import MOST_OF_FRAMES, Data, Element, Elements
from dicom_files.file_meta import beginning_of
from dicom_files.uids import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)
from dicom_reader.files.headers import ATTRIBUTES, ImageHeader
from stages import InputError

_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_FRAME_TYPE, _IMAGE_TYPE = 0x00089007, 0x00080008
_UNASSIGNED = frozenset({0x00209170, 0x00209171})  # legacy attributes that no functional group has
_WANTED = frozenset(tag for tag, _ in ATTRIBUTES.values()) | {_FRAME_TYPE}
_OF_THE_FILE = frozenset({0x00080016, 0x00080018})
_MAX_HEADER = 1 << 26


def is_enhanced(header: ImageHeader) -> bool:
    """Return whether a file is an enhanced, or legacy converted enhanced, CT image."""
    return header.text("SOPClassUID") in (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)


def split_frames(header: ImageHeader) -> list[ImageHeader]:
    """Return a header for each frame of an enhanced image, in the order of the file.

    Raises
    ------
    InputError
        If the functional groups are missing or damaged, or are not as many as the frames.
    """
    count = _number_of_frames(header)
    try:
        shared, frames = _functional_groups(header, at_most=count + 1)
    except ExcessError as error:
        raise too_large(header.name, error) from error
    except OSError as error:
        raise unreadable(header.name, error) from error
    except PARSE_ERRORS as error:
        raise InputError(
            f"{header.name} is damaged: {type(error).__name__} in its functional groups"
        ) from error
    if count != len(frames):
        found = f"{len(frames)} item(s)" if len(frames) < count else "more items"
        raise header.refuse(
            "NumberOfFrames", f"is {count}, Per-Frame Functional Groups Sequence (5200,9230) has {found}"
        )
    return [
        replace(header, values={**header.values, **shared, **own}, frame=n, frames=count)
        for n, own in enumerate(frames, 1)
    ]


def _number_of_frames(header: ImageHeader) -> int:
    (count,) = header.numbers("NumberOfFrames", 1)
    if count < 1 or not count.is_integer():
        raise header.refuse("NumberOfFrames", f"must be 1 or more, found {count:g}")
    return int(count)


def _functional_groups(
    header: ImageHeader, *, at_most: int
) -> tuple[dict[int, bytes], list[dict[int, bytes]]]:
    with header.path.open("rb") as file:
        if header.transfer_syntax == DeflatedExplicitVRLittleEndian:
            return _groups_in(inflated_head(file, _MAX_HEADER), at_most)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return _groups_in(mapped, at_most)


def _groups_in(data: Data, at_most: int) -> tuple[dict[int, bytes], list[dict[int, bytes]]]:
    beginning = beginning_of(data)
    elements = beginning.elements(data)
    _, position = elements.values(beginning.start, end=_SHARED, wanted=frozenset())
    elements.allow(MOST_OF_FRAMES)
    found: dict[int, list[dict[int, bytes]]] = {_SHARED: [], _PER_FRAME: []}
    rest = Element(0, b"", position, len(data) - position, implicit=elements.implicit)
    for element in elements.inside(rest):
        if element.tag > _PER_FRAME:
            break
        if element.tag in found and elements.is_sequence(element):
            found[element.tag] = [
                _flattened(elements, item) for item in islice(elements.items(element), at_most)
            ]
    return (found[_SHARED] or [{}])[0], found[_PER_FRAME]


def _flattened(elements: Elements, groups: Element) -> dict[int, bytes]:
    """Return the wanted values of the functional groups of one frame, or of all."""
    first: dict[int, bytes] = {}
    last: dict[int, bytes] = {}
    for element in sorted(elements.inside(groups)):
        if elements.is_sequence(element):
            values = last if element.tag in _UNASSIGNED else first
            for item in islice(elements.items(element), 1):
                wanted = (e for e in elements.inside(item) if e.tag in _WANTED)
                values.update({e.tag: elements.value(e) for e in wanted})
    if _FRAME_TYPE in first:
        first[_IMAGE_TYPE] = first.pop(_FRAME_TYPE)
    return {tag: value for tag, value in {**last, **first}.items() if tag not in _OF_THE_FILE}
