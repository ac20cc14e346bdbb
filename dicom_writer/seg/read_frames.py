"""The frames of a segmentation by their own words: pydicom reads the file, the bits are unpacked here.

Shares nothing with what writes segmentations.

References
----------
DICOM PS3.3 C.7.6.2.1.1, Image Position and Image Orientation; C.7.6.16, Multi-frame Functional Groups;
PS3.5 8.1.1, Pixel Data encoding (1 bit a pixel).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from stages import OutputError


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One frame of a segmentation.

    Attributes
    ----------
    segment
        Which segment; None where the frame is of a label map.
    source
        On which image it was drawn: its instance and its frame, 0 where it has one only.
    position, cosines, pixel_spacing, thickness_mm
        *Image Position (Patient)*, *Image Orientation (Patient)* as rows of two, *Pixel Spacing*;
        *Spacing Between Slices*, or *Slice Thickness* where that is missing; mm.
    plane
        Shape (rows, columns): 0 or 1, or the numbers of segments.
    """

    segment: int | None
    source: tuple[str, int]
    position: NDArray[np.float64]
    cosines: NDArray[np.float64]
    pixel_spacing: NDArray[np.float64]
    thickness_mm: float
    plane: NDArray[np.uint8]

    @property
    def pixel_mm3(self) -> float:
        """What one pixel stands for."""
        return float(np.prod(self.pixel_spacing)) * self.thickness_mm

    def positions_of(self, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """Return where pixels (row, column) lie, mm.

        Parameters
        ----------
        pixels
            Row and column, shape (..., 2).
        """
        along_row = self.cosines[0] * self.pixel_spacing[1]
        along_column = self.cosines[1] * self.pixel_spacing[0]
        return np.asarray(self.position + pixels[..., 1:] * along_row + pixels[..., :1] * along_column)


def read_frames(dataset: Dataset) -> Iterator[Frame]:
    """Yield the frames of a binary or label map segmentation.

    Parameters
    ----------
    dataset
        A segmentation, read back.

    Raises
    ------
    OutputError
        If there are not as many as announced.
    """
    groups = dataset.PerFrameFunctionalGroupsSequence
    count = int(dataset.NumberOfFrames)
    if len(groups) != count:
        raise OutputError(f"{count} frames were announced, {len(groups)} functional groups are there")
    shared = dataset.SharedFunctionalGroupsSequence[0]
    planes = _unpacked(dataset) if int(dataset.BitsAllocated) == 1 else iter_pixels(dataset, raw=True)
    for group, plane in zip(groups, planes, strict=True):
        yield _frame(group, shared, plane)


def _unpacked(dataset: Dataset) -> Iterator[NDArray[np.uint8]]:
    rows, columns, count = int(dataset.Rows), int(dataset.Columns), int(dataset.NumberOfFrames)
    size = rows * columns
    packed = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    if len(packed) * 8 < count * size:
        raise OutputError(
            f"{count} frames of {rows} x {columns} bits were announced, {len(packed)} bytes are there"
        )
    for first in range(0, count * size, size):
        bits = np.unpackbits(packed[first // 8 : -(-(first + size) // 8)], bitorder="little")
        yield bits[first % 8 :][:size].reshape(rows, columns)


def _frame(group: Dataset, shared: Dataset, plane: NDArray[np.uint8]) -> Frame:
    def item(keyword: str) -> Any:
        return (group if keyword in group else shared)[keyword].value[0]

    measures = item("PixelMeasuresSequence")
    image = item("DerivationImageSequence").SourceImageSequence[0]
    identified = group.get("SegmentIdentificationSequence")
    return Frame(
        segment=int(identified[0].ReferencedSegmentNumber) if identified else None,
        source=(str(image.ReferencedSOPInstanceUID), int(image.get("ReferencedFrameNumber") or 0)),
        position=np.array(item("PlanePositionSequence").ImagePositionPatient, dtype=np.float64),
        cosines=np.array(item("PlaneOrientationSequence").ImageOrientationPatient, np.float64).reshape(2, 3),
        pixel_spacing=np.array(measures.PixelSpacing, dtype=np.float64),
        thickness_mm=float(measures.get("SpacingBetweenSlices") or measures.SliceThickness),
        plane=plane,
    )
