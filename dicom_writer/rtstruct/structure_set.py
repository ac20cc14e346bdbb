"""The mask as an RT Structure Set: one region of interest a label, its outlines on the original slices.

Outlines go along the edges of pixels, so that they hold the pixels of the mask and no other; holes are
joined to the outline around them (`contours`).

References
----------
DICOM PS3.3 A.19, RT Structure Set IOD; C.8.8.5, Structure Set; C.8.8.6, ROI Contour; C.8.8.8, RT ROI
Observations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from dicom_files.encoding import implicit_element, implicit_sequence
from dicom_files.uids import DetachedStudyManagement
from dicom_writer.dicom.codes import algorithm_identification, code_item
from dicom_writer.dicom.header import new_result
from dicom_writer.dicom.references import by_series, image_reference, references_to
from dicom_writer.encoding import encoded, file_head
from dicom_writer.mask.contours import outlines
from dicom_writer.mask.measure import Measurement
from dicom_writer.request.result_kind import OneFileKind
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.wording import summary, warnings_text
from stages.volume.labels import Label

_ROI_CONTOURS = 0x30060039
_ANATOMICAL = "123037004"  # SCT, Anatomical Structure


class RtstructResult(OneFileKind):
    """A structure set.

    It is implicit VR: an outline may be longer than the 64 KiB that explicit VR has for it. A label
    without a voxel beside others has its region of interest, without a contour; where none has a voxel,
    none is made (`kinds.without_empty`).
    """

    name = "rtstruct"
    series_number_offset = 4
    can_be_empty = False

    def write(self, request: ResultRequest, path: Path) -> None:
        """Write it."""
        found = summary(request.labels, request.measured)
        head = new_result(
            request,
            KIND,
            sop_class_uid=RTStructureSetStorage,
            modality="RTSTRUCT",
            description=f"AI contours: {found}",
            transfer_syntax_uid=ImplicitVRLittleEndian,
        )
        head.StructureSetLabel, head.StructureSetDescription = "AI contours", _description(request, found)
        head.StructureSetDate, head.StructureSetTime = head.ContentDate, head.ContentTime
        head.OperatorsName = ""
        head.FrameOfReferenceUID = request.sources[0].FrameOfReferenceUID
        head.PositionReferenceIndicator = request.sources[0].get("PositionReferenceIndicator") or ""
        head.ReferencedFrameOfReferenceSequence = [_frame_of_reference(request)]
        numbered = list(enumerate(request.labels, start=1))
        head.StructureSetROISequence = [_region(n, label, request) for n, label in numbered]
        tail = Dataset()
        tail.RTROIObservationsSequence = [_observation(n, label) for n, label in numbered]
        tail.ApprovalStatus = "UNAPPROVED"
        with open(path, "wb") as file:
            file.write(file_head(head.file_meta) + encoded(head, implicit=True))
            regions = (_contours(n, label, request) for n, label in numbered)
            file.writelines(implicit_sequence(_ROI_CONTOURS, regions))
            file.write(encoded(tail, implicit=True))

    def read_back(self, path: Path, request: ResultRequest) -> Mapping[int, Measurement]:
        """Read it by pydicom, and fill its polygons."""
        from dicom_writer.rtstruct.verify import verify_rtstruct

        return verify_rtstruct(path, request)


KIND = RtstructResult()


def _description(request: ResultRequest, found: str) -> str:
    """Return the summary, and below it the warnings of the mask; ST."""
    return "\r\n".join(part for part in (found, warnings_text(request, 1024 - len(found) - 2)) if part)


def _frame_of_reference(request: ResultRequest) -> Dataset:
    """Return what the contours were drawn on: frame of reference, study, series, all images."""
    first = request.sources[0]
    study, frame = Dataset(), Dataset()
    study.ReferencedSOPClassUID = DetachedStudyManagement  # which the standard wants here
    study.ReferencedSOPInstanceUID = first.StudyInstanceUID
    study.RTReferencedSeriesSequence = []
    for uid, sources in by_series(request.sources).items():
        series = Dataset()
        series.SeriesInstanceUID, series.ContourImageSequence = uid, references_to(sources)
        study.RTReferencedSeriesSequence.append(series)
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _region(number: int, label: Label, request: ResultRequest) -> Dataset:
    item = Dataset()
    item.ROINumber, item.ROIName = number, label.name
    item.ReferencedFrameOfReferenceUID = request.sources[0].FrameOfReferenceUID
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    if label.description:
        item.ROIDescription = label.description
    item.ROIGenerationDescription = request.provenance.algorithm_name
    item.ROIDerivationAlgorithmIdentificationSequence = [algorithm_identification(request.provenance)]
    return item


def _contours(number: int, label: Label, request: ResultRequest) -> Iterator[bytes]:
    """Yield the content of an item of *ROI Contour Sequence* (3006,0039), encoded."""
    colour = "\\".join(map(str, label.rgb))
    yield implicit_element(0x3006002A, colour.encode())
    if request.measured[label.value].volume_ml:
        yield from implicit_sequence(0x30060040, _contours_of(label, request))
    yield implicit_element(0x30060084, str(number).encode())


def _contours_of(label: Label, request: ResultRequest) -> Iterator[list[bytes]]:
    """Yield the content of an item for each closed outline of a label, numbered from 1."""
    number = 0
    for n, plane in enumerate(request.masks.array):
        found = outlines(plane == label.value) if plane.any() else []
        image = encoded(image_reference(request.sources[n]), implicit=True) if found else b""
        for outline in found:
            number += 1
            yield [
                *implicit_sequence(0x30060016, [[image]]),
                implicit_element(0x30060042, b"CLOSED_PLANAR"),
                implicit_element(0x30060046, str(len(outline)).encode()),
                implicit_element(0x30060048, str(number).encode()),
                implicit_element(0x30060050, _decimals(request.masks.positions(n, outline))),
            ]


def _decimals(points: NDArray[np.float64]) -> bytes:
    """Return *Contour Data* (3006,0050), LPS mm, four decimals."""
    return ("\\".join(["%.4f"] * points.size) % tuple(points.ravel().tolist())).encode()


def _observation(number: int, label: Label) -> Dataset:
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = number
    item.RTROIIdentificationCodeSequence = [code_item(label.type)]
    item.RTROIInterpretedType = "ORGAN" if label.category.value == _ANATOMICAL else ""
    item.ROIInterpreter = ""
    return item
