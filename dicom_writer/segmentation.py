"""The DICOM Segmentation object of a mask, binary, one segment a label, made by highdicom.

References
----------
DICOM PS3.3 A.51, Segmentation IOD; C.8.20.2, Segmentation Image.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from dicom_writer.frames import as_images, image_key, refer_to_frames
from dicom_writer.header import add_provenance
from dicom_writer.labels import Code, Label, finding
from dicom_writer.measure import Measurement
from dicom_writer.provenance import (
    MANUFACTURER,
    MODEL_NAME,
    copy_identity,
    result_series_number,
    software_version,
    without_identity,
)
from dicom_writer.results import Given

SERIES_NUMBER_OFFSET = 1
_EVEN_MM = 0.01


class SegResult:
    """A binary Segmentation; frames without a voxel are left out unless asked for, or all are such."""

    name = "seg"

    def make(self, given: Given, folder: Path) -> list[Path]:
        """Write the one file."""
        path = folder / f"{given.file_name}.seg.dcm"
        make_segmentation(given).save_as(path, enforce_file_format=True)
        return [path]

    def verify(self, given: Given, paths: Sequence[Path]) -> Mapping[int, Measurement]:
        """Read it by pydicom and arithmetic."""
        from dicom_writer.verify import verify_segmentation

        (path,) = paths
        return verify_segmentation(path, given)


RESULT = SegResult()


def make_segmentation(given: Given) -> Dataset:
    """Return the Segmentation object of a mask: explicit VR little endian, complete but for its file."""
    masks, sources, labels, uids = given.masks, given.sources, given.labels, given.uids
    array, thickness_mm = masks.array, masks.thickness_mm
    first, *others = as_images(sources)
    said = finding(labels, given.measured)
    with config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # remarks on odd values of the source
        segmentation: Dataset = hd.seg.Segmentation(
            source_images=[_as_template(first, float(thickness_mm[0])), *others],
            pixel_array=array,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_describe(label, given) for label in labels],
            series_instance_uid=uids.uid("seg series"),
            series_number=result_series_number(sources[0], offset=SERIES_NUMBER_OFFSET),
            sop_instance_uid=uids.uid("seg instance"),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL_NAME,
            software_versions=software_version(),
            device_serial_number="0",
            content_label="LIVER_TUMOUR",
            content_description=said,
            content_creator_name=None,
            series_description=f"AI segmentation: {said}"[:64],
            specific_character_set=None,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            omit_empty_frames=not (given.is_empty or given.options.keep_empty_frames),
        )
        refer_to_frames(segmentation, sources)
        _name_dimensions(segmentation, uids.uid("dimension organization"))
        if np.ptp(thickness_mm) > _EVEN_MM:
            _measure_each_frame(segmentation, sources, thickness_mm)
        add_provenance(segmentation, given)
        copy_identity(sources[0], segmentation)
    return segmentation


def _describe(label: Label, given: Given) -> hd.seg.SegmentDescription:
    provenance = given.provenance
    description = hd.seg.SegmentDescription(
        segment_number=label.value,
        segment_label=label.name,
        segmented_property_category=_concept(label.category),
        segmented_property_type=_concept(label.type),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=provenance.algorithm_name,
            family=codes.DCM.ArtificialIntelligence,
            version=provenance.version,
            parameters={"sha256": provenance.parameters} if provenance.parameters else None,
        ),
        tracking_uid=given.uids.uid(f"segment {label.value}"),
        tracking_id=label.name,
        anatomic_regions=[_concept(label.region)] if label.region else None,
        display_color=hd.color.CIELabColor.from_rgb(*label.rgb),
    )
    description.SegmentDescription = label.description
    return description


def _concept(code: Code) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)


def _as_template(source: Dataset, spacing_mm: float) -> Dataset:
    """Return a copy of the first source image as highdicom shall see it.

    It names nobody, and its slices are as thick as they are apart: a voxel of a segment fills the
    space between slices, no more and no less, whatever the thickness of the reconstruction.
    """
    spacing = format_number_as_ds(spacing_mm)
    return without_identity(source, SliceThickness=spacing, SpacingBetweenSlices=spacing)


def _measure_each_frame(
    segmentation: Dataset, sources: Sequence[Dataset], thickness_mm: NDArray[np.float64]
) -> None:
    """Give each frame a thickness of its own, where the slices are not evenly spaced."""
    thickness_of = {image_key(source): mm for source, mm in zip(sources, thickness_mm, strict=True)}
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    (common,) = shared.PixelMeasuresSequence
    del shared.PixelMeasuresSequence
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        measures = Dataset()
        measures.PixelSpacing = common.PixelSpacing
        measures.SliceThickness = format_number_as_ds(
            float(
                thickness_of[
                    str(image.ReferencedSOPInstanceUID), int(image.get("ReferencedFrameNumber") or 0)
                ]
            )
        )
        group.PixelMeasuresSequence = [measures]


def _name_dimensions(segmentation: Dataset, uid: str) -> None:
    """Replace the random *Dimension Organization UID* (0020,9164), so that a rerun gives the same."""
    for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
