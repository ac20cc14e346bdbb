"""The DICOM Segmentation object of a mask as a label map: a pixel is the number of its segment.

References
----------
DICOM PS3.3 A.51, Label Map Segmentation IOD; C.8.20.2.3, Segmentation Type; PS3.5 Annex G, RLE.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import FileDataset

from dicom_files.uids import LabelMapSegmentationStorage
from dicom_writer.encoding import encapsulated_pixel_data, pixel_data, save
from dicom_writer.mask.measure import Measurement
from dicom_writer.request.result_request import Given
from dicom_writer.seg.functional_groups import frame_groups
from dicom_writer.seg.segments import new_segmentation

SERIES_NUMBER_OFFSET = 2
_RLE_HEADER = struct.pack("<16L", 1, 64, *[0] * 14)  # one segment, behind this header
_LONGEST_RUN = 128


class LabelmapResult:
    """A label map Segmentation.

    A segment's number is its label's value; 0 is background. RLE unless told otherwise. Frames without
    a voxel are left out, unless asked for; the first slice stays where there is no voxel at all.
    """

    name = "labelmap"

    def make(self, given: Given, folder: Path) -> list[Path]:
        """Write the one file."""
        path = folder / f"{given.file_name}.labelmap.dcm"
        array, compression = given.masks.array, given.options.compression or "rle"
        slices = [n for n, plane in enumerate(array) if given.options.keep_empty_frames or plane.any()] or [0]
        if compression == "rle":
            pixels = encapsulated_pixel_data(rle_frame(array[n]) for n in slices)
        else:
            pixels = pixel_data((array[n].tobytes() for n in slices), array[0].size * len(slices))
        with config.disable_value_validation():
            head = _head(given, compression, frames=len(slices))
            groups = frame_groups(given, [(None, n) for n in slices])
            save(head, path, itertools.chain([groups], pixels))
        return [path]

    def verify(self, given: Given, paths: Sequence[Path]) -> Mapping[int, Measurement]:
        """Read it by pydicom and arithmetic."""
        from dicom_writer.checks.identity import verify_labelmap

        (path,) = paths
        return verify_labelmap(path, given)


RESULT = LabelmapResult()


def _head(given: Given, compression: str, *, frames: int) -> FileDataset:
    head = new_segmentation(
        given,
        sop_class_uid=LabelMapSegmentationStorage,
        kind="LABELMAP",
        what="labelmap",
        title="AI label map",
        series_offset=SERIES_NUMBER_OFFSET,
        compression=compression,
        numbers={label.value: label.value for label in given.labels},
    )
    head.add_new("PixelPaddingValue", "US", 0)  # background
    head.NumberOfFrames = frames
    return head


def rle_frame(plane: NDArray[np.uint8]) -> bytes:
    """Return a plane of bytes in DICOM's RLE: one byte of length and one of value for each run in a row.

    What changes from pixel to pixel would take less as literals; a mask seldom does.
    """
    starts = np.ones(plane.shape, dtype=bool)
    np.not_equal(plane[:, 1:], plane[:, :-1], out=starts[:, 1:])
    first = np.flatnonzero(starts)
    lengths = np.diff(first, append=plane.size)
    pieces = -(-lengths // _LONGEST_RUN)
    sizes = np.full(int(pieces.sum()), _LONGEST_RUN)
    sizes[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * _LONGEST_RUN
    encoded = np.empty((len(sizes), 2), dtype=np.uint8)
    encoded[:, 0] = np.where(sizes > 1, 257 - sizes, 0)  # 0: one literal
    encoded[:, 1] = np.repeat(plane.ravel()[first], pieces)
    return _RLE_HEADER + encoded.tobytes()
