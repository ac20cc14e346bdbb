"""Compare a written segmentation with the mask: its segments, the place of each frame, every voxel.

Independent of what wrote it: pydicom reads the file, the bits are unpacked in `read_frames`, and positions
come from each frame by the formula of the standard, while the mask's come from its affine.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydicom import config, dcmread
from pydicom.dataset import Dataset

from dicom_writer.checks.identity import require_comments, require_same_identity
from dicom_writer.checks.measurements import TOLERANCE_MM, require_same_measurements
from dicom_writer.checks.references import referenced_instances, require_references
from dicom_writer.mask.measure import Measurement, PlaneMeasurement, combine_planes, measure_plane
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.seg.read_frames import Frame, read_frames
from dicom_writer.source.frames import image_key
from stages import OutputError
from stages.volume.labels import Label
from stages.volume.original_slices import SliceMasks


def verify_segmentation(path: Path, request: ResultRequest) -> dict[int, Measurement]:
    """Read a binary segmentation back and compare it with the mask it was made of.

    Parameters
    ----------
    path, request
        The binary segmentation, and what should be in it.

    Returns
    -------
    dict of int to Measurement
        What the file says of each label.

    Raises
    ------
    OutputError
        At the first thing that differs.
    """
    numbers = {n: label.value for n, label in enumerate(request.labels, start=1)}
    return _verify(
        path, request, numbers, there=[(v, n) for v in numbers.values() for n in _slices(request, v)]
    )


def verify_labelmap(path: Path, request: ResultRequest) -> dict[int, Measurement]:
    """Read a label map back and compare it with the mask it was made of; as `verify_segmentation`.

    Parameters
    ----------
    path, request
        The label map, and what should be in it.
    """
    numbers = {label.value: label.value for label in request.labels}
    return _verify(path, request, numbers, there=[(None, n) for n in _slices(request, None)])


def _verify(
    path: Path, request: ResultRequest, numbers: Mapping[int, int], *, there: Sequence[tuple[int | None, int]]
) -> dict[int, Measurement]:
    """Compare a file.

    `numbers` gives the label value of each segment number, `there` what must have a frame: label value
    (None for all) and slice.
    """
    parts: dict[int, list[PlaneMeasurement | None]] = {label.value: [] for label in request.labels}
    seen: set[tuple[int | None, int]] = set()
    slice_of = {image_key(source): n for n, source in enumerate(request.sources)}
    with config.disable_value_validation():
        dataset = dcmread(path)
        require_same_identity(dataset, request)
        require_references(referenced_instances(dataset, request), request)
        require_comments(dataset, request)
        _require_segments(dataset, numbers, request.labels)
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
            _compare_place(frame, request.masks, n, number)
            _compare_voxels(frame, value, request.masks, n)
            for label in numbers.values() if value is None else (value,):
                plane = frame.plane == label if value is None else frame.plane
                parts[label].append(measure_plane(plane, frame.pixel_mm3, frame.positions_of))
    _require_all(seen, there)
    measured = {value: combine_planes(found) for value, found in parts.items()}
    require_same_measurements(measured, request.measured, request.labels)
    return measured


def _slices(request: ResultRequest, value: int | None) -> list[int]:
    """Return which slices hold a label, or any."""
    array = request.masks.array
    return [n for n, plane in enumerate(array) if (plane.any() if value is None else (plane == value).any())]


def _require_all(seen: Collection[tuple[int | None, int]], there: Sequence[tuple[int | None, int]]) -> None:
    missing = [key for key in there if key not in seen]
    if missing:
        value, n = missing[0]
        of = "" if value is None else f" of label {value}"
        raise OutputError(f"the mask has voxels{of} in slice {n + 1}, which has no frame")


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
