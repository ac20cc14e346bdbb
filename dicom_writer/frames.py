"""A multi-frame source image seen as slices: one header for each frame, with the frame's own place.

References
----------
DICOM PS3.3 C.7.6.16, Multi-frame Functional Groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

_OF_THE_FILE = (0x00080016, 0x00080018, 0x00280008)  # SOP class and instance, Number of Frames
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
    """Tell whether an image says of each frame where it lies."""
    return "PerFrameFunctionalGroupsSequence" in dataset


def split_frames(dataset: Dataset) -> list[FrameHeader]:
    """Return one header for each frame; what a frame does not say is left out."""
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


def image_key(dataset: Dataset) -> tuple[str, int]:
    """Return what tells one slice from every other: its instance and its frame, 0 where it has one only."""
    return str(dataset.SOPInstanceUID), getattr(dataset, "frame_number", 0)


def as_images(sources: Sequence[Dataset]) -> list[Dataset]:
    """Return slices as images of their own; highdicom takes frames of one image only.

    A frame poses as a CT image of its own instance; `refer_to_frames` says what it is.
    """
    return [
        _as_image(source, n) if isinstance(source, FrameHeader) else source
        for n, source in enumerate(sources)
    ]


def refer_to_frames(result: Dataset, sources: Sequence[Dataset]) -> None:
    """Replace references to images that frames posed as by references to the frames."""
    frame_of = {_uid_posed(n): source for n, source in enumerate(sources) if isinstance(source, FrameHeader)}
    if not frame_of:
        return
    for group in result.PerFrameFunctionalGroupsSequence:
        for image in group.DerivationImageSequence[0].SourceImageSequence:
            if (source := frame_of.get(image.ReferencedSOPInstanceUID)) is not None:  # some are shared
                _refer(image, source)
                image.ReferencedFrameNumber = source.frame_number
    for series in result.ReferencedSeriesSequence:
        items: dict[str, Dataset] = {}
        for item in series.ReferencedInstanceSequence:
            _refer(item, frame_of[item.ReferencedSOPInstanceUID])
            items.setdefault(str(item.ReferencedSOPInstanceUID), item)
        series.ReferencedInstanceSequence = list(items.values())


def _as_image(frame: FrameHeader, n: int) -> Dataset:
    image = Dataset()
    image.update({tag: frame.get_item(tag) for tag in frame.keys() if tag not in _OF_THE_FILE})  # noqa: SIM118
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, _uid_posed(n)
    return image


def _uid_posed(n: int) -> str:
    return f"2.25.7.{n + 1}"  # never written


def _refer(item: Dataset, source: Dataset) -> None:
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
