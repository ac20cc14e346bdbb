"""An enhanced multi-frame CT file: each frame a slice with its own place and rescale.

What the frames share and what each has for itself lies in functional groups; the header of a frame is
that of the file with the values of its groups in it, as if it had been a file of its own. Legacy
converted images are read the same way.

References
----------
DICOM PS3.3 C.7.6.16, Multi-frame Functional Groups; A.38, Enhanced CT; A.70, Legacy Converted Enhanced CT.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

from dicom_reader.deflated import DEFLATED, inflated_head
from dicom_reader.headers import ATTRIBUTES, Header, unreadable
from stages import InputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_CONVERTED_CT = "1.2.840.10008.5.1.4.1.1.2.2"

_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_FRAME_TYPE, _IMAGE_TYPE = 0x00089007, 0x00080008
_UNASSIGNED = frozenset({0x00209170, 0x00209171})  # legacy attributes that no functional group has
_WANTED = frozenset(tag for tag, _ in ATTRIBUTES.values()) | {_FRAME_TYPE}
_OF_THE_FILE = frozenset({0x00080016, 0x00080018})
_MAX_HEADER = 1 << 26


def is_enhanced(header: Header) -> bool:
    """Tell whether a file is an enhanced, or legacy converted enhanced, CT image."""
    return header.text("SOPClassUID") in (ENHANCED_CT, LEGACY_CONVERTED_CT)


def split_frames(header: Header) -> list[Header]:
    """Return a header for each frame of an enhanced image, in the order of the file.

    Raises
    ------
    InputError
        If the functional groups are missing or damaged, or are not as many as the frames.
    """
    from pydicom.errors import BytesLengthException

    damages = (AttributeError, KeyError, NotImplementedError, RecursionError, TypeError, ValueError)
    try:
        shared, frames = _functional_groups(header)
    except (*damages, EOFError, MemoryError, OverflowError, struct.error, BytesLengthException) as error:
        raise InputError(
            f"{header.name} is damaged: {type(error).__name__} in its functional groups"
        ) from error
    except OSError as error:
        raise unreadable(header.name, error) from error
    count = _number_of_frames(header)
    if count != len(frames):
        raise header.refuse(
            "NumberOfFrames",
            f"is {count}, Per-Frame Functional Groups Sequence (5200,9230) has {len(frames)} item(s)",
        )
    return [
        replace(header, values={**header.values, **shared, **own}, frame=n, frames=count)
        for n, own in enumerate(frames, 1)
    ]


def _number_of_frames(header: Header) -> int:
    (count,) = header.numbers("NumberOfFrames", 1)
    if count < 1 or not count.is_integer():
        raise header.refuse("NumberOfFrames", f"must be 1 or more, found {count:g}")
    return int(count)


def _functional_groups(header: Header) -> tuple[dict[int, bytes], list[dict[int, bytes]]]:
    from pydicom import config, dcmread

    with config.disable_value_validation(), warnings.catch_warnings(), header.path.open("rb") as file:
        warnings.simplefilter("ignore", UserWarning)  # what is odd and needed is refused by its name
        source = BytesIO(inflated_head(file, _MAX_HEADER)) if header.transfer_syntax == DEFLATED else file
        dataset = dcmread(source, stop_before_pixels=True, specific_tags=[_SHARED, _PER_FRAME], force=True)
        shared, per_frame = (
            [_flattened(item) for item in dataset[tag].value] if tag in dataset else []
            for tag in (_SHARED, _PER_FRAME)
        )
        return (shared or [{}])[0], per_frame


def _flattened(groups: Dataset) -> dict[int, bytes]:
    """Return the wanted values of the functional groups of one frame, or of all."""
    first: dict[int, bytes] = {}
    last: dict[int, bytes] = {}
    for element in groups:
        if element.VR == "SQ" and len(element.value):
            values = last if element.tag in _UNASSIGNED else first
            values.update(_wanted_values(element.value[0]))
    if _FRAME_TYPE in first:
        first[_IMAGE_TYPE] = first.pop(_FRAME_TYPE)
    return {tag: value for tag, value in {**last, **first}.items() if tag not in _OF_THE_FILE}


def _wanted_values(item: Dataset) -> Iterator[tuple[int, bytes]]:
    for tag in item.keys():  # noqa: SIM118  a data set iterates over its elements
        value = item.get_item(tag).value if tag in _WANTED else None
        if isinstance(value, bytes):
            yield int(tag), value
