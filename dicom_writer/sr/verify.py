"""Compare a written report with the mask: its tree, its numbers, and every outline in it, filled.

pydicom reads the tree; volumes and diameters are measured again in the outlines of the file, on the
images that they name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.dataset import Dataset

from dicom_writer.checks.identity import require_same_identity
from dicom_writer.checks.measurements import VOLUME_TOLERANCE
from dicom_writer.checks.polygons import filled
from dicom_writer.checks.references import known_sources, require_references
from dicom_writer.mask.lesions import Lesions
from dicom_writer.mask.measure import Measurement
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.source.frames import image_key
from dicom_writer.source.positions import pixel_positions
from dicom_writer.wording import warnings_of
from stages import OutputError
from stages.volume.labels import Label

_LENGTH_TOLERANCE_MM = 0.01
_GROUPS, _GROUP = "126010", "125007"
_TRACKING, _TRACKING_UID, _FINDING, _SEGMENT = "112039", "112040", "121071", "121191"
_REGION, _VOLUME, _COUNT, _LONG_AXIS, _PRESENCE = "111030", "118565006", "246206008", "103339001", "705057003"
_AREA, _EVALUATIONS, _COMMENT = "42798000", "C0034375", "121106"
_ABSENT = "272519000"


def verify_report(path: Path, request: ResultRequest) -> dict[int, Measurement]:
    """Read a report back, and return the volume that it says of each label.

    Parameters
    ----------
    path, request
        The report, and what should be in it.

    Raises
    ------
    OutputError
        At the first thing that differs.
    """
    with config.disable_value_validation():
        report = dcmread(path)
        require_same_identity(report, request)
        _require_evidence(report, request)
        _require_comments(report, request)
        groups = [_Group(group) for list_ in _children(report, _GROUPS) for group in _children(list_, _GROUP)]
        _require_groups(groups, request)
        count = 2 * len(request.labels)
        wholes, sections, lesions = groups[0:count:2], groups[1:count:2], groups[count:]
        for number, (label, group) in enumerate(zip(request.labels, wholes, strict=True), start=1):
            _compare_label(group, number, label, request)
        for label, group in zip(request.labels, sections, strict=True):
            _compare_section(group, label, request)
        rest = iter(lesions)
        for found in request.lesions:
            _compare_lesions([next(rest) for _ in found.listed], found, request)
    return {
        label.value: Measurement(group.number(_VOLUME), None)
        for label, group in zip(request.labels, wholes, strict=True)
    }


def _children(item: Dataset, code: str) -> list[Dataset]:
    return [
        child
        for child in item.get("ContentSequence") or ()
        if child.get("ConceptNameCodeSequence") and child.ConceptNameCodeSequence[0].CodeValue == code
    ]


@dataclass(frozen=True)
class _Group:
    """A group of measurements."""

    item: Dataset

    def one(self, code: str) -> Dataset:
        """Return the only child of a name."""
        found = _children(self.item, code)
        if len(found) != 1:
            raise OutputError(f"a group of the report has {len(found)} items {code}, expected one")
        return found[0]

    def number(self, code: str) -> float:
        """Return a number that was measured."""
        return float(self.one(code).MeasuredValueSequence[0].NumericValue)

    def tracking(self) -> tuple[str, str, str]:
        """Return tracking identifier and UID, and the code of what was found."""
        return (
            str(self.one(_TRACKING).TextValue),
            str(self.one(_TRACKING_UID).UID),
            str(self.one(_FINDING).ConceptCodeSequence[0].CodeValue),
        )


def _require_evidence(report: Dataset, request: ResultRequest) -> None:
    named = {
        (str(series.SeriesInstanceUID), str(image.ReferencedSOPInstanceUID))
        for study in report.CurrentRequestedProcedureEvidenceSequence
        if study.StudyInstanceUID == request.sources[0].StudyInstanceUID
        for series in study.ReferencedSeriesSequence
        for image in series.ReferencedSOPSequence
    }
    require_references(known_sources(named, request), request)
    if (request.uids.uid("seg series"), request.uids.uid("seg instance")) not in named:
        raise OutputError("the report does not name the segmentation among its evidence")


def _require_comments(report: Dataset, request: ResultRequest) -> None:
    comments = [
        str(comment.TextValue)
        for list_ in _children(report, _EVALUATIONS)
        for comment in _children(list_, _COMMENT)
    ]
    if comments != warnings_of(request):
        count = len(request.mask.origin.warnings)
        raise OutputError(f"the comments of the report are not the {count} warnings of the mask")


def _require_groups(groups: list[_Group], request: ResultRequest) -> None:
    uid = request.uids.uid
    expected = [
        (x.name, uid(f"segment {x.value}"), x.type.value) for x in request.labels for _ in range(2)
    ] + [
        (one.name, uid(f"lesion {one.label.value} {one.number}"), one.label.type.value)
        for found in request.lesions
        for one in found.listed
    ]
    written = [group.tracking() for group in groups]
    if written != expected:
        different = next((w for w, e in zip(written, expected, strict=False) if w != e), None)
        raise OutputError(
            f"the report has {len(written)} groups, expected {len(expected)}"
            + (f"; the first that differs is {different[0]!r}" if different else "")
        )


def _compare_label(group: _Group, number: int, label: Label, request: ResultRequest) -> None:
    segment = group.one(_SEGMENT).ReferencedSOPSequence[0]
    if (str(segment.ReferencedSOPInstanceUID), int(segment.ReferencedSegmentNumber)) != (
        request.uids.uid("seg instance"),
        number,
    ):
        raise OutputError(f"the report does not refer to segment {number} for {label.name}")
    counted = [str(x.MeasuredValueSequence[0].NumericValue) for x in _children(group.item, _COUNT)]
    meant = [str(found.count) for found in request.lesions if found.label == label]
    if counted != meant:
        raise OutputError(f"the report counts {counted} of {label.name}, expected {meant}")
    meant_ml = request.measured[label.value].volume_ml
    _require_close(group.number(_VOLUME), meant_ml, f"the volume of {label.name}", "ml")
    _compare_presence(group, label, request)


def _compare_presence(group: _Group, label: Label, request: ResultRequest) -> None:
    absent = group.one(_PRESENCE).ConceptCodeSequence[0].CodeValue == _ABSENT
    if absent != (request.measured[label.value].volume_ml == 0):
        raise OutputError(f"the report says that {label.name} is {'absent' if absent else 'present'}")


def _compare_section(group: _Group, label: Label, request: ResultRequest) -> None:
    """Check that an outline is of the label's largest piece in the slice with most of it, and its area.

    Of a label without a voxel it is that of a whole image, with an area of 0.
    """
    _compare_presence(group, label, request)
    n, points = _on_slice(group.one(_REGION), _slices(request))
    plane = request.masks.array[n] == label.value
    inside = filled(points[:-1], plane.shape)
    mm2 = float(np.prod([float(mm) for mm in request.sources[n].PixelSpacing]))
    area_mm2 = float(np.count_nonzero(inside & plane)) * mm2
    _require_close(group.number(_AREA), area_mm2, f"the largest area of {label.name}", "mm2")
    most = max(np.count_nonzero(other == label.value) for other in request.masks.array)
    if np.count_nonzero(plane) != most:
        raise OutputError(
            f"the outline of {label.name} in the report is on slice {n + 1}, where it is not largest"
        )
    if not any(np.array_equal(inside, piece) for piece in _largest_pieces(plane)):
        raise OutputError(f"the outline of {label.name} in the report is not that of its largest piece")


def _largest_pieces(plane: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Yield the pieces of a plane that have most pixels, the whole plane if it is empty.

    Pieces touch at edges, not at corners.
    """
    from scipy import ndimage

    if not plane.any():
        yield np.ones_like(plane)
        return
    numbered, _ = ndimage.label(plane)
    sizes = np.bincount(numbered[plane])
    for one in np.flatnonzero(sizes == sizes.max()):
        yield np.asarray(numbered == one)


def _require_close(
    written: float, meant: float, what: str, unit: str, *, tolerance: float | None = None
) -> None:
    allowed = VOLUME_TOLERANCE * meant if tolerance is None else tolerance
    if not abs(written - meant) <= allowed:
        raise OutputError(f"{what} is {written:g} {unit} in the report, expected {meant:g} {unit}")


def _compare_lesions(groups: Sequence[_Group], found: Lesions, request: ResultRequest) -> None:
    """Check that the outlines of all lesions of a label hold what the mask and the numbers say."""
    polygons = _polygons(groups, request)
    volume_ml, longest_mm = np.zeros(len(groups)), np.zeros(len(groups))
    for n, plane in enumerate(request.masks.array):
        pieces = {k: _filled(those) for k, those in polygons.get(n, {}).items()}
        _compare_pixels(pieces.values(), plane == found.label.value, found, n)
        source = request.sources[n]
        mm2 = float(np.prod([float(mm) for mm in source.PixelSpacing]))
        for k, piece in pieces.items():
            volume_ml[k] += np.count_nonzero(piece.there) * mm2 * float(request.masks.thickness_mm[n]) / 1000
            longest_mm[k] = max(longest_mm[k], _longest_mm(piece, source))
    for k, (group, lesion) in enumerate(zip(groups, found.listed, strict=True)):
        _require_close(group.number(_VOLUME), float(volume_ml[k]), f"the volume of {lesion.name}", "ml")
        what = f"the longest diameter of {lesion.name}"
        mm = float(longest_mm[k])
        _require_close(group.number(_LONG_AXIS), mm, what, "mm", tolerance=_LENGTH_TOLERANCE_MM)


def _polygons(
    groups: Sequence[_Group], request: ResultRequest
) -> dict[int, dict[int, list[NDArray[np.float64]]]]:
    """Return the outlines by slice and group, row and column from the centre of the first pixel."""
    slice_of = _slices(request)
    found: dict[int, dict[int, list[NDArray[np.float64]]]] = {}
    for k, group in enumerate(groups):
        for region in _children(group.item, _REGION):
            n, points = _on_slice(region, slice_of)
            found.setdefault(n, {}).setdefault(k, []).append(points)
    return found


def _slices(request: ResultRequest) -> dict[tuple[str, int], int]:
    return {image_key(source): n for n, source in enumerate(request.sources)}


def _on_slice(
    coordinates: Dataset, slice_of: Mapping[tuple[str, int], int]
) -> tuple[int, NDArray[np.float64]]:
    """Return the slice that coordinates are on, and their rows and columns."""
    (image,) = (one.ReferencedSOPSequence[0] for one in coordinates.ContentSequence)
    key = (str(image.ReferencedSOPInstanceUID), int(image.get("ReferencedFrameNumber") or 0))
    if key not in slice_of or coordinates.GraphicType != "POLYLINE":
        raise OutputError(
            f"a {coordinates.GraphicType} of the report is on image {key[0]}, not of the source"
        )
    points = np.array(coordinates.GraphicData, dtype=np.float64).reshape(-1, 2)
    return slice_of[key], points[:, ::-1] - 0.5


@dataclass(frozen=True, eq=False)
class _Piece:
    """What outlines hold: pixels of a part of a slice that begins at a row and column."""

    there: NDArray[np.bool_]
    first: NDArray[np.int64]


def _filled(polygons: Sequence[NDArray[np.float64]]) -> _Piece:
    points = np.concatenate(polygons)
    first = np.floor(points.min(axis=0)).astype(np.int64)
    rows, columns = np.ceil(points.max(axis=0)).astype(np.int64) - first + 1
    whole = [filled(polygon - first, (int(rows), int(columns))) for polygon in polygons]
    return _Piece(np.logical_xor.reduce(whole), first)


def _compare_pixels(pieces: Iterable[_Piece], meant: NDArray[np.bool_], found: Lesions, n: int) -> None:
    """Check that outlines hold the pixels of the mask and no other, and none twice."""
    drawn = np.zeros(meant.shape, dtype=np.uint8)
    for piece in pieces:
        at = np.argwhere(piece.there) + piece.first
        if (at < 0).any() or (at >= meant.shape).any():
            raise OutputError(f"an outline of the report leaves the image of slice {n + 1}")
        drawn[tuple(at.T)] += 1
    if (drawn > 1).any():
        raise OutputError(f"two lesions of the report share pixels in slice {n + 1}")
    everything = found.count == len(found.listed)
    different = (drawn == 1) != meant if everything else (drawn == 1) & ~meant
    if different.any():
        raise OutputError(
            f"{int(np.count_nonzero(different))} pixels in slice {n + 1} of the outlines of "
            f"{found.label.name} in the report differ from the mask"
        )


def _longest_mm(piece: _Piece, source: Dataset) -> float:
    """Return the longest line between corners of pixels that hang together, measured in the patient."""
    from scipy import ndimage
    from scipy.spatial.distance import pdist

    numbered, count = ndimage.label(piece.there, structure=np.ones((3, 3)))
    longest = 0.0
    for one in range(1, count + 1):
        there = numbered == one
        rows = np.flatnonzero(there.any(axis=1))
        left = there[rows].argmax(axis=1)
        right = there.shape[1] - 1 - there[rows, ::-1].argmax(axis=1)
        ends = [(rows + up, column) for up in (-0.5, 0.5) for column in (left - 0.5, right + 0.5)]
        corners = np.concatenate([np.stack(end, axis=1) for end in ends]) + piece.first
        longest = max(longest, float(pdist(pixel_positions(source, corners)).max()))
    return longest
