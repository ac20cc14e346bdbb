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
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import CTImageStorage

from dicom_writer.dicom.header import add_comments, new_result
from dicom_writer.encoding import elements_of
from dicom_writer.finding import finding
from dicom_writer.mask.measure import Measurement
from dicom_writer.request.result_request import Given
from dicom_writer.series.slice_files import SliceFile, write_slice_files

SERIES_NUMBER_OFFSET = 3
_UNPAIRED = frozenset(
    {"ABDOMEN", "ABDOMENPELVIS", "CHEST", "CHESTABDOMEN", "CHESTABDPELVIS", "HEAD", "HEADNECK", "LIVER"}
    | {"NECK", "NECKCHEST", "NECKCHESTABDOMEN", "NECKCHESTABDPELV", "PANCREAS", "PELVIS", "SPLEEN", "TRUNK"}
    | {"CSPINE", "LSPINE", "TSPINE", "SPINE", "WHOLEBODY"}
)


class SeriesResult:
    """A series of derived CT images in a folder of its own, numbered in slice order."""

    name = "series"

    def make(self, given: Given, folder: Path) -> list[Path]:
        """Write one file a slice, on all cores."""
        with config.disable_value_validation():
            head = _head(given)
            common = elements_of(head)
        inside = folder / f"{given.file_name}.series"
        inside.mkdir()
        files = slice_files(given, inside, what="series")
        write_slice_files(files, head.file_meta, common, dtype=np.dtype("<u2"))
        return [file.path for file in files]

    def verify(self, given: Given, paths: Sequence[Path]) -> Mapping[int, Measurement]:
        """Read each by pydicom and arithmetic."""
        from dicom_writer.series.verify import verify_series

        return verify_series(paths, given)


RESULT = SeriesResult()


def slice_files(
    given: Given, folder: Path, *, what: str, spatial_locations_preserved: bool = True
) -> list[SliceFile]:
    """Return what each slice of a result is written from; files are numbered as the slices are."""
    return [
        SliceFile(
            path=folder / f"{n:04d}.dcm",
            sop_instance_uid=given.uids.uid(f"{what} instance {n}"),
            instance_number=n,
            source=source,
            plane=plane,
            spatial_locations_preserved=spatial_locations_preserved,
        )
        for n, (source, plane) in enumerate(zip(given.sources, given.masks.array, strict=True), start=1)
    ]


def _head(given: Given) -> FileDataset:
    """Return what all instances have in common."""
    head = new_result(
        given,
        sop_class_uid=CTImageStorage,
        what="series",
        modality="CT",
        series_offset=SERIES_NUMBER_OFFSET,
        description=f"AI mask: {finding(given.labels, given.measured)}",
    )
    head.DerivationDescription = "Mask: " + ", ".join(
        f"{value} {name}" for value, name in [(0, "background"), *((x.value, x.name) for x in given.labels)]
    )
    describe_ct(head, given.sources[0])
    add_comments(head, given)
    highest = max(label.value for label in given.labels)
    head.RescaleType = "US"  # unspecified: label values, not HU
    head.WindowCenter, head.WindowWidth = highest / 2 + 0.5, highest + 1
    head.BitsStored, head.HighBit, head.PixelRepresentation = 16, 15, 0
    return head


def describe_ct(head: Dataset, source: Dataset) -> None:
    """Add what a derived CT image says, whatever its values mean; the place and size of its source."""
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


def copy_body_part(head: Dataset, source: Dataset) -> None:
    """Copy *Body Part Examined* (0018,0015), and *Laterality* (0020,0060) unless the part is no pair."""
    part, side = str(source.get("BodyPartExamined") or ""), str(source.get("Laterality") or "")
    if part and (side or part in _UNPAIRED):
        head.BodyPartExamined = part
    if side or part not in _UNPAIRED:
        head.Laterality = side
