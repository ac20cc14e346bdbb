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
from pydicom.dataset import FileDataset
from pydicom.uid import SegmentationStorage

from dicom_files.encoding import pixel_data
from dicom_writer.encoding import save
from dicom_writer.mask.measure import Measurement
from dicom_writer.request.result_kind import OneFileKind
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.seg.functional_groups import frame_groups
from dicom_writer.seg.segments import new_segmentation
from stages import SettingsError


class SegResult(OneFileKind):
    """A binary Segmentation.

    Segments are numbered from 1 in the order of the labels. Frames without a voxel are left out, unless
    asked for; where there is no voxel at all, each segment has one frame without, on the first slice.
    """

    name = "seg"
    series_number_offset = 1

    def write(self, request: ResultRequest, path: Path) -> None:
        """Write it.

        Raises
        ------
        SettingsError
            If it shall be compressed in a way that one bit a pixel does not allow.
        """
        frames = list(_frames(request))
        numbers = {label.value: n for n, label in enumerate(request.labels, start=1)}
        head = _head(request, numbers, frames=len(frames))
        groups = frame_groups(request, [(numbers[value], n) for value, n in frames])
        save(head, path, itertools.chain([groups], _pixels(request.masks.array, frames)))

    def read_back(self, path: Path, request: ResultRequest) -> Mapping[int, Measurement]:
        """Read it by pydicom and arithmetic."""
        from dicom_writer.seg.verify import verify_segmentation

        return verify_segmentation(path, request)


KIND = SegResult()


def _head(request: ResultRequest, numbers: Mapping[int, int], *, frames: int) -> FileDataset:
    compression = request.options.compression or "none"
    if compression == "rle":
        raise SettingsError(
            "a binary segmentation cannot be RLE (one bit a pixel); write it deflated, or the result labelmap"
        )
    head = new_segmentation(
        request,
        KIND,
        sop_class_uid=SegmentationStorage,
        segmentation_type="BINARY",
        title="AI segmentation",
        compression=compression,
        numbers=numbers,
    )
    head.NumberOfFrames = frames
    return head


def _frames(request: ResultRequest) -> Iterator[tuple[int, int]]:
    """Yield label value and slice of each frame."""
    everything = request.options.keep_empty_frames
    for label in request.labels:
        for n, plane in enumerate(request.masks.array):
            first_of_none = request.is_empty and n == 0
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
