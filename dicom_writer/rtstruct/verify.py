"""Compare a written structure set with the mask: each outline filled, on the image that it names.

pydicom reads the file; the images' own headers say where their pixels lie, by the formula of the
standard; `polygons` fills any polygon.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.dataset import Dataset

from dicom_writer.checks.identity import require_same_identity
from dicom_writer.checks.measurements import TOLERANCE_MM, require_same_measurements
from dicom_writer.checks.polygons import area_and_centroid, filled
from dicom_writer.checks.references import known_sources, require_references
from dicom_writer.mask.measure import Measurement, PlaneMeasurement, combine_planes, measure_plane
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.source.frames import image_key
from dicom_writer.source.positions import pixel_indices, pixel_positions
from dicom_writer.wording import warnings_text
from stages import OutputError
from stages.volume.labels import Label

_CONTOUR_DATA = 0x30060050


def verify_rtstruct(path: Path, request: ResultRequest) -> dict[int, Measurement]:
    """Read a structure set back, and return what it says of each label.

    Volume and centroid are those of the polygons in space, the box that of the pixels in them.

    Parameters
    ----------
    path, request
        The structure set, and what should be in it.

    Raises
    ------
    OutputError
        At the first thing that differs.
    """
    with config.disable_value_validation():
        dataset = dcmread(path)
        require_same_identity(dataset, request)
        _require_image_references(dataset, request)
        _require_regions(dataset, request)
        _require_warnings(dataset, request)
        contours = {int(item.ReferencedROINumber): item for item in dataset.ROIContourSequence}
        measured = {}
        for number, label in enumerate(request.labels, start=1):
            if number not in contours:
                raise OutputError(f"the region of {label.name} has no item of contours")
            measured[label.value] = _measure(contours[number], label, request)
    require_same_measurements(measured, request.measured, request.labels, what="contours of")
    return measured


def _require_image_references(dataset: Dataset, request: ResultRequest) -> None:
    first = request.sources[0]
    named = {
        (str(series.SeriesInstanceUID), str(image.ReferencedSOPInstanceUID))
        for frame in dataset.ReferencedFrameOfReferenceSequence
        if frame.FrameOfReferenceUID == first.FrameOfReferenceUID
        for study in frame.RTReferencedStudySequence
        if study.ReferencedSOPInstanceUID == first.StudyInstanceUID
        for series in study.RTReferencedSeriesSequence
        for image in series.ContourImageSequence
    }
    require_references(known_sources(named, request), request)


def _require_regions(dataset: Dataset, request: ResultRequest) -> None:
    frame = request.sources[0].FrameOfReferenceUID
    written = [
        (int(r.ROINumber), str(r.ROIName), r.ReferencedFrameOfReferenceUID == frame)
        for r in dataset.StructureSetROISequence
    ]
    expected = [(n, label.name, True) for n, label in enumerate(request.labels, start=1)]
    if written != expected:
        raise OutputError(f"the regions of interest are {written}, expected {expected}")
    codes = [str(o.RTROIIdentificationCodeSequence[0].CodeValue) for o in dataset.RTROIObservationsSequence]
    if codes != [label.type.value for label in request.labels]:
        raise OutputError(f"the regions of interest have codes {codes}")


def _require_warnings(dataset: Dataset, request: ResultRequest) -> None:
    first, *warnings = str(dataset.StructureSetDescription).split("\r\n")
    if "\r\n".join(warnings) != warnings_text(request, 1024 - len(first) - 2):
        count = len(request.mask.origin.warnings)
        raise OutputError(f"StructureSetDescription does not end with the {count} warnings of the mask")


def _measure(region: Dataset, label: Label, request: ResultRequest) -> Measurement:
    """Return what the contours of a label measure, filled and compared with the mask slice by slice."""
    slice_of = {image_key(source): n for n, source in enumerate(request.sources)}
    by_slice: dict[int, list[NDArray[np.float64]]] = {}
    for contour in region.get("ContourSequence") or ():
        (image,) = contour.ContourImageSequence
        key = (str(image.ReferencedSOPInstanceUID), int(image.get("ReferencedFrameNumber") or 0))
        if key not in slice_of or contour.ContourGeometricType != "CLOSED_PLANAR":
            raise OutputError(
                f"a contour of {label.name} is {contour.ContourGeometricType} on image {key[0]}; "
                "expected CLOSED_PLANAR on an image of the source"
            )
        by_slice.setdefault(slice_of[key], []).append(_points(contour, label))
    for n, plane in enumerate(request.masks.array):
        if n not in by_slice and plane.any() and (plane == label.value).any():
            raise OutputError(f"the mask has {label.name} in slice {n + 1}, which has no contour")
    return combine_planes(
        part for n in sorted(by_slice) for part in _parts(by_slice.pop(n), label, request, n)
    )


def _points(contour: Dataset, label: Label) -> NDArray[np.float64]:
    raw: Any = contour.get_item(_CONTOUR_DATA).value
    values = raw.split(b"\\") if isinstance(raw, bytes) else raw
    points = np.array([float(v) for v in values]).reshape(-1, 3)
    if len(points) != int(contour.NumberOfContourPoints) or not np.isfinite(points).all():
        raise OutputError(f"a contour of {label.name} has {len(points)} points, not as many as it says")
    return points


def _parts(
    contours: list[NDArray[np.float64]], label: Label, request: ResultRequest, n: int
) -> list[PlaneMeasurement]:
    """Return what each contour of a slice measures, compared with the mask pixel by pixel."""
    source, shape = request.sources[n], request.masks.array[n].shape
    thickness = float(request.masks.thickness_mm[n])
    drawn = np.zeros(shape, dtype=np.bool_)
    found = []
    for points in contours:
        pixels, off = pixel_indices(source, points)
        if not off <= TOLERANCE_MM:
            raise OutputError(f"a contour of {label.name} lies {off:.2f} mm off slice {n + 1}")
        inside = filled(pixels, shape)
        drawn ^= inside
        area, centroid = area_and_centroid(points)
        part = measure_plane(inside, 1.0, functools.partial(pixel_positions, source))
        if part is not None:
            found.append(PlaneMeasurement(area * thickness, centroid, part.box))
    different = drawn != (request.masks.array[n] == label.value)
    if different.any():
        row, column = np.argwhere(different)[0]
        raise OutputError(
            f"{int(np.count_nonzero(different))} pixels in slice {n + 1} of the contours of {label.name} "
            f"differ from the mask, the first at row {row}, column {column}"
        )
    return found
