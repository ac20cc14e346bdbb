"""What both kinds of segmentation say: their segments, and everything about their pixels but the bits.

References
----------
DICOM PS3.3 A.51, Segmentation IOD; C.8.20.2, Segmentation Image; C.8.20.4, Segment Description.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from dicom_writer.dicom.codes import algorithm_identification, code_item
from dicom_writer.dicom.header import add_comments, copy_lossiness, new_result
from dicom_writer.dicom.references import by_series, references_to
from dicom_writer.request.result_kind import ResultKind
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.seg.functional_groups import add_dimensions, add_shared_groups
from dicom_writer.wording import summary
from stages.volume.labels import Label

_TRANSFER_SYNTAXES = {
    "none": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "deflate": DeflatedExplicitVRLittleEndian,
}

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


def new_segmentation(
    request: ResultRequest,
    kind: ResultKind,
    *,
    sop_class_uid: str,
    segmentation_type: str,
    title: str,
    compression: str,
    numbers: Mapping[int, int],
) -> FileDataset:
    """Return a Segmentation object without its frames.

    Parameters
    ----------
    request
        What it is made of.
    kind
        `seg` or `labelmap`.
    sop_class_uid
        *SOP Class UID* (0008,0016).
    segmentation_type
        *Segmentation Type* (0062,0001): BINARY or LABELMAP.
    title
        What its *Series Description* (0008,103E) begins with.
    compression
        A key of `_TRANSFER_SYNTAXES`.
    numbers
        *Segment Number* (0062,0004) of each label value.
    """
    found = summary(request.labels, request.measured)
    result = new_result(
        request,
        kind,
        sop_class_uid=sop_class_uid,
        modality="SEG",
        description=f"{title}: {found}",
        transfer_syntax_uid=_TRANSFER_SYNTAXES[compression],
    )
    result.ImageType = ["DERIVED", "PRIMARY"]
    result.ContentLabel, result.ContentDescription, result.ContentCreatorName = "SEGMENTATION", found, ""
    result.SegmentationType, result.SegmentsOverlap = segmentation_type, "NO"
    result.SegmentSequence = [_describe(label, numbers[label.value], request) for label in request.labels]
    result.PresentationLUTShape = "IDENTITY"
    add_comments(result, request)
    _refer_to_source(result, request)
    _describe_pixels(result, request, bits=1 if segmentation_type == "BINARY" else 8)
    add_dimensions(result, request, with_segments=segmentation_type == "BINARY")
    add_shared_groups(result, request)
    return result


def _refer_to_source(result: Dataset, request: ResultRequest) -> None:
    first = request.sources[0]
    result.FrameOfReferenceUID = first.FrameOfReferenceUID
    result.PositionReferenceIndicator = first.get("PositionReferenceIndicator") or ""
    result.ReferencedSeriesSequence = []
    for uid, sources in by_series(request.sources).items():
        series = Dataset()
        series.SeriesInstanceUID, series.ReferencedInstanceSequence = uid, references_to(sources)
        result.ReferencedSeriesSequence.append(series)


def _describe_pixels(result: Dataset, request: ResultRequest, *, bits: int) -> None:
    _, result.Rows, result.Columns = request.masks.array.shape
    result.SamplesPerPixel, result.PhotometricInterpretation = 1, "MONOCHROME2"
    result.BitsAllocated = result.BitsStored = bits
    result.HighBit, result.PixelRepresentation = bits - 1, 0
    copy_lossiness(result, request)


def _describe(label: Label, number: int, request: ResultRequest) -> Dataset:
    item = Dataset()
    item.SegmentNumber, item.SegmentLabel = number, label.name
    if label.description:
        item.SegmentDescription = label.description
    item.SegmentedPropertyCategoryCodeSequence = [code_item(label.category)]
    item.SegmentedPropertyTypeCodeSequence = [code_item(label.type)]
    if label.region:
        item.AnatomicRegionSequence = [code_item(label.region)]
    if label.modifier and label.region:
        item.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [code_item(label.modifier)]
    elif label.modifier:
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [code_item(label.modifier)]
    item.SegmentAlgorithmType, item.SegmentAlgorithmName = "AUTOMATIC", request.provenance.algorithm_name
    item.SegmentationAlgorithmIdentificationSequence = [algorithm_identification(request.provenance)]
    item.RecommendedDisplayCIELabValue = cielab(label.rgb)
    item.TrackingID, item.TrackingUID = label.name, request.uids.uid(f"segment {label.value}")
    return item


def cielab(rgb: tuple[int, int, int]) -> list[int]:
    """Return *Recommended Display CIELab Value* (0062,000D) of an sRGB colour, three numbers of 16 bits.

    Parameters
    ----------
    rgb
        Red, green and blue, each 0 to 255.
    """
    share = np.array(rgb) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    ratio = _TO_XYZ @ linear / _WHITE
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    scaled = [(116 * y - 16) / 100, (500 * (x - y) + 128) / 255, (200 * (y - z) + 128) / 255]
    return [int(v) for v in np.clip(np.rint(np.array(scaled) * 65535), 0, 65535)]
