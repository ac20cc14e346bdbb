"""The mask as a series of CT images: one instance a source slice, a pixel is the value of its label.

The result that needs nothing of a viewer but to show CT; what the original system sent.

References
----------
DICOM PS3.3 A.3, CT Image IOD; C.7.6.1, General Image; C.8.2.1, CT Image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydicom import config
from pydicom.dataset import FileDataset
from pydicom.uid import CTImageStorage

from dicom_writer.dicom.header import add_comments, new_result
from dicom_writer.encoding import elements_of
from dicom_writer.mask.measure import Measurement
from dicom_writer.request.result_kind import ResultKind
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.series.slice_files import describe_ct, slice_files, write_slice_files
from dicom_writer.wording import summary


class SeriesResult(ResultKind):
    """A series of derived CT images in a folder of its own, numbered in slice order."""

    name = "series"
    series_number_offset = 3

    def make(self, request: ResultRequest, folder: Path) -> list[Path]:
        """Write one file a slice, on all cores.

        Parameters
        ----------
        request
            What is written, and of what.
        folder
            A fresh folder to write to.
        """
        with config.disable_value_validation():
            head = _head(request)
            common = elements_of(head)
        inside = folder / f"{request.file_name}.series"
        inside.mkdir()
        files = slice_files(request, inside, kind=KIND)
        write_slice_files(files, head.file_meta, common, dtype=np.dtype("<u2"))
        return [file.path for file in files]

    def verify(self, request: ResultRequest, paths: Sequence[Path]) -> Mapping[int, Measurement]:
        """Read each by pydicom and arithmetic.

        Parameters
        ----------
        request
            What is written, and of what.
        paths
            The files, as `make` returned them.
        """
        from dicom_writer.series.verify import verify_series

        return verify_series(paths, request)


KIND = SeriesResult()


def _head(request: ResultRequest) -> FileDataset:
    """Return what all instances have in common."""
    head = new_result(
        request,
        KIND,
        sop_class_uid=CTImageStorage,
        modality="CT",
        description=f"AI mask: {summary(request.labels, request.measured)}",
    )
    head.DerivationDescription = "Mask: " + ", ".join(
        f"{value} {name}" for value, name in [(0, "background"), *((x.value, x.name) for x in request.labels)]
    )
    describe_ct(head, request.sources[0])
    add_comments(head, request)
    highest = max(label.value for label in request.labels)
    head.RescaleType = "US"  # unspecified: label values, not HU
    head.WindowCenter, head.WindowWidth = highest / 2 + 0.5, highest + 1
    head.BitsStored, head.HighBit, head.PixelRepresentation = 16, 15, 0
    return head
