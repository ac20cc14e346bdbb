"""A result of one file a slice, written on all cores: what they have in common is encoded once.

References
----------
DICOM PS3.3 C.7.6.2, Image Plane; C.12.2, Common Instance Reference.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset

from dicom_files.encoding import code, element, sequence, text
from dicom_writer.dicom.header import copy_body_part
from dicom_writer.encoding import elements_of, file_head
from dicom_writer.mask.measure import Measurement
from dicom_writer.request.result_kind import ResultKind
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.source.frames import image_key
from dicom_writer.source.values import decimal

_PLACE = {
    0x00180050: "SliceThickness",
    0x00200032: "ImagePositionPatient",
    0x00200037: "ImageOrientationPatient",
    0x00201041: "SliceLocation",
    0x00280030: "PixelSpacing",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceFile:
    """One slice to be written.

    Attributes
    ----------
    path
        Where it is written to.
    sop_instance_uid
        *SOP Instance UID* (0008,0018).
    instance_number
        *Instance Number* (0020,0013), from 1.
    source
        The image whose place it has, and to which it refers.
    plane
        Its pixels, of any integer type.
    spatial_locations_preserved
        Whether a pixel shows the same place as that of the source.
    """

    path: Path
    sop_instance_uid: str
    instance_number: int
    source: Dataset
    plane: NDArray[Any]
    spatial_locations_preserved: bool = True


class SliceSeriesKind(ResultKind):
    """A kind of result of derived CT images, one a slice, in a folder of their own, numbered in slice order.

    Attributes
    ----------
    dtype
        Of the pixels in the file, 16 bits, little endian.
    """

    dtype: ClassVar[np.dtype[Any]]

    def make(self, request: ResultRequest, folder: Path) -> list[Path]:
        """Write one file a slice, on all cores."""
        with config.disable_value_validation():
            head = self.head(request)
            common = elements_of(head)
        inside = folder / f"{request.file_name}.{self.name}"
        inside.mkdir()
        files = slice_files(
            request, inside, kind=self, spatial_locations_preserved=self.preserves_locations(request)
        )
        write_slice_files(files, head.file_meta, common, dtype=self.dtype)
        return [file.path for file in files]

    def verify(self, request: ResultRequest, paths: Sequence[Path]) -> Mapping[int, Measurement]:
        """Read each by pydicom and arithmetic."""
        from dicom_writer.series.verify import verify_series

        return verify_series(paths, request)

    @abstractmethod
    def head(self, request: ResultRequest) -> FileDataset:
        """Return what all images have in common.

        Parameters
        ----------
        request
            What is written, and of what.
        """

    def preserves_locations(self, request: ResultRequest) -> bool:
        """Return whether a pixel shows the same place as that of its source.

        Parameters
        ----------
        request
            What is written, and of what.
        """
        return True


def write_slice_files(
    files: Sequence[SliceFile], meta: FileMetaDataset, common: Mapping[int, bytes], *, dtype: np.dtype[Any]
) -> None:
    """Write slices.

    Parameters
    ----------
    files
        One for each slice.
    meta
        Meta information of any of them.
    common
        Encoded elements by tag that all have; those that a slice has itself take precedence.
    dtype
        Of the pixels in the file, 16 bits, little endian.
    """

    def write(file: SliceFile) -> None:
        elements = {**common, **_own(file)}
        head = b"".join(elements[tag] for tag in sorted(elements))
        pixels = element(0x7FE00010, "OW", np.ascontiguousarray(file.plane, dtype=dtype).tobytes())
        file.path.write_bytes(file_head(meta, file.sop_instance_uid) + head + pixels)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, files))


def _own(file: SliceFile) -> dict[int, bytes]:
    """Return the elements in which a slice differs from the others, encoded, by tag."""
    source = file.source
    uid, frame = image_key(source)
    reference = text(0x00081150, "UI", source.SOPClassUID) + text(0x00081155, "UI", uid)
    framed = reference + (text(0x00081160, "IS", frame) if frame else b"")
    purpose = code(0x0040A170, "121322", "DCM", "Source image for image processing operation")
    preserved = text(0x0028135A, "CS", "YES" if file.spatial_locations_preserved else "NO")
    series = sequence(0x0008114A, reference) + text(0x0020000E, "UI", source.SeriesInstanceUID)
    found = {
        0x00180050: element(0x00180050, "DS", b""),  # may be empty, and is where the source says nothing
        0x00080018: text(0x00080018, "UI", file.sop_instance_uid),
        0x00081115: sequence(0x00081115, series),
        0x00082112: sequence(0x00082112, framed + preserved + purpose),
        0x00200013: text(0x00200013, "IS", file.instance_number),
    }
    for tag, keyword in _PLACE.items():
        value = source.get(keyword)
        if value is not None and value != "":
            values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            found[tag] = text(tag, "DS", *map(decimal, values))
    return found


def slice_files(
    request: ResultRequest, folder: Path, *, kind: ResultKind, spatial_locations_preserved: bool = True
) -> list[SliceFile]:
    """Return what each slice of a result is written from; files are numbered as the slices are.

    Parameters
    ----------
    request
        What is written, and of what.
    folder
        Where the files will lie.
    kind
        `series` or `volume`; its name is in the UIDs.
    spatial_locations_preserved
        Whether a pixel shows the same place as that of its source.
    """
    return [
        SliceFile(
            path=folder / f"{n:04d}.dcm",
            sop_instance_uid=request.uids.uid(f"{kind.name} instance {n}"),
            instance_number=n,
            source=source,
            plane=plane,
            spatial_locations_preserved=spatial_locations_preserved,
        )
        for n, (source, plane) in enumerate(zip(request.sources, request.masks.array, strict=True), start=1)
    ]


def describe_ct(head: Dataset, source: Dataset) -> None:
    """Add what a derived CT image says, whatever its values mean; the place and size of its source.

    Parameters
    ----------
    head
        What is added to.
    source
        Header of a source image.
    """
    head.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    head.FrameOfReferenceUID = source.FrameOfReferenceUID
    head.PositionReferenceIndicator = source.get("PositionReferenceIndicator") or ""
    head.PatientPosition = source.get("PatientPosition") or ""
    head.AcquisitionNumber, head.KVP = None, None
    head.Rows, head.Columns = source.Rows, source.Columns
    head.SamplesPerPixel, head.PhotometricInterpretation = 1, "MONOCHROME2"
    head.BitsAllocated = 16
    head.RescaleIntercept, head.RescaleSlope = 0, 1
    copy_body_part(head, source)
