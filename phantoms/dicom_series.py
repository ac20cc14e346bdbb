"""A phantom as a standard CT series: one CT Image Storage file for each slice."""

import uuid
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

_NAMESPACE = uuid.UUID("7c9c4a2e-5a0b-4d37-9d6c-2f6f1d0a8e51")
_OFFSET_HU = -1024
_DATE, _TIME = "20240117", "101500"

Triple = tuple[float, float, float]


def write_series(
    hu: NDArray[np.int16],
    folder: str | Path,
    *,
    spacing_mm: Triple,
    first_mm: Triple = (0.0, 0.0, 0.0),
    seed: int = 0,
    patient_name: str = "PHANTOM^ABDOMEN",
    patient_id: str | None = None,
    series_description: str = "Synthetic abdomen",
) -> list[Path]:
    """Write an axial CT series of a volume, the same bytes for the same arguments.

    Parameters
    ----------
    hu
        Hounsfield units -1024 to 3071, [slice, row, column] = [up, back, patient's left].
    folder
        Where the files go; made if need be.
    spacing_mm
        Distance between voxel centres, (slice, row, column).
    first_mm
        Centre of the first voxel, LPS coordinates as (z, y, x).
    seed
        Decides study, series, frame of reference and instance UIDs, together with the grid.
    patient_name, patient_id
        *Patient's Name* (0010,0010) and *Patient ID* (0010,0020); the ID names the seed if not given.
    series_description
        *Series Description* (0008,103E).

    Returns
    -------
    list of Path
        One file for each slice, in the order of the array. *Instance Number* (0020,0013) counts from the
        head, the other way, as many scanners do.

    Raises
    ------
    ValueError
        If a value cannot be stored in 12 bits.
    """
    if hu.min() < _OFFSET_HU or hu.max() > _OFFSET_HU + 4095:
        raise ValueError(
            f"HU from {hu.min()} to {hu.max()}; 12 bits hold {_OFFSET_HU} to {_OFFSET_HU + 4095}"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    key = f"{seed}/{hu.shape}/{spacing_mm}/{first_mm}"
    dataset = _shared_attributes(hu.shape, spacing_mm, seed, key)
    dataset.PatientName = patient_name
    dataset.PatientID = patient_id if patient_id is not None else f"PHANTOM-{seed}"
    dataset.SeriesDescription = series_description
    return [_write_slice(dataset, hu, k, folder, (spacing_mm, first_mm), key) for k in range(len(hu))]


def _write_slice(
    dataset: FileDataset, hu: NDArray[np.int16], k: int, folder: Path, grid: tuple[Triple, Triple], key: str
) -> Path:
    """Change what differs between slices, and write."""
    (dz, _, _), (z, y, x) = grid
    uid = _uid(f"{key}/instance/{k}")
    number = len(hu) - k
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.SOPInstanceUID = uid
    dataset.InstanceNumber = number
    dataset.ImagePositionPatient = [_number(x), _number(y), _number(z + k * dz)]
    dataset.SliceLocation = _number(z + k * dz)
    dataset.PixelData = (hu[k] - np.int16(_OFFSET_HU)).astype("<u2").tobytes()
    path = folder / f"IM{number:04d}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def _shared_attributes(shape: tuple[int, ...], spacing_mm: Triple, seed: int, key: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    _patient_and_study(dataset, f"{seed}")
    _series(dataset, key)
    _image(dataset, shape, spacing_mm)
    return dataset


def _patient_and_study(ds: Dataset, key: str) -> None:
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientBirthDate = ""
    ds.PatientSex = "O"
    ds.PatientComments = "Synthetic image, not a person"
    ds.StudyInstanceUID = _uid(f"{key}/study")
    ds.StudyDate, ds.StudyTime = _DATE, _TIME
    ds.StudyID = "1"
    ds.AccessionNumber = ""
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Synthetic CT abdomen"


def _series(ds: Dataset, key: str) -> None:
    ds.Modality = "CT"
    ds.SeriesInstanceUID = _uid(f"{key}/series")
    ds.SeriesNumber = 2
    ds.SeriesDate, ds.SeriesTime = _DATE, _TIME
    ds.PatientPosition = "HFS"
    ds.BodyPartExamined = "ABDOMEN"
    ds.ProtocolName = "Abdomen"
    ds.FrameOfReferenceUID = _uid(f"{key}/frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.Manufacturer = "clara-stages"
    ds.ManufacturerModelName = "phantoms"
    ds.DeviceSerialNumber = "0"
    ds.SoftwareVersions = "1"


def _image(ds: Dataset, shape: tuple[int, ...], spacing_mm: Triple) -> None:
    ds.SOPClassUID = CTImageStorage
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.InstanceCreationDate, ds.InstanceCreationTime = _DATE, _TIME
    ds.AcquisitionDate, ds.AcquisitionTime = _DATE, _TIME
    ds.ContentDate, ds.ContentTime = _DATE, _TIME
    ds.AcquisitionNumber = 1
    ds.KVP = "120"
    ds.ConvolutionKernel = "STANDARD"
    ds.GantryDetectorTilt = "0"
    ds.SliceThickness = _number(spacing_mm[0])
    ds.SpacingBetweenSlices = _number(spacing_mm[0])
    ds.PixelSpacing = [_number(spacing_mm[1]), _number(spacing_mm[2])]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = shape[1], shape[2]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelRepresentation = 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(_OFFSET_HU), "1", "HU"
    ds.WindowCenter, ds.WindowWidth = "40", "400"
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"


def _number(value: float) -> str:
    """Format a decimal string of at most 16 characters."""
    return f"{value:.6f}".rstrip("0").rstrip(".") or "0"


def _uid(name: str) -> UID:
    """Derive a UID from a name: the integer of a name-based UUID under 2.25."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, name).int}")
