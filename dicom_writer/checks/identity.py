"""Hold what was read back against the mask and its source: identity, references, voxels, measurements.

Independent of what wrote it: pydicom reads the file, the bits are unpacked in `read_frames`, and positions
come from each frame by the formula of the standard, while the mask's come from its affine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom import config, dcmread
from pydicom.dataset import Dataset

from dicom_writer.mask.measure import (
    TOLERANCE_MM,
    Measurement,
    Part,
    measure_masks,
    part_of,
    require_same_measurements,
    whole_of,
)
from dicom_writer.request.provenance import IDENTITY
from dicom_writer.request.result_request import Given
from dicom_writer.seg.read_frames import Frame, read_frames
from dicom_writer.source.frames import image_key
from dicom_writer.source.values import raw_value
from dicom_writer.wording import COMMENTS_LENGTH, warnings_text
from stages import OutputError, Volume
from stages.volume.labels import Label
from stages.volume.original_slices import SliceMasks, on_original_slices

_REQUIRED = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "Modality"),
    *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ContentDate", "ContentTime"),
)


def verify_segmentation(path: Path, given: Given) -> dict[int, Measurement]:
    """Read a binary segmentation back and compare it with the mask it was made of.

    Returns
    -------
    dict of int to Measurement
        What the file says of each label.

    Raises
    ------
    OutputError
        At the first thing that differs.
    """
    numbers = {n: label.value for n, label in enumerate(given.labels, start=1)}
    return _verify(path, given, numbers, there=[(v, n) for v in numbers.values() for n in _slices(given, v)])


def verify_labelmap(path: Path, given: Given) -> dict[int, Measurement]:
    """Read a label map back and compare it with the mask it was made of; as `verify_segmentation`."""
    numbers = {label.value: label.value for label in given.labels}
    return _verify(path, given, numbers, there=[(None, n) for n in _slices(given, None)])


def _verify(
    path: Path, given: Given, numbers: Mapping[int, int], *, there: Sequence[tuple[int | None, int]]
) -> dict[int, Measurement]:
    """Compare a file.

    `numbers` gives the label value of each segment number, `there` what must have a frame: label value
    (None for all) and slice.
    """
    parts: dict[int, list[Part | None]] = {label.value: [] for label in given.labels}
    seen: set[tuple[int | None, int]] = set()
    slice_of = {image_key(source): n for n, source in enumerate(given.sources)}
    with config.disable_value_validation():
        dataset = dcmread(path)
        require_same_identity(dataset, given)
        require_references(referenced_instances(dataset, given), given)
        require_comments(dataset, given)
        _require_segments(dataset, numbers, given.labels)
        for number, frame in enumerate(read_frames(dataset), start=1):
            if frame.source not in slice_of or frame.segment not in (None, *numbers):
                raise OutputError(
                    f"frame {number} is of segment {frame.segment} on image {frame.source[0]}; "
                    "one of them is unknown"
                )
            n = slice_of[frame.source]
            value = None if frame.segment is None else numbers[frame.segment]
            if (value, n) in seen:
                raise OutputError(f"a segment has two frames on slice {n + 1}")
            seen.add((value, n))
            _compare_place(frame, given.masks, n, number)
            _compare_voxels(frame, value, given.masks, n)
            for label in numbers.values() if value is None else (value,):
                plane = frame.plane == label if value is None else frame.plane
                parts[label].append(part_of(plane, frame.pixel_mm3, frame.positions_of))
    _require_all(seen, there)
    measured = {value: whole_of(found) for value, found in parts.items()}
    require_same_measurements(measured, given.measured, given.labels)
    return measured


def _slices(given: Given, value: int | None) -> list[int]:
    """Return which slices hold a label, or any."""
    array = given.masks.array
    return [n for n, plane in enumerate(array) if (plane.any() if value is None else (plane == value).any())]


def _require_all(seen: Collection[tuple[int | None, int]], there: Sequence[tuple[int | None, int]]) -> None:
    missing = [key for key in there if key not in seen]
    if missing:
        value, n = missing[0]
        of = "" if value is None else f" of label {value}"
        raise OutputError(f"the mask has voxels{of} in slice {n + 1}, which has no frame")


def require_same_identity(dataset: Dataset, given: Given) -> None:
    """Refuse a result that is not of the source's patient, study and frame of reference.

    Raises
    ------
    OutputError
        It names the attribute, never its value.
    """
    first = given.sources[0]
    for keyword in ("StudyInstanceUID", *IDENTITY):
        if raw_value(dataset, keyword) != raw_value(first, keyword):
            raise OutputError(f"{keyword} of the written result is not that of its source")
    if dataset.get("FrameOfReferenceUID", first.FrameOfReferenceUID) != first.FrameOfReferenceUID:
        raise OutputError("FrameOfReferenceUID of the written result is not that of its source")
    if str(dataset.SeriesInstanceUID) == str(first.SeriesInstanceUID):
        raise OutputError("the written result has the SeriesInstanceUID of its source")
    _require_attributes(dataset)
    _refuse_private(dataset)


def _require_attributes(dataset: Dataset) -> None:
    missing = [keyword for keyword in _REQUIRED if not dataset.get(keyword)]
    if missing:
        raise OutputError(f"{missing[0]} is missing in the written result")
    meta = getattr(dataset, "file_meta", Dataset())
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if meta.get(f"MediaStorage{keyword}") != dataset[keyword].value:
            raise OutputError(f"{keyword} of the written result is not that of its meta information")


def _refuse_private(dataset: Dataset) -> None:
    for tag in dataset.keys():  # noqa: SIM118
        if tag.is_private:
            raise OutputError(f"the written result holds a private attribute, {tag}")
        if dataset.get_item(tag).VR == "SQ":
            for item in dataset[tag].value:
                _refuse_private(item)


def referenced_instances(dataset: Dataset, given: Given) -> set[str]:
    """Return the source images that *Referenced Series Sequence* (0008,1115) names, each with its series."""
    return known_of(
        (
            (str(series.SeriesInstanceUID), str(item.ReferencedSOPInstanceUID))
            for series in dataset.ReferencedSeriesSequence
            for item in series.ReferencedInstanceSequence
        ),
        given,
    )


def known_of(named: Iterable[tuple[str, str]], given: Given) -> set[str]:
    """Return the instances of pairs of series and instance that are source images."""
    known = {(str(source.SeriesInstanceUID), str(source.SOPInstanceUID)) for source in given.sources}
    return {instance for series, instance in named if (series, instance) in known}


def require_references(referenced: Collection[str], given: Given) -> None:
    """Refuse a result that leaves out an image of its source.

    Raises
    ------
    OutputError
        It says how many are missing.
    """
    missing = {str(source.SOPInstanceUID) for source in given.sources} - set(referenced)
    if missing:
        raise OutputError(f"{len(missing)} source images are not referenced, one of them {min(missing)}")


def require_comments(image: Dataset, given: Given) -> None:
    """Refuse an image whose *Image Comments* are not what everybody who uses it has to be told.

    Raises
    ------
    OutputError
        It says how many warnings there are, not what they say.
    """
    if str(image.get("ImageComments") or "") != warnings_text(given, COMMENTS_LENGTH):
        count = len(given.mask.origin.warnings)
        raise OutputError(f"ImageComments of the written result are not the {count} warnings of the mask")


def _require_segments(dataset: Dataset, numbers: Mapping[int, int], labels: Sequence[Label]) -> None:
    written = [
        (int(s.SegmentNumber), str(s.SegmentLabel), str(s.SegmentedPropertyTypeCodeSequence[0].CodeValue))
        for s in dataset.SegmentSequence
    ]
    of_value = {label.value: label for label in labels}
    expected = [(n, of_value[value].name, of_value[value].type.value) for n, value in numbers.items()]
    if written != expected:
        raise OutputError(f"the segments written are {written}, expected {expected}")


def _compare_voxels(frame: Frame, value: int | None, masks: SliceMasks, n: int) -> None:
    meant = masks.array[n] if value is None else masks.array[n] == value
    if frame.plane.shape != meant.shape:
        raise OutputError(f"a frame has {frame.plane.shape} pixels, slice {n + 1} of the mask {meant.shape}")
    different = frame.plane != meant
    if different.any():
        row, column = np.argwhere(different)[0]
        of = "" if value is None else f" of label {value}"
        raise OutputError(
            f"{int(np.count_nonzero(different))} voxels{of} in slice {n + 1} differ from the mask, "
            f"the first at row {row}, column {column}"
        )


def _compare_place(frame: Frame, masks: SliceMasks, n: int, number: int) -> None:
    _, rows, columns = masks.array.shape
    corners = np.array([(r, c) for r in (0, rows - 1) for c in (0, columns - 1)])
    apart = float(np.linalg.norm(frame.positions_of(corners) - masks.positions(n, corners), axis=1).max())
    if not apart <= TOLERANCE_MM:
        raise OutputError(f"frame {number} lies {apart:.2f} mm from slice {n + 1} of the mask")


def require_same_findings(mask: Volume, masks: SliceMasks, labels: Sequence[Label]) -> None:
    """Hold what was drawn on the original slices against the mask on the corrected grid it came from.

    Raises
    ------
    OutputError
        If a label is gone, or its centroid lies further away than the thickest slice is thick.
    """
    if mask.origin.correction is None:
        return
    tolerance_mm = float(masks.thickness_mm.max())
    on_grid = on_original_slices(replace(mask, origin=replace(mask.origin, correction=None)))
    for label in labels:
        meant = measure_masks(on_grid, label.value).centroid_mm
        drawn = measure_masks(masks, label.value).centroid_mm
        if meant is None:
            continue
        apart = np.inf if drawn is None else float(np.linalg.norm(drawn - meant))
        if not apart <= tolerance_mm:
            raise OutputError(
                f"segment {label.name} came to lie {apart:.2f} mm from where the mask has it "
                f"when it was drawn on the original slices; at most {tolerance_mm:.2f} mm are expected"
            )
