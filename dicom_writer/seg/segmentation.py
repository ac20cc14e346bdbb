"""The DICOM Segmentation object of a mask, binary: one segment a label, one bit a pixel.

References
----------
DICOM PS3.3 A.51, Segmentation IOD; PS3.5 8.1.1, Pixel Data encoding (1 bit a pixel).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import FileDataset
from pydicom.uid import SegmentationStorage

from dicom_writer.encoding import pixel_data, save
from dicom_writer.mask.measure import Measurement
from dicom_writer.request.result_request import Given
from dicom_writer.seg.functional_groups import frame_groups
from dicom_writer.seg.segments import new_segmentation
from stages import SettingsError

SERIES_NUMBER_OFFSET = 1


class SegResult:
    """A binary Segmentation.

    Segments are numbered from 1 in the order of the labels. Frames without a voxel are left out, unless
    asked for; where there is no voxel at all, each segment has one frame without, on the first slice.
    """

    name = "seg"

    def make(self, given: Given, folder: Path) -> list[Path]:
        """Write the one file.

        Raises
        ------
        SettingsError
            If it shall be compressed in a way that one bit a pixel does not allow.
        """
        path = folder / f"{given.file_name}.seg.dcm"
        frames = list(_frames(given))
        numbers = {label.value: n for n, label in enumerate(given.labels, start=1)}
        with config.disable_value_validation():
            head = _head(given, numbers, frames=len(frames))
            groups = frame_groups(given, [(numbers[value], n) for value, n in frames])
            save(head, path, itertools.chain([groups], _pixels(given.masks.array, frames)))
        return [path]

    def verify(self, given: Given, paths: Sequence[Path]) -> Mapping[int, Measurement]:
        """Read it by pydicom and arithmetic."""
        from dicom_writer.checks.identity import verify_segmentation

        (path,) = paths
        return verify_segmentation(path, given)


RESULT = SegResult()


def _head(given: Given, numbers: Mapping[int, int], *, frames: int) -> FileDataset:
    compression = given.options.compression or "none"
    if compression == "rle":
        raise SettingsError(
            "a binary segmentation cannot be RLE (one bit a pixel); write it deflated, or the result labelmap"
        )
    head = new_segmentation(
        given,
        sop_class_uid=SegmentationStorage,
        kind="BINARY",
        what="seg",
        title="AI segmentation",
        series_offset=SERIES_NUMBER_OFFSET,
        compression=compression,
        numbers=numbers,
    )
    head.NumberOfFrames = frames
    return head


def _frames(given: Given) -> Iterator[tuple[int, int]]:
    """Yield label value and slice of each frame."""
    everything = given.options.keep_empty_frames
    for label in given.labels:
        for n, plane in enumerate(given.masks.array):
            first_of_none = given.is_empty and n == 0
            if everything or first_of_none or (plane == label.value).any():
                yield label.value, n


def _pixels(array: NDArray[np.uint8], frames: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Yield the bits of frames, one behind the other, the first in the lowest bit of a byte."""
    together = 1 if array[0].size % 8 == 0 else 8  # that many frames fill whole bytes
    size = -(-array[0].size * len(frames) // 8)
    return pixel_data(
        (
            np.packbits(
                np.stack([array[n] == value for value, n in frames[first : first + together]]),
                bitorder="little",
            ).tobytes()
            for first in range(0, len(frames), together)
        ),
        size,
    )
