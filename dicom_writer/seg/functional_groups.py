"""The functional groups of a segmentation: where its frames lie, and what they were drawn on.

References
----------
DICOM PS3.3 C.7.6.16, Multi-frame Functional Groups; C.8.20.3, Segmentation Functional Groups;
C.7.6.17, Multi-frame Dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_files.encoding import code, numbers, sequence, text
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.source.frames import image_key
from dicom_writer.source.values import decimal, decimal_string

_EVEN_MM = 0.01
_SEGMENT = ("ReferencedSegmentNumber", "SegmentIdentificationSequence")
_POSITION = ("ImagePositionPatient", "PlanePositionSequence")


def add_shared_groups(result: Dataset, request: ResultRequest) -> None:
    """Add what all frames have in common: their orientation, and their pixel spacing where it is even.

    Parameters
    ----------
    result
        What is added to.
    request
        What is written, and of what.
    """
    first = request.sources[0]
    orientation, shared = Dataset(), Dataset()
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    shared.PlaneOrientationSequence = [orientation]
    if _is_even(request):
        measures = Dataset()
        measures.PixelSpacing = first.PixelSpacing
        spacing = decimal_string(float(request.masks.thickness_mm[0]))
        measures.SliceThickness = measures.SpacingBetweenSlices = spacing
        shared.PixelMeasuresSequence = [measures]
    result.SharedFunctionalGroupsSequence = [shared]


def add_dimensions(result: Dataset, request: ResultRequest, *, with_segments: bool) -> None:
    """Add the dimensions by which frames differ: their segment, if they have one, and their position.

    Parameters
    ----------
    result
        What is added to.
    request
        What is written, and of what.
    with_segments
        Whether a frame is of one segment.
    """
    uid = request.uids.uid("dimension organization")
    organization = Dataset()
    organization.DimensionOrganizationUID = uid
    result.DimensionOrganizationSequence = [organization]
    items = []
    for pointer, group in (_SEGMENT, _POSITION) if with_segments else (_POSITION,):
        item = Dataset()
        item.DimensionOrganizationUID = uid
        item.DimensionIndexPointer, item.FunctionalGroupPointer = Tag(pointer), Tag(group)
        item.DimensionDescriptionLabel = pointer
        items.append(item)
    result.DimensionIndexSequence = items


def frame_groups(request: ResultRequest, frames: Sequence[tuple[int | None, int]]) -> bytes:
    """Return *Per-Frame Functional Groups Sequence* (5200,9230), encoded.

    Parameters
    ----------
    request
        What is written, and of what.
    frames
        Segment number of each (None where a frame has all segments), and its slice.
    """
    slices = sorted({n for _, n in frames})
    derivation = {n: _derivation(request.sources[n]) for n in slices}
    place = {n: _place(request, n) for n in slices}
    return sequence(
        0x52009230,
        *(
            derivation[n] + _content(segment, n) + place[n] + _identification(segment)
            for segment, n in frames
        ),
    )


def _is_even(request: ResultRequest) -> bool:
    return bool(np.ptp(request.masks.thickness_mm) <= _EVEN_MM)


def _derivation(source: Dataset) -> bytes:
    """Return *Derivation Image Sequence* (0008,9124): the image a frame was drawn on."""
    uid, frame = image_key(source)
    image = text(0x00081150, "UI", source.SOPClassUID) + text(0x00081155, "UI", uid)
    image += text(0x00081160, "IS", frame) if frame else b""
    image += text(0x0028135A, "CS", "YES")  # spatial locations preserved
    image += code(0x0040A170, "121322", "DCM", "Source image for image processing operation")
    return sequence(
        0x00089124, sequence(0x00082112, image) + code(0x00089215, "113076", "DCM", "Segmentation")
    )


def _content(segment: int | None, n: int) -> bytes:
    """Return *Frame Content Sequence* (0020,9111)."""
    indices = (n + 1,) if segment is None else (segment, n + 1)
    return sequence(0x00209111, numbers(0x00209157, "UL", *indices))


def _place(request: ResultRequest, n: int) -> bytes:
    """Return *Plane Position Sequence* (0020,9113), and a slice's own measures where they are uneven."""
    source = request.sources[n]
    place = sequence(0x00209113, text(0x00200032, "DS", *map(decimal, source.ImagePositionPatient)))
    if _is_even(request):
        return place
    measures = text(0x00180050, "DS", decimal(request.masks.thickness_mm[n]))
    measures += text(0x00280030, "DS", *map(decimal, source.PixelSpacing))
    return place + sequence(0x00289110, measures)


def _identification(segment: int | None) -> bytes:
    """Return *Segment Identification Sequence* (0062,000A)."""
    return b"" if segment is None else sequence(0x0062000A, numbers(0x0062000B, "US", segment))
