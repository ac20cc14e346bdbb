"""A CT volume, not a mask, as a series of derived CT images: what the reader made of a series, as DICOM.

Where the slices formed a regular grid, each image has the place of its source. Where the reader corrected
them, the images are the planes of the corrected grid, and say so.

References
----------
DICOM PS3.3 A.3, CT Image IOD; C.8.2.1, CT Image.
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

_WINDOW_HU = (40, 400)


class VolumeResult(ResultKind):
    """A series of derived CT images in Hounsfield units."""

    name = "volume"
    series_number_offset = 8

    def make(self, request: ResultRequest, folder: Path) -> list[Path]:
        """Write one file a plane, on all cores.

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
        inside = folder / f"{request.file_name}.volume"
        inside.mkdir()
        preserved = request.mask.origin.correction is None
        files = slice_files(request, inside, kind=KIND, spatial_locations_preserved=preserved)
        write_slice_files(files, head.file_meta, common, dtype=np.dtype("<i2"))
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


KIND = VolumeResult()


def _head(request: ResultRequest) -> FileDataset:
    correction = request.mask.origin.correction
    state = f"corrected: {', '.join(correction.kinds)}" if correction else "as acquired"
    head = new_result(
        request,
        KIND,
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
