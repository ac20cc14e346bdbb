"""The header of one DICOM file: the few attributes the reader needs, refused by name where they are odd."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dicom_files.header import read_file_header
from dicom_files.uids import ExplicitVRBigEndian, is_uid
from stages import InputError
from stages.runtime.logs import printable

ATTRIBUTES: Mapping[str, tuple[int, str]] = {
    "SpecificCharacterSet": (0x00080005, "Specific Character Set"),
    "ImageType": (0x00080008, "Image Type"),
    "InstanceCreationTime": (0x00080013, "Instance Creation Time"),
    "SOPClassUID": (0x00080016, "SOP Class UID"),
    "SOPInstanceUID": (0x00080018, "SOP Instance UID"),
    "AcquisitionUID": (0x00080017, "Acquisition UID"),
    "StudyDate": (0x00080020, "Study Date"),
    "SeriesDate": (0x00080021, "Series Date"),
    "AcquisitionDate": (0x00080022, "Acquisition Date"),
    "ContentDate": (0x00080023, "Content Date"),
    "AcquisitionDateTime": (0x0008002A, "Acquisition DateTime"),
    "SeriesTime": (0x00080031, "Series Time"),
    "AcquisitionTime": (0x00080032, "Acquisition Time"),
    "ContentTime": (0x00080033, "Content Time"),
    "Modality": (0x00080060, "Modality"),
    "SeriesDescription": (0x0008103E, "Series Description"),
    "DerivationDescription": (0x00082111, "Derivation Description"),
    "IrradiationEventUID": (0x00083010, "Irradiation Event UID"),
    "PatientName": (0x00100010, "Patient's Name"),
    "PatientID": (0x00100020, "Patient ID"),
    "IssuerOfPatientID": (0x00100021, "Issuer of Patient ID"),
    "PatientBirthDate": (0x00100030, "Patient's Birth Date"),
    "ContrastBolusAgent": (0x00180010, "Contrast/Bolus Agent"),
    "BodyPartExamined": (0x00180015, "Body Part Examined"),
    "ScanOptions": (0x00180022, "Scan Options"),
    "SliceThickness": (0x00180050, "Slice Thickness"),
    "KVP": (0x00180060, "KVP"),
    "DataCollectionDiameter": (0x00180090, "Data Collection Diameter"),
    "ProtocolName": (0x00181030, "Protocol Name"),
    "ContrastBolusStartTime": (0x00181042, "Contrast/Bolus Start Time"),
    "TriggerTime": (0x00181060, "Trigger Time"),
    "NominalInterval": (0x00181062, "Nominal Interval"),
    "ReconstructionDiameter": (0x00181100, "Reconstruction Diameter"),
    "TableHeight": (0x00181130, "Table Height"),
    "ExposureTime": (0x00181150, "Exposure Time"),
    "XRayTubeCurrent": (0x00181151, "X-Ray Tube Current"),
    "Exposure": (0x00181152, "Exposure"),
    "FilterType": (0x00181160, "Filter Type"),
    "FocalSpots": (0x00181190, "Focal Spot(s)"),
    "ConvolutionKernel": (0x00181210, "Convolution Kernel"),
    "PatientPosition": (0x00185100, "Patient Position"),
    "SpiralPitchFactor": (0x00189311, "Spiral Pitch Factor"),
    "ReconstructionAlgorithm": (0x00189315, "Reconstruction Algorithm"),
    "ImageFilter": (0x00189320, "Image Filter"),
    "ExposureModulationType": (0x00189323, "Exposure Modulation Type"),
    "ContrastBolusAgentPhase": (0x00189344, "Contrast/Bolus Agent Phase"),
    "MultienergySourceTechnique": (0x00189368, "Multi-energy Source Technique"),
    "XRayDetectorLabel": (0x00189373, "X-Ray Detector Label"),
    "StudyInstanceUID": (0x0020000D, "Study Instance UID"),
    "SeriesInstanceUID": (0x0020000E, "Series Instance UID"),
    "SeriesNumber": (0x00200011, "Series Number"),
    "AcquisitionNumber": (0x00200012, "Acquisition Number"),
    "InstanceNumber": (0x00200013, "Instance Number"),
    "ImagePositionPatient": (0x00200032, "Image Position (Patient)"),
    "ImageOrientationPatient": (0x00200037, "Image Orientation (Patient)"),
    "StackID": (0x00209056, "Stack ID"),
    "TemporalPositionIdentifier": (0x00200100, "Temporal Position Identifier"),
    "ImagesInAcquisition": (0x00201002, "Images in Acquisition"),
    "ImageComments": (0x00204000, "Image Comments"),
    "TemporalPositionIndex": (0x00209128, "Temporal Position Index"),
    "NominalCardiacTriggerDelayTime": (0x00209153, "Nominal Cardiac Trigger Delay Time"),
    "NominalPercentageOfCardiacPhase": (0x00209241, "Nominal Percentage of Cardiac Phase"),
    "NominalPercentageOfRespiratoryPhase": (0x00209245, "Nominal Percentage of Respiratory Phase"),
    "StartingRespiratoryPhase": (0x00209247, "Starting Respiratory Phase"),
    "ActualCardiacTriggerDelayTime": (0x00209252, "Actual Cardiac Trigger Delay Time"),
    "TemporalPositionTimeOffset": (0x0020930D, "Temporal Position Time Offset"),
    "FrameOfReferenceUID": (0x00200052, "Frame of Reference UID"),
    "SamplesPerPixel": (0x00280002, "Samples per Pixel"),
    "PhotometricInterpretation": (0x00280004, "Photometric Interpretation"),
    "NumberOfFrames": (0x00280008, "Number of Frames"),
    "Rows": (0x00280010, "Rows"),
    "Columns": (0x00280011, "Columns"),
    "PixelSpacing": (0x00280030, "Pixel Spacing"),
    "BitsAllocated": (0x00280100, "Bits Allocated"),
    "BitsStored": (0x00280101, "Bits Stored"),
    "HighBit": (0x00280102, "High Bit"),
    "PixelRepresentation": (0x00280103, "Pixel Representation"),
    "PixelPaddingValue": (0x00280120, "Pixel Padding Value"),
    "PixelPaddingRangeLimit": (0x00280121, "Pixel Padding Range Limit"),
    "RescaleIntercept": (0x00281052, "Rescale Intercept"),
    "RescaleSlope": (0x00281053, "Rescale Slope"),
    "RescaleType": (0x00281054, "Rescale Type"),
}
_TAGS = {keyword: tag for keyword, (tag, _) in ATTRIBUTES.items()}
_WANTED = frozenset(_TAGS.values())


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """The needed attributes of one DICOM file.

    Attributes
    ----------
    path
        The file.
    values
        Encoded values by tag.
    transfer_syntax
        *Transfer Syntax UID* (0002,0010); implicit or explicit little endian where the file has no
        meta information.
    pixel_offset, pixel_length
        Where the value of *Pixel Data* (7FE0,0010) begins in the file, and its length, in bytes; None
        where there is none, or it cannot be told without decompressing (length: encapsulated).
    instance_from_meta
        Whether *SOP Instance UID* (0008,0018) is missing and was taken from the file's meta information.
    frame
        Which frame of a multi-frame file this is, from 1; None for a file of one image.
    frames
        How many frames the file has.
    own_series_uid
        *Series Instance UID* (0020,000E) of the file, where its image was joined with those of others.
    """

    path: Path
    values: Mapping[int, bytes]
    transfer_syntax: str
    pixel_offset: int | None
    pixel_length: int | None
    instance_from_meta: bool = False
    frame: int | None = None
    frames: int = 1
    own_series_uid: str = ""

    @property
    def name(self) -> str:
        """The file's name, with the frame if it has several, fit for one line of a log."""
        return printable(self.path.name) + (f" frame {self.frame}" if self.frame else "")

    def text(self, keyword: str) -> str:
        """Return a value as text, empty where the attribute is missing or empty.

        Parameters
        ----------
        keyword
            One of `ATTRIBUTES`.
        """
        return _text_of(self.values.get(_TAGS[keyword], b""))

    def uid(self, keyword: str) -> str:
        """Return a UID, refused where it is missing or none.

        Parameters
        ----------
        keyword
            One of `ATTRIBUTES`.
        """
        text = self.text(keyword)
        if not text:
            raise self.refuse(keyword, "is missing")
        if not is_uid(text):
            raise self.refuse(keyword, f"is no UID: {text[:80]!r}")
        return text

    def numbers(self, keyword: str, count: int) -> tuple[float, ...]:
        """Return decimal numbers, refused where they are missing, too few or not finite.

        Parameters
        ----------
        keyword
            One of `ATTRIBUTES`, whose values are texts.
        count
            How many there must be.
        """
        text = self.text(keyword)
        if not text:
            raise self.refuse(keyword, "is missing")
        found = _numbers_of(text)
        if len(found) != count or not all(map(math.isfinite, found)):
            raise self.refuse(keyword, f"must be {count} finite number(s), found {text[:80]!r}")
        return found

    def integer(self, keyword: str, default: int | None = None) -> int:
        """Return an unsigned short, refused where it is missing and there is no default.

        Parameters
        ----------
        keyword
            One of `ATTRIBUTES`, whose value is binary.
        default
            What is returned where it is missing; None refuses that.
        """
        raw = self.values.get(ATTRIBUTES[keyword][0], b"")
        if not raw and default is not None:
            return default
        if len(raw) != 2:
            raise self.refuse(keyword, "is missing" if not raw else f"has {len(raw)} bytes instead of 2")
        return int.from_bytes(raw, "big" if self.transfer_syntax == ExplicitVRBigEndian else "little")

    def refuse(self, keyword: str, problem: str) -> InputError:
        """Return the error that names this file and one of its attributes.

        Parameters
        ----------
        keyword
            One of `ATTRIBUTES`.
        problem
            What is wrong with it: the end of the sentence.
        """
        return InputError(f"{self.name}: {self.named(keyword)} {problem}")

    @staticmethod
    def named(keyword: str) -> str:
        """Return an attribute's name and tag.

        Parameters
        ----------
        keyword
            One of `ATTRIBUTES`.
        """
        tag, name = ATTRIBUTES[keyword]
        return f"{name} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def read_header(path: Path) -> ImageHeader | None:
    """Read the header of a file, without its pixels.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Header or None
        None when the file is not DICOM.

    Raises
    ------
    InputError
        If the file cannot be read, or is DICOM and damaged.
    """
    found = read_file_header(path, _WANTED)
    if found is None:
        return None
    return ImageHeader(
        path,
        found.values,
        found.transfer_syntax,
        found.pixel_offset,
        found.pixel_length,
        found.instance_from_meta,
    )


@lru_cache(maxsize=1 << 12)
def _text_of(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip("\0 ")


@lru_cache(maxsize=1 << 12)
def _numbers_of(text: str) -> tuple[float, ...]:
    """Return decimal numbers, none where one of them is no number; slices share most of theirs."""
    try:
        return () if "_" in text else tuple(float(part) for part in text.split("\\"))
    except ValueError:
        return ()
