"""A multi-frame source image seen as slices: one header for each frame, with the frame's own place.

References
----------
DICOM PS3.3 C.7.6.16, Multi-frame Functional Groups.
"""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from dicom_writer.source.attributes import raw_value
from stages.volume.slice_numbers import number_in

_OF_THE_FRAME = {
    "PlanePositionSequence": "ImagePositionPatient",
    "PlaneOrientationSequence": "ImageOrientationPatient",
    "PixelMeasuresSequence": "PixelSpacing",
}


class FrameHeader(Dataset):
    """The header of one frame.

    Attributes
    ----------
    frame_number
        Counted from 1.
    filename
        Of the image it is of.
    """

    frame_number: int
    filename: Any


def is_multi_frame(dataset: Dataset) -> bool:
    """Return whether an image says of each frame where it lies.

    Parameters
    ----------
    dataset
        An image.
    """
    return "PerFrameFunctionalGroupsSequence" in dataset


def frame_headers(dataset: Dataset) -> list[FrameHeader]:
    """Return one header for each frame; what a frame does not say is left out.

    Parameters
    ----------
    dataset
        A multi-frame image, without pixels.
    """
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    common = Dataset()
    common.update({tag: dataset.get_item(tag) for tag in dataset.keys() if tag.group != 0x5200})  # noqa: SIM118
    found = []
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1):
        header = FrameHeader()
        header.update(common)
        header.frame_number = number
        header.filename = getattr(dataset, "filename", None)
        for sequence, keyword in _OF_THE_FRAME.items():
            items = group.get(sequence) or shared.get(sequence)
            if items and keyword in items[0]:
                setattr(header, keyword, items[0][keyword].value)
        found.append(header)
    return found


def instance_number(dataset: Dataset) -> int | None:
    """Return *Instance Number* (0020,0013) of an image; None where it is missing or no number.

    Parameters
    ----------
    dataset
        An image, or one of its frames.
    """
    return number_in(raw_value(dataset, "InstanceNumber").decode("ascii", "replace"))


def frame_of(dataset: Dataset) -> int | None:
    """Return which frame of its image a slice is, from 1; None where the image has one only.

    Parameters
    ----------
    dataset
        An image, or one of its frames.
    """
    return getattr(dataset, "frame_number", None) or None


def image_key(dataset: Dataset) -> tuple[str, int]:
    """Return what identifies a slice: its *SOP Instance UID*, and its frame, 0 where the image has one only.

    Parameters
    ----------
    dataset
        An image, or one of its frames.
    """
    return str(dataset.SOPInstanceUID), getattr(dataset, "frame_number", 0)
