"""Read back what was written, and hold it against the mask: voxels, volumes, centroids, references.

Independent of what wrote it: pydicom reads the file, the bits are unpacked here, and positions come
from each frame by the formula of the standard, while the mask's come from its affine.

References
----------
DICOM PS3.3 C.7.6.2.1.1, Image Position and Image Orientation; C.7.6.16, Multi-frame Functional
Groups; PS3.5 8.1.1, Pixel Data encoding (1 bit a pixel).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.dataset import Dataset

from dicom_writer.frames import image_key
from dicom_writer.labels import Label
from dicom_writer.provenance import IDENTITY
from dicom_writer.source import TOLERANCE_MM
from stages import OutputError, Volume
from stages.geometry import spacing_of
from stages.original_slices import SliceMasks, on_original_slices

_VOLUME_TOLERANCE = 1e-3  # relative; the written spacing is a decimal of 16 characters


@dataclass(frozen=True)
class Measurement:
    """Volume (ml) and centroid (LPS mm, None when empty) of one segment."""

    volume_ml: float
    centroid_mm: NDArray[np.float64] | None


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


def verify_segmentation(
    path: Path, masks: SliceMasks, sources: Sequence[Dataset], *, labels: Sequence[Label]
) -> dict[int, Measurement]:
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
    try:
        with config.disable_value_validation():
            dataset = dcmread(path)
            _compare_identity(dataset, sources, labels)
            frames = list(read_frames(dataset))
            _compare_voxels(frames, masks, sources, labels)
            measured = {label.value: _measure(frames, label.value) for label in labels}
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise OutputError(f"the written segmentation cannot be read back: {error}") from error
    for label in labels:
        _compare_measurement(measured[label.value], measure_masks(masks, label.value), label)
    return measured


def _compare_identity(dataset: Dataset, sources: Sequence[Dataset], labels: Sequence[Label]) -> None:
    first = sources[0]
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", *IDENTITY):
        if (dataset.get(keyword) or "") != (first.get(keyword) or ""):
            raise OutputError(f"{keyword} of the written segmentation is not that of its source")
    referenced = {
        str(item.ReferencedSOPInstanceUID)
        for series in dataset.ReferencedSeriesSequence
        if series.SeriesInstanceUID == first.SeriesInstanceUID
        for item in series.ReferencedInstanceSequence
    }
    missing = {str(source.SOPInstanceUID) for source in sources} - referenced
    if missing:
        raise OutputError(f"{len(missing)} source images are not referenced, one of them {min(missing)}")
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
    parts = []
    for frame in frames:
        if frame.segment == segment and (count := int(np.count_nonzero(frame.bits))):
            mm3 = count * float(np.prod(frame.pixel_spacing)) * frame.thickness_mm
            parts.append((mm3, frame.positions_of(np.array(_centre_of_mass(frame.bits)))))
    return _sum_of(parts)


def measure_masks(masks: SliceMasks, value: int) -> Measurement:
    """Measure a label of a mask through the affine of its volume."""
    _, row_mm, column_mm = spacing_of(masks.affine)
    parts = []
    for n, plane in enumerate(masks.array == value):
        if count := int(np.count_nonzero(plane)):
            mm3 = count * row_mm * column_mm * float(masks.thickness_mm[n])
            parts.append((mm3, masks.positions(n, np.array(_centre_of_mass(plane)))))
    return _sum_of(parts)


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


def _sum_of(parts: Sequence[tuple[float, NDArray[np.float64]]]) -> Measurement:
    """Return the whole of parts, each a volume (mm3) and its centroid."""
    total = sum(mm3 for mm3, _ in parts)
    if not parts:
        return Measurement(0.0, None)
    return Measurement(total / 1000, np.asarray(sum(mm3 * centroid for mm3, centroid in parts) / total))


def _centre_of_mass(plane: NDArray[Any]) -> tuple[float, float]:
    """Return mean row and mean column of the voxels of a plane."""
    in_rows = np.count_nonzero(plane, axis=1)
    in_columns = np.count_nonzero(plane, axis=0)
    count = in_rows.sum()
    return float(in_rows @ np.arange(len(in_rows)) / count), float(
        in_columns @ np.arange(len(in_columns)) / count
    )


def _compare_measurement(written: Measurement, meant: Measurement, label: Label) -> None:
    if abs(written.volume_ml - meant.volume_ml) > _VOLUME_TOLERANCE * meant.volume_ml:
        raise OutputError(
            f"segment {label.name}: {written.volume_ml:.3f} ml were written, "
            f"the mask has {meant.volume_ml:.3f} ml"
        )
    if written.centroid_mm is None or meant.centroid_mm is None:
        return
    apart = float(np.linalg.norm(written.centroid_mm - meant.centroid_mm))
    if not apart <= TOLERANCE_MM:
        raise OutputError(
            f"segment {label.name}: its centroid was written {apart:.2f} mm from that of the mask"
        )
