"""The mask as a series of CT images: one instance a source slice, a pixel is the value of its label.

The result that needs nothing of a viewer but to show CT; what the original system sent.

References
----------
DICOM PS3.3 A.3, CT Image IOD; C.7.6.1, General Image; C.8.2.1, CT Image.
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import CTImageStorage

from dicom_writer.dicom.header import add_comments, new_result
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.series.slice_files import SliceSeriesKind, describe_ct
from dicom_writer.wording import summary


class SeriesResult(SliceSeriesKind):
    """A series of derived CT images in a folder of its own, numbered in slice order."""

    name = "series"
    series_number_offset = 3
    dtype = np.dtype("<u2")

    def head(self, request: ResultRequest) -> FileDataset:
        """Return what all instances have in common."""
        head = new_result(
            request,
            self,
            sop_class_uid=CTImageStorage,
            modality="CT",
            description=f"AI mask: {summary(request.labels, request.measured)}",
        )
        meanings = [(0, "background"), *((label.value, label.name) for label in request.labels)]
        head.DerivationDescription = "Mask: " + ", ".join(f"{value} {name}" for value, name in meanings)
        describe_ct(head, request.sources[0])
        add_comments(head, request)
        highest = max(label.value for label in request.labels)
        head.RescaleType = "US"  # unspecified: label values, not HU
        head.WindowCenter, head.WindowWidth = highest / 2 + 0.5, highest + 1
        head.BitsStored, head.HighBit, head.PixelRepresentation = 16, 15, 0
        return head


KIND = SeriesResult()
