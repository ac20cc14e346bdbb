"""The mask as an RT Structure Set: one region of interest a label, its outlines on the original slices.

Outlines go along the edges of pixels, so that they hold the pixels of the mask and no other; holes are
joined to the outline around them (`contours`).

References
----------
DICOM PS3.3 A.19, RT Structure Set IOD; C.8.8.5, Structure Set; C.8.8.6, ROI Contour; C.8.8.8, RT ROI
Observations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from dicom_writer.contours import outlines
from dicom_writer.frames import image_key
from dicom_writer.header import algorithm_identification, code_item, new_result, reference_to, references_to
from dicom_writer.labels import Label, finding
from dicom_writer.measure import Measurement
from dicom_writer.results import Given

SERIES_NUMBER_OFFSET = 4
_STUDY = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, which the standard wants here
_CONTOUR_DATA = Tag(0x3006, 0x0050)
_ANATOMICAL = "123037004"  # SCT, Anatomical Structure


class RtstructResult:
    """A structure set.

    It is implicit VR: an outline may be longer than the 64 KiB that explicit VR has for it. A label
    without a voxel has its region of interest, without a contour.
    """

    name = "rtstruct"

    def make(self, given: Given, folder: Path) -> list[Path]:
        """Write the one file."""
        path = folder / f"{given.file_name}.rtstruct.dcm"
        said = finding(given.labels, given.measured)
        with config.disable_value_validation():
            head = new_result(
                given,
                sop_class_uid=RTStructureSetStorage,
                what="rtstruct",
                modality="RTSTRUCT",
                series_offset=SERIES_NUMBER_OFFSET,
                description=f"AI contours: {said}",
                transfer_syntax_uid=ImplicitVRLittleEndian,
            )
            head.StructureSetLabel, head.StructureSetDescription = "AI contours", said
            head.StructureSetDate, head.StructureSetTime = head.ContentDate, head.ContentTime
            head.OperatorsName = ""
            head.FrameOfReferenceUID = given.sources[0].FrameOfReferenceUID
            head.PositionReferenceIndicator = given.sources[0].get("PositionReferenceIndicator") or ""
            head.ReferencedFrameOfReferenceSequence = [_frame_of_reference(given)]
            numbered = list(enumerate(given.labels, start=1))
            head.StructureSetROISequence = [_region(n, label, given) for n, label in numbered]
            head.ROIContourSequence = [_contours(n, label, given) for n, label in numbered]
            head.RTROIObservationsSequence = [_observation(n, label) for n, label in numbered]
            head.ApprovalStatus = "UNAPPROVED"
            head.save_as(path, enforce_file_format=True)
        return [path]

    def verify(self, given: Given, paths: Sequence[Path]) -> Mapping[int, Measurement]:
        """Read it by pydicom, and fill its polygons."""
        from dicom_writer.verify_rtstruct import verify_rtstruct

        (path,) = paths
        return verify_rtstruct(path, given)


RESULT = RtstructResult()


def _frame_of_reference(given: Given) -> Dataset:
    """Return what the contours were drawn on: frame of reference, study, series, all images."""
    first = given.sources[0]
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = references_to(given.sources)
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY, first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _region(number: int, label: Label, given: Given) -> Dataset:
    item = Dataset()
    item.ROINumber, item.ROIName = number, label.name
    item.ReferencedFrameOfReferenceUID = given.sources[0].FrameOfReferenceUID
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    if label.description:
        item.ROIDescription = label.description
    item.ROIGenerationDescription = given.provenance.algorithm_name
    item.ROIDerivationAlgorithmIdentificationSequence = [algorithm_identification(given.provenance)]
    return item


def _contours(number: int, label: Label, given: Given) -> Dataset:
    item = Dataset()
    item.ROIDisplayColor = list(label.rgb)
    item.ReferencedROINumber = number
    found = list(_contours_of(label, given))
    if found:
        item.ContourSequence = found
    return item


def _contours_of(label: Label, given: Given) -> Iterator[Dataset]:
    """Yield each closed outline of a label, numbered from 1."""
    number = 0
    for n, plane in enumerate(given.masks.array):
        for outline in outlines(plane == label.value) if (plane == label.value).any() else ():
            number += 1
            contour = Dataset()
            contour.ContourImageSequence = [image_reference(given.sources[n])]
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints, contour.ContourNumber = len(outline), number
            _put_points(contour, given.masks.positions(n, outline))
            yield contour


def image_reference(source: Dataset) -> Dataset:
    """Return an item that refers to the image of one slice, and to its frame where it has several."""
    item = reference_to(source)
    _, frame = image_key(source)
    if frame:
        item.ReferencedFrameNumber = frame
    return item


def _put_points(contour: Dataset, points: NDArray[np.float64]) -> None:
    """Put *Contour Data* (3006,0050), LPS mm, four decimals; by the thousand, thus as bytes at once."""
    data = "\\".join(map("{:.4f}".format, points.ravel().tolist())).encode()
    data += b" " * (len(data) % 2)
    contour[_CONTOUR_DATA] = RawDataElement(_CONTOUR_DATA, "DS", len(data), data, 0, True, True, True)


def _observation(number: int, label: Label) -> Dataset:
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = number
    item.RTROIIdentificationCodeSequence = [code_item(label.type)]
    item.RTROIInterpretedType = "ORGAN" if label.category.value == _ANATOMICAL else ""
    item.ROIInterpreter = ""
    return item
