"""The result request of a CT volume, not of a mask: its planes, each with the header of a source image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_writer.request.provenance import Provenance
from dicom_writer.request.result_request import Options, ResultRequest
from dicom_writer.request.uids import uid_maker
from dicom_writer.source.frames import FrameHeader
from dicom_writer.source.images import find_source
from dicom_writer.source.positions import require_same_place
from stages import InputError, Volume
from stages.arrays import to_host
from stages.volume.geometry import spacing_of
from stages.volume.original_slices import SliceMasks

_OF_THE_PLANE = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SliceLocation"),
    *("Rows", "Columns"),
)
_ALGORITHM = "clara-stages series to volume"  # no model is asked


def request_of_volume(volume: Volume, source: Path) -> ResultRequest:
    """Return the result request of a CT volume: its source images found, its planes placed.

    Parameters
    ----------
    volume
        Hounsfield units, int16, on any device.
    source
        Folder with the original images, at any depth.

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
    return ResultRequest(
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
