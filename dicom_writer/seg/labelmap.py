"""The DICOM Segmentation object of a mask as a label map: a pixel is the number of its segment.

References
----------
DICOM PS3.3 A.51, Label Map Segmentation IOD; C.8.20.2.3, Segmentation Type; PS3.5 Annex G, RLE.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from dicom_files.encoding import encapsulated_pixel_data, pixel_data
from dicom_files.uids import LabelMapSegmentationStorage
from dicom_writer.encoding import save
from dicom_writer.mask.measure import Measurement
from dicom_writer.request.result_kind import OneFileKind
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.seg.functional_groups import frame_groups
from dicom_writer.seg.segments import new_segmentation

_RLE_HEADER = struct.pack("<16L", 1, 64, *[0] * 14)  # one segment, behind this header
_LONGEST_RUN = 128


class LabelmapResult(OneFileKind):
    """A label map Segmentation.

    A segment's number is its label's value; 0 is background. RLE unless asked otherwise. Frames without
    a voxel are left out, unless asked for; the first slice stays where there is no voxel at all.
    """

    name = "labelmap"
    series_number_offset = 2

    def write(self, request: ResultRequest, path: Path) -> None:
        """Write it."""
        array, compression = request.masks.array, request.options.compression or "rle"
        slices = [n for n, plane in enumerate(array) if request.options.keep_empty_frames or plane.any()] or [
            0
        ]
        if compression == "rle":
            pixels = encapsulated_pixel_data(rle_frame(array[n]) for n in slices)
        else:
            pixels = pixel_data((array[n].tobytes() for n in slices), array[0].size * len(slices))
        head = _head(request, compression, frames=len(slices))
        groups = frame_groups(request, [(None, n) for n in slices])
        save(head, path, itertools.chain([groups], pixels))

    def read_back(self, path: Path, request: ResultRequest) -> Mapping[int, Measurement]:
        """Read it by pydicom and arithmetic."""
        from dicom_writer.seg.verify import verify_labelmap

        return verify_labelmap(path, request)


KIND = LabelmapResult()


def _head(request: ResultRequest, compression: str, *, frames: int) -> FileDataset:
    head = new_segmentation(
        request,
        KIND,
        sop_class_uid=LabelMapSegmentationStorage,
        segmentation_type="LABELMAP",
        title="AI label map",
        compression=compression,
        numbers={label.value: label.value for label in request.labels},
    )
    head.add_new("PixelPaddingValue", "US", 0)  # background
    head.NumberOfFrames = frames
    return head


def rle_frame(plane: NDArray[np.uint8]) -> bytes:
    """Return a plane of bytes in DICOM's RLE: one byte of length and one of value for each run in a row.

    What changes from pixel to pixel would take less as literals; a mask seldom does.

    Parameters
    ----------
    plane
        Label values, uint8, shape (rows, columns).
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
