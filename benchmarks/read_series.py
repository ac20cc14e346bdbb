"""The CT series that ``benchmarks/read.py`` reads: a noisy abdomen-like body, in any transfer syntax.

About 3 : 1 compressible, as abdominal CT is; headers of some 75 elements with a sequence in them.
"""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

SYNTAXES = {
    "uncompressed": ExplicitVRLittleEndian,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
    "HTJ2K": HTJ2KLossless,
    "JPEG lossless": JPEGLosslessSV1,
    "RLE": RLELossless,
}
_MATRIX = 512


def make_series(folder: Path, name: str, count: int) -> None:
    """Write a series of ``count`` slices in one of ``SYNTAXES``, if it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    if len(list(folder.iterdir())) == count:
        return
    for n in range(count):
        stored = (hounsfield(n, count) + 1024).astype(np.uint16)
        dataset = _dataset(n, stored)
        dataset.file_meta.TransferSyntaxUID = SYNTAXES[name]
        if name == "RLE":
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.PixelData = stored.tobytes()
            dataset.compress(RLELossless, generate_instance_uid=False)
        elif name == "uncompressed":
            dataset.PixelData = stored.tobytes()
        else:
            dataset.PixelData = encapsulate([_encoded(name, stored)])
        dataset["PixelData"].VR = "OW"
        dataset.save_as(folder / f"IM{(n * 7919) % 10007:05d}", enforce_file_format=True)


def hounsfield(n: int, count: int) -> NDArray[np.int16]:
    """Return one slice: body, liver, spine, table, each with noise."""
    rng = np.random.default_rng(n)
    y, x = np.mgrid[-1 : 1 : _MATRIX * 1j, -1 : 1 : _MATRIX * 1j]
    size = 0.85 + 0.1 * np.sin(3 * n / count)
    hu = np.full((_MATRIX, _MATRIX), -1000.0)
    for value, cx, cy, rx, ry in (
        (-100, 0, 0, 0.88, 0.66),
        (40, 0, 0, 0.8, 0.58),
        (105, -0.35, -0.1, 0.35, 0.3),
        (60, 0.4, 0.1, 0.2, 0.25),
        (700, 0, 0.4, 0.12, 0.12),
        (-800, 0.1, -0.3, 0.15, 0.08),
    ):
        hu[((x - cx * size) / (rx * size)) ** 2 + ((y - cy * size) / (ry * size)) ** 2 < 1] = value
    hu += rng.normal(0, np.where(hu > -900, 12, 4))
    hu[x**2 + y**2 > 1] = -1024
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


def _encoded(name: str, stored: NDArray[np.uint16]) -> bytes:
    if name == "JPEG-LS":
        return bytes(imagecodecs.jpegls_encode(stored))
    if name == "JPEG 2000":
        return bytes(imagecodecs.jpeg2k_encode(stored, level=0, codecformat="j2k", reversible=True))
    if name == "HTJ2K":
        return bytes(imagecodecs.htj2k_encode(stored, reversible=True))
    return bytes(imagecodecs.ljpeg_encode(stored, bitspersample=16))


def _dataset(n: int, stored: NDArray[np.uint16]) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"1.2.3.4.{n + 1}"
    ds = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"1.2.3.4.{n + 1}"
    ds.ImageType, ds.Modality = ["ORIGINAL", "PRIMARY", "AXIAL"], "CT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3.1", "1.2.3.4", "1.2.3.3"
    ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientBirthDate = "Bench^Mark", "B-1", "O", ""
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(ds, keyword, "20260102")
    for keyword in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(ds, keyword, "101500.000000")
    text = (
        "Manufacturer InstitutionName StationName StudyDescription SeriesDescription ManufacturerModelName "
        "DeviceSerialNumber ProtocolName ConvolutionKernel FilterType BodyPartExamined StudyID"
    )
    for keyword in text.split():
        setattr(ds, keyword, "BENCHMARK")
    numbers = (
        "KVP DataCollectionDiameter ReconstructionDiameter DistanceSourceToDetector GantryDetectorTilt "
        "DistanceSourceToPatient TableHeight ExposureTime XRayTubeCurrent Exposure GeneratorPower FocalSpots "
        "SingleCollimationWidth TotalCollimationWidth TableSpeed SpiralPitchFactor WindowCenter WindowWidth"
    )
    for keyword in numbers.split():
        setattr(ds, keyword, 1)
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3.9"
    ds.ReferencedImageSequence = [reference]
    ds.PatientPosition, ds.SliceThickness, ds.SliceLocation = "HFS", 3.0, 1.5 * n
    ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = 3, 1, n + 1
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-250, -250, 1.5 * n], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = [0.9, 0.9], 1, -1024, "HU"
    ds.Rows = ds.Columns = _MATRIX
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelData = stored.tobytes()
    return ds
