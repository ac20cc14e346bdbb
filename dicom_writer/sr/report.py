"""What was measured as a Structured Report, TID 1500: volumes, lesions one by one, or that there is none.

A label has two groups of measurements of the same tracking UID: one of the whole, which refers to its
segment of the segmentation, and one of the image where it is largest, with the outline there. Viewers go
to an image by such an outline, and some show no report in which one thing has none. Each lesion of a
label that marks lesions has a group of its own, with its outlines on the source images.

References
----------
DICOM PS3.16 TID 1500, Measurement Report; TID 1410, Planar ROI Measurements; TID 1411, Volumetric ROI
Measurements; PS3.3 A.35.13, Comprehensive 3D SR IOD; C.18.6, Spatial Coordinates.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as SrCode
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from dicom_writer.dicom.header import new_result
from dicom_writer.dicom.references import by_series, reference_to, references_to
from dicom_writer.encoding import save
from dicom_writer.mask.contours import outlines
from dicom_writer.mask.cross_sections import CrossSection, largest_cross_sections
from dicom_writer.mask.lesions import MOST_LISTED, Lesion, components_in_slice
from dicom_writer.mask.measure import Measurement
from dicom_writer.request.provenance import MANUFACTURER, MODEL_NAME
from dicom_writer.request.result_kind import OneFileKind
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.source.frames import image_key
from dicom_writer.wording import summary, warnings_of
from stages.volume.labels import ANATOMICAL_STRUCTURE, Code, Label

logger = logging.getLogger(__name__)

_VOLUME = Code("118565006", "SCT", "Volume")
_COUNT = Code("246206008", "SCT", "Number of lesions")
_AREA = Code("42798000", "SCT", "Area")
_LONG_AXIS = Code("103339001", "SCT", "Long Axis")
_PRESENCE = Code("705057003", "SCT", "Presence")
_PRESENT = Code("52101004", "SCT", "Present")
_ABSENT = Code("272519000", "SCT", "Absent")
_TITLE = Code("126000", "DCM", "Imaging Measurement Report")
_PROCEDURES = {
    "CT": Code("77477000", "SCT", "Computed tomography"),
    "MR": Code("113091000", "SCT", "Magnetic resonance imaging"),
}
_ANY_PROCEDURE = Code("363679005", "SCT", "Imaging")
_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
_COMMENT = Code("121106", "DCM", "Comment")
_DEVICE = Code("121007", "DCM", "Device")
_AI = Code("123110", "DCM", "Artificial Intelligence")
_ML, _MM = Code("mL", "UCUM", "mL"), Code("mm", "UCUM", "mm")
_MM2 = Code("mm2", "UCUM", "mm2")
_NO_UNIT = Code("1", "UCUM", "no units")


class ReportResult(OneFileKind):
    """A Comprehensive 3D SR of template 1500; it refers to the result ``seg``, which is written with it."""

    name = "report"
    series_number_offset = 5
    requires = ("seg",)

    def write(self, request: ResultRequest, path: Path) -> None:
        """Write it."""
        head = new_result(
            request,
            KIND,
            sop_class_uid=Comprehensive3DSRStorage,
            modality="SR",
            description=f"AI report: {summary(request.labels, request.measured)}",
        )
        head.CompletionFlag, head.PreliminaryFlag, head.VerificationFlag = (
            "COMPLETE",
            "PRELIMINARY",
            "UNVERIFIED",
        )
        head.PerformedProcedureCodeSequence, head.ReferencedPerformedProcedureStepSequence = [], []
        head.CurrentRequestedProcedureEvidenceSequence = [_evidence(request)]
        head.update(_content(request)[0])
        if request.mask.origin.warnings:
            head.ContentSequence.append(_comments(request))
        save(head, path)

    def read_back(self, path: Path, request: ResultRequest) -> Mapping[int, Measurement]:
        """Read its tree by pydicom, fill its outlines, and measure them."""
        from dicom_writer.sr.verify import verify_report

        return verify_report(path, request)


KIND = ReportResult()


def _evidence(request: ResultRequest) -> Dataset:
    """Return what was examined and what was made of it: all source images, and the segmentation."""
    study, made = Dataset(), Dataset()
    made.SeriesInstanceUID = request.uids.uid("seg series")
    segmentation = Dataset()
    segmentation.SOPClassUID, segmentation.SOPInstanceUID = (
        SegmentationStorage,
        request.uids.uid("seg instance"),
    )
    made.ReferencedSOPSequence = [reference_to(segmentation)]
    study.StudyInstanceUID = request.sources[0].StudyInstanceUID
    study.ReferencedSeriesSequence = []
    for uid, sources in by_series(request.sources).items():
        images = Dataset()
        images.SeriesInstanceUID, images.ReferencedSOPSequence = uid, references_to(sources)
        study.ReferencedSeriesSequence.append(images)
    study.ReferencedSeriesSequence.append(made)
    return study


def _content(request: ResultRequest) -> Any:
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=request.uids.uid("device"), name=MODEL_NAME, manufacturer_name=MANUFACTURER, model_name=MODEL_NAME
    )
    observer = hd.sr.ObserverContext(_sr(_DEVICE), device)
    procedure = _PROCEDURES.get(str(request.sources[0].get("Modality")), _ANY_PROCEDURE)
    return hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_sr(procedure),
        title=_sr(_TITLE),
        imaging_measurements=list(_groups(request)),
    )


def _comments(request: ResultRequest) -> Any:
    """Return the warnings of the mask, as evaluations in words."""
    container = hd.sr.ContainerContentItem(
        _sr(_EVALUATIONS), relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )
    container.ContentSequence = [
        hd.sr.TextContentItem(_sr(_COMMENT), text, hd.sr.RelationshipTypeValues.CONTAINS)
        for text in warnings_of(request)
    ]
    return container


def _groups(request: ResultRequest) -> Iterator[Any]:
    sections = largest_cross_sections(request.masks, request.labels)
    for number, label in enumerate(request.labels, start=1):
        yield _group_of_label(number, label, request)
        yield _group_of_section(sections[label.value], label, request)
    for lesions in request.lesions:
        if lesions.count > MOST_LISTED:
            logger.warning(
                "the report counts %d of %s and lists the %d largest",
                lesions.count, lesions.label.name, MOST_LISTED,
            )  # fmt: skip
        regions = _regions_of(lesions.listed, request)
        for lesion in lesions.listed:
            yield _group_of_lesion(lesion, regions[lesion.number], request)


def _group_of_label(number: int, label: Label, request: ResultRequest) -> Any:
    """Return volume, and number of lesions, of a label, or that it is absent."""
    volume_ml = request.measured[label.value].volume_ml
    counts = [found.count for found in request.lesions if found.label == label]
    measurements = [
        _measurement(_VOLUME, volume_ml, _ML),
        *(_measurement(_COUNT, n, _NO_UNIT) for n in counts),
    ]
    segment = hd.sr.ReferencedSegment(
        sop_class_uid=SegmentationStorage,
        sop_instance_uid=request.uids.uid("seg instance"),
        segment_number=number,
        **_drawn_on(request),
    )
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=segment, measurements=measurements, **_of_label(label, request)
    )


def _drawn_on(request: ResultRequest) -> dict[str, Any]:
    """Return what the segmentation was drawn on: the series, or the images where they are of several."""
    first, *others = by_series(request.sources)
    if not others:
        return {"source_series": hd.sr.SourceSeriesForSegmentation(first)}
    references = references_to(request.sources)
    return {
        "source_images": [
            hd.sr.SourceImageForSegmentation(r.ReferencedSOPClassUID, r.ReferencedSOPInstanceUID)
            for r in references
        ]
    }


def _group_of_section(section: CrossSection, label: Label, request: ResultRequest) -> Any:
    """Return the outline of a label where it is largest, and its area there.

    Of an absent label it is the outline of an image that was examined, with an area of 0.
    """
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_region=_region(section.outline, request.sources[section.slice]),
        measurements=[_measurement(_AREA, section.area_mm2, _MM2)],
        **_of_label(label, request),
    )


def _of_label(label: Label, request: ResultRequest) -> dict[str, Any]:
    """Return what both groups of a label say: which it is, whether it is there, and what it means."""
    there = _PRESENT if request.measured[label.value].volume_ml else _ABSENT
    return {
        "tracking_identifier": hd.sr.TrackingIdentifier(
            request.uids.uid(f"segment {label.value}"), label.name
        ),
        "qualitative_evaluations": [hd.sr.QualitativeEvaluation(_sr(_PRESENCE), _sr(there))],
        **_what_it_is(label, request),
    }


def _group_of_lesion(lesion: Lesion, regions: Sequence[Any], request: ResultRequest) -> Any:
    """Return volume and longest diameter of a lesion, and its outlines."""
    measurements = [
        _measurement(_VOLUME, lesion.volume_ml, _ML),
        _measurement(_LONG_AXIS, lesion.diameter.mm, _MM),  # template 1411 has no place for the line
    ]
    uid = request.uids.uid(f"lesion {lesion.label.value} {lesion.number}")
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid, lesion.name),
        referenced_regions=regions,
        measurements=measurements,
        **_what_it_is(lesion.label, request),
    )


def _what_it_is(label: Label, request: ResultRequest) -> dict[str, Any]:
    """Return what a group says of the meaning of its label, and who found it."""
    provenance = request.provenance
    algorithm = hd.sr.AlgorithmIdentification(
        name=provenance.algorithm_name,
        version=provenance.version,
        parameters=[provenance.parameters] if provenance.parameters else None,
        family=_sr(_AI),
    )
    site = label.region or (label.type if label.category.value == ANATOMICAL_STRUCTURE.value else None)
    return {
        "finding_type": _sr(label.type),
        "finding_category": _sr(label.category),
        "finding_sites": [_site(site, label)] if site else None,
        "algorithm_id": algorithm,
    }


def _site(site: Code, label: Label) -> hd.sr.FindingSite:
    return hd.sr.FindingSite(_sr(site), laterality=_sr(label.modifier) if label.modifier else None)


def _regions_of(listed: Sequence[Lesion], request: ResultRequest) -> dict[int, list[Any]]:
    """Return the outlines of lesions on the source images, by the number of the lesion.

    Those in the slice where a lesion was measured go first: viewers that show one outline show that.
    """
    by_slice: dict[int, list[tuple[int, int]]] = {}
    for lesion in listed:
        for n, component in lesion.components:
            by_slice.setdefault(n, []).append((lesion.number, component))
    measured = {lesion.number: lesion.diameter.slice for lesion in listed}
    first: dict[int, list[Any]] = {lesion.number: [] for lesion in listed}
    others: dict[int, list[Any]] = {lesion.number: [] for lesion in listed}
    for n in sorted(by_slice):
        numbered = components_in_slice(request.masks.array[n] == listed[0].label.value)
        for number, component in sorted(by_slice[n]):
            found = first if n == measured[number] else others
            found[number] += (
                _region(outline, request.sources[n]) for outline in outlines(numbered == component)
            )
    return {number: first[number] + others[number] for number in first}


def _region(outline: NDArray[np.float64], source: Dataset) -> Any:
    return hd.sr.ImageRegion(
        hd.sr.GraphicTypeValues.POLYLINE, _on_image(outline), source_image=_source_image(source)
    )


def _on_image(outline: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return column and row as SCOORD has them, closed: (0, 0) is the outer corner of the first pixel.

    A rectangle has one more point on its first edge: viewers (OHIF) take a closed line of four corners
    for one that was drawn with their own tool, and offer to change it.
    """
    if len(outline) == 4:
        outline = np.insert(outline, 1, outline[:2].mean(axis=0), axis=0)
    return np.concatenate([outline, outline[:1]])[:, ::-1] + 0.5


def _source_image(source: Dataset) -> Any:
    uid, frame = image_key(source)
    return hd.sr.SourceImageForRegion(str(source.SOPClassUID), uid, [frame] if frame else None)


def _measurement(name: Code, value: float, unit: Code) -> Any:
    """Return a number with its unit; a count is written as an integer: ``1``, not ``1.0``."""
    measured = hd.sr.Measurement(name=_sr(name), value=float(f"{value:.6g}"), unit=_sr(unit))
    if isinstance(value, int):
        measured[0].MeasuredValueSequence[0].NumericValue = str(value)
    return measured


def _sr(code: Code) -> SrCode:
    return SrCode(code.value, code.scheme, code.meaning)
