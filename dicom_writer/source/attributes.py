"""The attributes that results take over from their source, and how they are copied.

`values.fit_headers` comes first: behind it, each attribute in `COPIED` is valid or gone. What is in
`IDENTITY` is not touched.

References
----------
DICOM PS3.3 C.7.1.1, Patient; C.7.2.1, General Study; PS3.5 6.2, Value Representation.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Sequence

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_writer.encoding import elements_of

IDENTITY = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""Copied from the source exactly as they are, valid or not: a PACS files the result by them."""

GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_DEIDENTIFIED = ("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence")
LOSSINESS = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
PATIENT_AND_STUDY = (
    *("PatientAge", "PatientSize", "PatientWeight", "StudyDescription", "TimezoneOffsetFromUTC"),
    *_DEIDENTIFIED,
)
SCANNER = (
    *("Manufacturer", "InstitutionName", "StationName", "ManufacturerModelName"),
    *("DeviceSerialNumber", "SoftwareVersions"),
)
_PLACE = ("SliceThickness", "SliceLocation", *GEOMETRY)
_OTHERS = ("BodyPartExamined", "Laterality", "PatientPosition", "PositionReferenceIndicator")
COPIED = (*PATIENT_AND_STUDY, *SCANNER, *_PLACE, *LOSSINESS, *_OTHERS)
"""What results take over beside identity and UIDs."""
IDENTITY_TAGS = frozenset(int(Tag(keyword)) for keyword in IDENTITY)
GEOMETRY_TAGS = frozenset(int(Tag(keyword)) for keyword in GEOMETRY)
COPIED_TAGS = tuple(sorted(IDENTITY_TAGS | {int(Tag(keyword)) for keyword in COPIED}))
_ALSO_WRITTEN = (
    *("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID", "SOPClassUID"),
    *("SeriesNumber", "InstanceNumber", "Modality"),
)
_WRITTEN_TAGS = tuple(sorted({*COPIED_TAGS, *(int(Tag(keyword)) for keyword in _ALSO_WRITTEN)}))
VR_OF = {tag: str(dictionary_VR(tag)) for tag in _WRITTEN_TAGS}
BINARY_VRS = frozenset({"AT", "FD", "FL", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SQ", "SS", "SV"}) | {
    *("UL", "US", "UV"),
}
PADDING = " \0"


def copy_elements(source: Dataset, result: Dataset, keywords: Iterable[str]) -> None:
    """Copy attributes that have a value; text byte for byte, so that no character set changes it.

    Parameters
    ----------
    source, result
        Headers; private attributes in sequences are not copied.
    keywords
        Which attributes.
    """
    for keyword in keywords:
        item = source.get_item(keyword) if keyword in source else None
        if item is None or not item.value:
            continue
        vr = dictionary_VR(item.tag)
        if isinstance(item, RawDataElement) and item.VR not in BINARY_VRS:
            raw = unpadded(item)
            raw += b" " * (len(raw) % 2)
            result[item.tag] = item._replace(VR=vr, value=raw, length=len(raw), is_implicit_VR=False)
            continue
        value = copy.deepcopy(source[keyword].value)
        result[item.tag] = DataElement(item.tag, vr, value)
        for inner in value if vr == "SQ" else ():
            inner.remove_private_tags()


def raw_value(header: Dataset, keyword: str) -> bytes:
    """Return the encoded value of an attribute of text without padding; nothing where it is missing.

    Parameters
    ----------
    header
        Of any image.
    keyword
        Of the attribute.
    """
    item = header.get_item(keyword) if keyword in header else None
    if item is None:
        return b""
    if isinstance(item, RawDataElement):
        return unpadded(item)
    alone = Dataset()
    if header.get("SpecificCharacterSet"):
        alone.SpecificCharacterSet = header.SpecificCharacterSet
    alone[item.tag] = item
    return elements_of(alone)[int(item.tag)][8:].rstrip(PADDING.encode())


def digest_of(headers: Sequence[Dataset]) -> str:
    """Return a hash of all that results take over from headers, in their order: hexadecimal SHA-256.

    Parameters
    ----------
    headers
        Of the source images, in slice order.
    """
    digest = hashlib.sha256()
    for header in headers:
        for tag in present_tags(_WRITTEN_TAGS, header):
            digest.update(b"%08x" % tag + _bytes_of(header, tag) + b"\n")
        digest.update(b"frame %d\n" % getattr(header, "frame_number", 0))
    return digest.hexdigest()


def present_tags(tags: Iterable[int], header: Dataset) -> list[int]:
    """Return those of some tags that a header has.

    Parameters
    ----------
    tags
        Which tags are looked for.
    header
        The header.
    """
    there = set(map(int, header.keys()))
    return [tag for tag in tags if tag in there]


def _bytes_of(header: Dataset, tag: int) -> bytes:
    item = header.get_item(tag)
    if isinstance(item, RawDataElement) and item.VR not in BINARY_VRS and VR_OF[tag] != "SQ":
        return unpadded(item)
    return str(header[tag].value).encode()


def unpadded(item: RawDataElement) -> bytes:
    """Return the encoded value of an element without padding.

    Parameters
    ----------
    item
        An element that was not decoded.
    """
    return (item.value or b"").rstrip(PADDING.encode())
