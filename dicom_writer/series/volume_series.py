"""A CT volume, not a mask, as a series of derived CT images: what the reader made of a series, as DICOM.

Where the slices formed a regular grid, each image has the place of its source. Where the reader corrected
them, the images are the planes of the corrected grid, and say so.

References
----------
DICOM PS3.3 A.3, CT Image IOD; C.8.2.1, CT Image.
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import CTImageStorage

from dicom_writer.dicom.header import add_comments, new_result
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.series.slice_files import SliceSeriesKind, describe_ct

_WINDOW_HU = (40, 400)


class VolumeResult(SliceSeriesKind):
    """A series of derived CT images in Hounsfield units."""

    name = "volume"
    series_number_offset = 8
    dtype = np.dtype("<i2")

    def head(self, request: ResultRequest) -> FileDataset:
        """Return what all images have in common."""
        correction = request.mask.origin.correction
        state = f"corrected: {', '.join(correction.kinds)}" if correction else "as acquired"
        head = new_result(
            request,
            self,
            sop_class_uid=CTImageStorage,
            modality="CT",
            description=f"Volume, {state}",
        )
        head.DerivationDescription = f"Volume of the source series in Hounsfield units, {state}"
        describe_ct(head, request.sources[0])
        add_comments(head, request)
        head.RescaleType = "HU"
        head.WindowCenter, head.WindowWidth = _WINDOW_HU
        head.BitsStored, head.HighBit, head.PixelRepresentation = 16, 15, 1
        return head

    def preserves_locations(self, request: ResultRequest) -> bool:
        """Return whether the volume is as it was acquired."""
        return request.mask.origin.correction is None


KIND = VolumeResult()
