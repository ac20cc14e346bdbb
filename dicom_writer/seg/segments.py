"""What both kinds of segmentation say: their segments, and everything about their pixels but the bits.

References
----------
DICOM PS3.3 A.51, Segmentation IOD; C.8.20.2, Segmentation Image; C.8.20.4, Segment Description.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from dicom_writer.dicom.header import (
    add_comments,
    algorithm_identification,
    by_series,
    code_item,
    copy_lossiness,
    new_result,
    references_to,
)
from dicom_writer.finding import finding
from dicom_writer.request.result_request import Given
from dicom_writer.seg.colour import cielab
from dicom_writer.seg.functional_groups import add_dimensions, add_shared_groups
from stages.volume.labels import Label

TRANSFER_SYNTAXES = {
    "none": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "deflate": DeflatedExplicitVRLittleEndian,
}


def new_segmentation(
    given: Given,
    *,
    sop_class_uid: str,
    kind: str,
    what: str,
    title: str,
    series_offset: int,
    compression: str,
    numbers: Mapping[int, int],
) -> FileDataset:
    """Return a Segmentation object without its frames.

    Parameters
    ----------
    kind
        *Segmentation Type* (0062,0001): BINARY or LABELMAP.
    title
        What its *Series Description* (0008,103E) begins with.
    numbers
        *Segment Number* (0062,0004) of each label value.
    """
    said = finding(given.labels, given.measured)
    result = new_result(
        given,
        sop_class_uid=sop_class_uid,
        what=what,
        modality="SEG",
        series_offset=series_offset,
        description=f"{title}: {said}",
        transfer_syntax_uid=TRANSFER_SYNTAXES[compression],
    )
    result.ImageType = ["DERIVED", "PRIMARY"]
    result.ContentLabel, result.ContentDescription, result.ContentCreatorName = "SEGMENTATION", said, ""
    result.SegmentationType, result.SegmentsOverlap = kind, "NO"
    result.SegmentSequence = [_describe(label, numbers[label.value], given) for label in given.labels]
    result.PresentationLUTShape = "IDENTITY"
    add_comments(result, given)
    _refer_to_source(result, given)
    _describe_pixels(result, given, bits=1 if kind == "BINARY" else 8)
    add_dimensions(result, given, with_segments=kind == "BINARY")
    add_shared_groups(result, given)
    return result


def _refer_to_source(result: Dataset, given: Given) -> None:
    first = given.sources[0]
    result.FrameOfReferenceUID = first.FrameOfReferenceUID
    result.PositionReferenceIndicator = first.get("PositionReferenceIndicator") or ""
    result.ReferencedSeriesSequence = []
    for uid, sources in by_series(given.sources).items():
        series = Dataset()
        series.SeriesInstanceUID, series.ReferencedInstanceSequence = uid, references_to(sources)
        result.ReferencedSeriesSequence.append(series)


def _describe_pixels(result: Dataset, given: Given, *, bits: int) -> None:
    _, result.Rows, result.Columns = given.masks.array.shape
    result.SamplesPerPixel, result.PhotometricInterpretation = 1, "MONOCHROME2"
    result.BitsAllocated = result.BitsStored = bits
    result.HighBit, result.PixelRepresentation = bits - 1, 0
    copy_lossiness(result, given)


def _describe(label: Label, number: int, given: Given) -> Dataset:
    item = Dataset()
    item.SegmentNumber, item.SegmentLabel = number, label.name
    if label.description:
        item.SegmentDescription = label.description
    item.SegmentedPropertyCategoryCodeSequence = [code_item(label.category)]
    item.SegmentedPropertyTypeCodeSequence = [code_item(label.type)]
    if label.region:
        item.AnatomicRegionSequence = [code_item(label.region)]
    item.SegmentAlgorithmType, item.SegmentAlgorithmName = "AUTOMATIC", given.provenance.algorithm_name
    item.SegmentationAlgorithmIdentificationSequence = [algorithm_identification(given.provenance)]
    item.RecommendedDisplayCIELabValue = cielab(label.rgb)
    item.TrackingID, item.TrackingUID = label.name, given.uids.uid(f"segment {label.value}")
    return item
