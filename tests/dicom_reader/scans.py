"""A CT series as headers alone, without files and pixels: for what is decided before a pixel is read."""

from dataclasses import replace
from pathlib import Path

from dicom_reader.files.headers import ATTRIBUTES, ImageHeader


def header(**attributes):
    """Return a header without a file; what is missing is empty."""
    values = {
        ATTRIBUTES[keyword][0]: value if isinstance(value, bytes) else str(value).encode()
        for keyword, value in attributes.items()
        if value is not None
    }
    return ImageHeader(Path(attributes["SOPInstanceUID"]), values, "1.2.840.10008.1.2.1", None, None)


def scan(uid="1.2", count=30, *, keep=slice(None), numbers=None, step_mm=2.5, first_mm=100.0, **attributes):
    """Return a series whose instance numbers rise with the slices, from 1 or as given, and what is kept."""
    found = []
    for n in range(count):
        fields = {
            "SOPInstanceUID": f"{uid}.{n + 1}",
            "SeriesInstanceUID": uid,
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
            "Modality": "CT",
            "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
            "StudyInstanceUID": "1.2.3",
            "FrameOfReferenceUID": "1.2.4",
            "AcquisitionNumber": 1,
            "InstanceNumber": n + 1 if numbers is None else numbers[n],
            "ImagePositionPatient": f"-30\\40\\{first_mm + n * step_mm}",
            "ImageOrientationPatient": "1\\0\\0\\0\\1\\0",
            "PixelSpacing": "0.8\\0.6",
            "Rows": b"\10\0",
            "Columns": b"\10\0",
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
        }
        found.append(header(**{**fields, **attributes}))
    return found[keep]


def changed(headers, **attributes):
    """Return headers with other values."""
    values = {ATTRIBUTES[keyword][0]: str(value).encode() for keyword, value in attributes.items()}
    return [replace(one, values={**one.values, **values}) for one in headers]
