"""Read back what was written, and hold it against the mask: voxels, volumes, centroids, references.

Independent of what wrote it: pydicom reads the file, the bits are unpacked here, and positions come
from each frame by the formula of the standard, while the mask's come from its affine.

References
----------
DICOM PS3.3 C.7.6.2.1.1, Image Position and Image Orientation; C.7.6.16, Multi-frame Functional
Groups; PS3.5 8.1.1, Pixel Data encoding (1 bit a pixel).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.dataset import Dataset

from dicom_writer.frames import image_key
from dicom_writer.labels import Label
from dicom_writer.measure import (
    TOLERANCE_MM,
    Measurement,
    measure_masks,
    part_of,
    require_same_measurements,
    whole_of,
)
from dicom_writer.provenance import IDENTITY
from dicom_writer.results import Given
from stages import OutputError, Volume
from stages.original_slices import SliceMasks, on_original_slices


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame of a segmentation, by its own words.

    Attributes
    ----------
    segment, source
        Which segment, drawn on which image: its instance and its frame, 0 where it has one only.
    position, cosines, pixel_spacing, thickness_mm
        *Image Position (Patient)*, *Image Orientation (Patient)* as rows of two, *Pixel Spacing*;
        *Spacing Between Slices*, or *Slice Thickness* where that is missing; mm.
    bits
        Shape (rows, columns), 0 or 1.
    """

    segment: int
    source: tuple[str, int]
    position: NDArray[np.float64]
    cosines: NDArray[np.float64]
    pixel_spacing: NDArray[np.float64]
    thickness_mm: float
    bits: NDArray[np.uint8]

    def positions_of(self, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """Return where pixels (row, column) lie, mm."""
        along_row = self.cosines[0] * self.pixel_spacing[1]
        along_column = self.cosines[1] * self.pixel_spacing[0]
        return np.asarray(self.position + pixels[..., 1:] * along_row + pixels[..., :1] * along_column)


def verify_segmentation(path: Path, given: Given) -> dict[int, Measurement]:
    """Read a written segmentation back and compare it with the mask it was made of.

    Returns
    -------
    dict of int to Measurement
        What the file says of each segment.

    Raises
    ------
    OutputError
        At the first thing that differs.
    """
    labels = given.labels
    with config.disable_value_validation():
        dataset = dcmread(path)
        require_same_identity(dataset, given)
        require_references(referenced_instances(dataset, given), given)
        _require_segments(dataset, labels)
        frames = list(read_frames(dataset))
        _compare_voxels(frames, given.masks, given.sources, labels)
        measured = {label.value: _measure(frames, label.value) for label in labels}
    require_same_measurements(measured, given.measured, labels)
    return measured


def require_same_identity(dataset: Dataset, given: Given) -> None:
    """Refuse a result that is not of the source's patient, study and frame of reference.

    Raises
    ------
    OutputError
        It names the attribute, never its value.
    """
    first = given.sources[0]
    for keyword in ("StudyInstanceUID", *IDENTITY):
        if (dataset.get(keyword) or "") != (first.get(keyword) or ""):
            raise OutputError(f"{keyword} of the written result is not that of its source")
    if dataset.get("FrameOfReferenceUID", first.FrameOfReferenceUID) != first.FrameOfReferenceUID:
        raise OutputError("FrameOfReferenceUID of the written result is not that of its source")
    if str(dataset.SeriesInstanceUID) == str(first.SeriesInstanceUID):
        raise OutputError("the written result has the SeriesInstanceUID of its source")
    private = [element.tag for element in dataset.iterall() if element.tag.is_private]
    if private:
        raise OutputError(f"the written result holds a private attribute, {private[0]}")


def referenced_instances(dataset: Dataset, given: Given) -> set[str]:
    """Return the instances of the source series that *Referenced Series Sequence* (0008,1115) names."""
    return {
        str(item.ReferencedSOPInstanceUID)
        for series in dataset.ReferencedSeriesSequence
        if series.SeriesInstanceUID == given.sources[0].SeriesInstanceUID
        for item in series.ReferencedInstanceSequence
    }


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


def _require_segments(dataset: Dataset, labels: Sequence[Label]) -> None:
    written = [
        (int(s.SegmentNumber), str(s.SegmentedPropertyTypeCodeSequence[0].CodeValue))
        for s in dataset.SegmentSequence
    ]
    expected = [(label.value, label.type.value) for label in labels]
    if written != expected:
        raise OutputError(f"the segments written are {written}, expected {expected}")


def read_frames(dataset: Dataset) -> Iterator[Frame]:
    """Yield the frames of a binary segmentation, their bits unpacked."""
    rows, columns, count = int(dataset.Rows), int(dataset.Columns), int(dataset.NumberOfFrames)
    size = rows * columns
    packed = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    groups = dataset.PerFrameFunctionalGroupsSequence
    if int(dataset.BitsAllocated) != 1 or len(packed) * 8 < count * size or len(groups) != count:
        raise OutputError(
            f"{count} frames of {rows} x {columns} bits were announced, {len(packed)} bytes and "
            f"{len(groups)} functional groups are there"
        )
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for n, group in enumerate(groups):
        first, last = n * size, (n + 1) * size
        bits = np.unpackbits(packed[first // 8 : -(-last // 8)], bitorder="little")[first % 8 :][:size]
        yield _frame(group, shared, bits.reshape(rows, columns))


def _frame(group: Dataset, shared: Dataset, bits: NDArray[np.uint8]) -> Frame:
    def item(keyword: str) -> Any:
        return (group if keyword in group else shared)[keyword].value[0]

    orientation = item("PlaneOrientationSequence").ImageOrientationPatient
    measures = item("PixelMeasuresSequence")
    image = item("DerivationImageSequence").SourceImageSequence[0]
    return Frame(
        segment=int(item("SegmentIdentificationSequence").ReferencedSegmentNumber),
        source=(str(image.ReferencedSOPInstanceUID), int(image.get("ReferencedFrameNumber") or 0)),
        position=np.array(item("PlanePositionSequence").ImagePositionPatient, dtype=np.float64),
        cosines=np.array(orientation, dtype=np.float64).reshape(2, 3),
        pixel_spacing=np.array(measures.PixelSpacing, dtype=np.float64),
        thickness_mm=float(measures.get("SpacingBetweenSlices") or measures.SliceThickness),
        bits=bits,
    )


def _compare_voxels(
    frames: Sequence[Frame], masks: SliceMasks, sources: Sequence[Dataset], labels: Sequence[Label]
) -> None:
    """Hold each frame against its slice of the mask, and find what has no frame."""
    slice_of = {image_key(source): n for n, source in enumerate(sources)}
    there = {label.value: (masks.array == label.value).any(axis=(1, 2)) for label in labels}
    for number, frame in enumerate(frames, start=1):
        if frame.source not in slice_of or frame.segment not in there:
            raise OutputError(
                f"frame {number} is of segment {frame.segment} on image {frame.source[0]}; "
                "one of them is unknown"
            )
        n = slice_of[frame.source]
        _compare_place(frame, masks, n, number)
        different = frame.bits != (masks.array[n] == frame.segment)
        if different.any():
            row, column = np.argwhere(different)[0]
            raise OutputError(
                f"{int(different.sum())} voxels of segment {frame.segment} in slice {n + 1} differ "
                f"from the mask, the first at row {row}, column {column}"
            )
    seen = [(slice_of[frame.source], frame.segment) for frame in frames]
    if len(set(seen)) != len(seen):
        raise OutputError("a segment has two frames on one slice")
    missing = {(int(n), value) for value, slices in there.items() for n in np.flatnonzero(slices)} - set(seen)
    if missing:
        n, value = min(missing)
        raise OutputError(f"the mask has voxels of segment {value} in slice {n + 1}, which has no frame")


def _compare_place(frame: Frame, masks: SliceMasks, n: int, number: int) -> None:
    _, rows, columns = masks.array.shape
    corners = np.array([(r, c) for r in (0, rows - 1) for c in (0, columns - 1)])
    apart = float(np.linalg.norm(frame.positions_of(corners) - masks.positions(n, corners), axis=1).max())
    if not apart <= TOLERANCE_MM:
        raise OutputError(f"frame {number} lies {apart:.2f} mm from slice {n + 1} of the mask")


def _measure(frames: Sequence[Frame], segment: int) -> Measurement:
    """Measure a segment by what the file says of its frames."""
    return whole_of(
        part_of(frame.bits, float(np.prod(frame.pixel_spacing)) * frame.thickness_mm, frame.positions_of)
        for frame in frames
        if frame.segment == segment
    )


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
