"""UIDs of the standard by their keywords: those that are needed without pydicom, or that it has no name for.

Where pydicom is imported anyway, `pydicom.uid` has the others.

References
----------
DICOM PS3.6 Annex A, Registry of DICOM Unique Identifiers.
"""

import re

LONGEST = 64  # characters (PS3.5 9.1)
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")

# transfer syntaxes
ImplicitVRLittleEndian = "1.2.840.10008.1.2"
ExplicitVRLittleEndian = "1.2.840.10008.1.2.1"
EncapsulatedUncompressedExplicitVRLittleEndian = "1.2.840.10008.1.2.1.98"
DeflatedExplicitVRLittleEndian = "1.2.840.10008.1.2.1.99"
ExplicitVRBigEndian = "1.2.840.10008.1.2.2"
JPEGBaseline8Bit = "1.2.840.10008.1.2.4.50"
JPEGExtended12Bit = "1.2.840.10008.1.2.4.51"
JPEGSpectralSelectionNonHierarchical68 = "1.2.840.10008.1.2.4.53"
JPEGFullProgressionNonHierarchical1012 = "1.2.840.10008.1.2.4.55"
JPEGLossless = "1.2.840.10008.1.2.4.57"
JPEGLosslessNonHierarchical15 = "1.2.840.10008.1.2.4.58"
JPEGLosslessHierarchical28 = "1.2.840.10008.1.2.4.65"
JPEGLosslessHierarchical29 = "1.2.840.10008.1.2.4.66"
JPEGLosslessSV1 = "1.2.840.10008.1.2.4.70"
JPEGLSLossless = "1.2.840.10008.1.2.4.80"
JPEGLSNearLossless = "1.2.840.10008.1.2.4.81"
JPEG2000Lossless = "1.2.840.10008.1.2.4.90"
JPEG2000 = "1.2.840.10008.1.2.4.91"
JPEG2000MCLossless = "1.2.840.10008.1.2.4.92"
JPIPReferenced = "1.2.840.10008.1.2.4.94"
JPIPReferencedDeflate = "1.2.840.10008.1.2.4.95"
HTJ2KLossless = "1.2.840.10008.1.2.4.201"
HTJ2KLosslessRPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"
JPIPHTJ2KReferenced = "1.2.840.10008.1.2.4.204"
JPIPHTJ2KReferencedDeflate = "1.2.840.10008.1.2.4.205"
RLELossless = "1.2.840.10008.1.2.5"

# SOP classes
Verification = "1.2.840.10008.1.1"
StorageCommitmentPushModel = "1.2.840.10008.1.20.1"
MediaStorageDirectoryStorage = "1.2.840.10008.1.3.10"
CTImageStorage = "1.2.840.10008.5.1.4.1.1.2"
EnhancedCTImageStorage = "1.2.840.10008.5.1.4.1.1.2.1"
LegacyConvertedEnhancedCTImageStorage = "1.2.840.10008.5.1.4.1.1.2.2"
SecondaryCaptureImageStorage = "1.2.840.10008.5.1.4.1.1.7"
MultiFrameSingleBitSecondaryCaptureImageStorage = "1.2.840.10008.5.1.4.1.1.7.1"
MultiFrameGrayscaleByteSecondaryCaptureImageStorage = "1.2.840.10008.5.1.4.1.1.7.2"
MultiFrameGrayscaleWordSecondaryCaptureImageStorage = "1.2.840.10008.5.1.4.1.1.7.3"
MultiFrameTrueColorSecondaryCaptureImageStorage = "1.2.840.10008.5.1.4.1.1.7.4"
LabelMapSegmentationStorage = "1.2.840.10008.5.1.4.1.1.66.7"
DetachedStudyManagement = "1.2.840.10008.3.1.2.3.1"

# names of applications
DICOMApplicationContext = "1.2.840.10008.3.1.1.1"

NON_PATIENT_STORAGE = (
    "1.2.840.10008.5.1.4.38.",
    "1.2.840.10008.5.1.4.39.",
    "1.2.840.10008.5.1.4.43.",
    "1.2.840.10008.5.1.4.44.",
    "1.2.840.10008.5.1.4.45.",
    "1.2.840.10008.5.1.4.1.1.200.",
    "1.2.840.10008.5.1.4.1.1.201.",
)
"""What SOP classes of no patient begin with: hanging protocols, colour palettes, implant templates,
protocols and inventories. They have no modality."""


def is_uid(text: str) -> bool:
    """Return whether a text can be a UID; parts that begin with 0, as some scanners write them, are taken.

    Parameters
    ----------
    text
        Without padding.
    """
    return len(text) <= LONGEST and _UID.fullmatch(text) is not None
