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
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import CTImageStorage

from dicom_writer.dicom.header import add_comments, new_result
from dicom_writer.encoding import elements_of
from dicom_writer.mask.measure import Measurement
from dicom_writer.request.assembly import uid_maker
from dicom_writer.request.provenance import Provenance
from dicom_writer.request.result_request import Given, Options
from dicom_writer.series.mask_series import describe_ct, slice_files
from dicom_writer.series.slice_files import write_slice_files
from dicom_writer.source.frames import FrameHeader
from dicom_writer.source.images import find_source, require_same_place
from stages import InputError, Volume
from stages.arrays import to_host
from stages.volume.geometry import spacing_of
from stages.volume.original_slices import SliceMasks

SERIES_NUMBER_OFFSET = 8
_WINDOW_HU = (40, 400)
_OF_THE_PLANE = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SliceLocation"),
    *("Rows", "Columns"),
)
_ALGORITHM = "clara-stages series to volume"  # no model is asked


class VolumeResult:
    """A series of derived CT images in Hounsfield units."""

    name = "volume"

    def make(self, given: Given, folder: Path) -> list[Path]:
        """Write one file a plane, on all cores."""
        with config.disable_value_validation():
            head = _head(given)
            common = elements_of(head)
        inside = folder / f"{given.file_name}.volume"
        inside.mkdir()
        preserved = given.mask.origin.correction is None
        files = slice_files(given, inside, what="volume", spatial_locations_preserved=preserved)
        write_slice_files(files, head.file_meta, common, dtype=np.dtype("<i2"))
        return [file.path for file in files]

    def verify(self, given: Given, paths: Sequence[Path]) -> Mapping[int, Measurement]:
        """Read each by pydicom and arithmetic."""
        from dicom_writer.series.verify import verify_series

        return verify_series(paths, given)


RESULT = VolumeResult()


def gather_volume(volume: Volume, source: Path, *, provenance: Provenance | None = None) -> Given:
    """Find the source images of a CT volume, and place its planes.

    Raises
    ------
    InputError
        If it is no volume of Hounsfield units, or its images are not there.
    """
    array = to_host(volume.array)
    if array.dtype != np.int16:
        raise InputError(f"a CT volume holds int16 Hounsfield units, this one {array.dtype}; is it a mask?")
    provenance = Provenance(algorithm_name=_ALGORITHM)
    sources = find_source(source, volume)
    first = np.zeros((len(array), 3))
    first[:, 0] = np.arange(len(array))
    planes = SliceMasks(  # of what is written, Hounsfield units instead of labels
        array=cast(NDArray[np.uint8], array),
        sop_instance_uids=(),
        affine=volume.affine,
        first_pixels=first,
    )
    if volume.origin.correction is not None:
        sources = _planes_as_images(volume, sources)
    require_same_place(planes, sources)
    return Given(
        mask=volume,
        masks=planes,
        sources=sources,
        source_files=[],
        labels=(),
        provenance=provenance,
        measured={},
        uids=uid_maker(volume, planes.array, sources, settings=provenance),
        wanted=("volume",),
        options=Options(),
    )


def _planes_as_images(volume: Volume, sources: Sequence[Dataset]) -> list[Dataset]:
    """Return for each plane of a corrected grid the header of the source image nearest to it, moved there."""
    correction = volume.origin.correction
    assert correction is not None
    heights = np.array(correction.first_pixels)[:, 0]
    slice_mm, row_mm, column_mm = spacing_of(volume.affine)
    found: list[Dataset] = []
    for n in range(len(volume.array)):
        nearest = sources[int(np.argmin(np.abs(heights - n)))]
        image = FrameHeader()
        image.update(nearest)
        image.frame_number = getattr(nearest, "frame_number", 0)
        for keyword in _OF_THE_PLANE:
            if keyword in image:
                del image[
                    keyword
                ]  # the elements are those of the source; a new value would change them there
        axes = volume.affine[:3, :3]
        image.ImagePositionPatient = [round(float(v), 6) for v in (volume.affine @ [n, 0, 0, 1])[:3]]
        cosines = [*(axes[:, 2] / column_mm), *(axes[:, 1] / row_mm)]
        image.ImageOrientationPatient = [round(float(v), 10) for v in cosines]
        image.PixelSpacing = [round(row_mm, 8), round(column_mm, 8)]
        image.SliceThickness = round(slice_mm, 6)
        image.Rows, image.Columns = volume.array.shape[1:]
        found.append(image)
    return found


def _head(given: Given) -> FileDataset:
    corrected = given.mask.origin.correction
    said = f"corrected: {', '.join(corrected.kinds)}" if corrected else "as acquired"
    head = new_result(
        given,
        sop_class_uid=CTImageStorage,
        what="volume",
        modality="CT",
        series_offset=SERIES_NUMBER_OFFSET,
        description=f"Volume, {said}",
    )
    head.DerivationDescription = f"Volume of the source series in Hounsfield units, {said}"
    describe_ct(head, given.sources[0])
    add_comments(head, given)
    head.RescaleType = "HU"
    head.WindowCenter, head.WindowWidth = _WINDOW_HU
    head.BitsStored, head.HighBit, head.PixelRepresentation = 16, 15, 1
    return head
