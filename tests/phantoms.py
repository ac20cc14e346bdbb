"""A small CT series and a mask with a known position, spacing and answer, made in memory.

The default series: 5 axial slices of 16 x 20 pixels, 2.5 mm apart, 0.8 mm between rows, 0.6 mm
between columns, the first pixel of the lowest slice at (-30, 40, 100) mm. At slice k, row r and
column c it has ``100 * k + 10 * r + c - 500`` HU. Instance numbers run against the positions, and
slices are thicker than they are apart, so that only positions give the right answer.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicom_reader.selection.rules import Rules
from stages import Origin, SliceOrigin, Volume
from stages.volume.labels import Code, Label

SHAPE = (5, 16, 20)
SPACING = (2.5, 0.8, 0.6)
FIRST = (-30.0, 40.0, 100.0)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ANY_UNITS = Rules.model_validate({"require": {"rescale_type": "any"}})  # some real files say US
STUDY, SERIES, FRAME = "1.2.3.1", "1.2.3.2", "1.2.3.3"
INTERCEPT = -1024
AFFINE = np.array(
    [
        [0.0, 0.0, 0.6, -30.0],
        [0.0, 0.8, 0.0, 40.0],
        [2.5, 0.0, 0.0, 100.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)

LIVER = Code("10200004", "SCT", "Liver")
LABELS = (
    Label(
        value=1,
        name="Liver",
        description="Liver without the voxels of the tumour segment",
        type=LIVER,
        rgb=(221, 130, 101),
    ),
    Label(
        value=2,
        name="Liver tumour",
        description="Liver tumour, of no stated origin or malignancy",
        category=Code("49755003", "SCT", "Morphologically Abnormal Structure"),
        type=Code("108369006", "SCT", "Neoplasm"),
        region=LIVER,
        rgb=(255, 205, 60),
    ),
)


def hounsfield(shape=SHAPE):
    """Return the phantom's values in HU."""
    k, r, c = np.indices(shape)
    return (100 * k + 10 * r + c - 500).astype(np.int16)


def uid_of(n, series=SERIES):
    """Return the SOP instance UID of a slice, counted from the lowest."""
    return f"{series}.{n + 1}"


def ct_slices(shape=SHAPE, *, spacing=SPACING, first=FIRST, orientation=AXIAL, series=SERIES, **attributes):
    """Return the data sets of a CT series, in the order of their positions along the normal.

    Further attributes replace the default ones in every slice.
    """
    along_row, along_column = np.reshape(orientation, (2, 3))
    step = np.cross(along_row, along_column) * spacing[0]
    slices = []
    for n, hu in enumerate(hounsfield(shape)):
        ds = _file_dataset(uid_of(n, series))
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Doe^Jane", "P-1", "19500101", "F"
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = STUDY, series, FRAME
        ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20260102", "101500", "7", "A-1"
        ds.ReferringPhysicianName = ds.PositionReferenceIndicator = ds.StudyDescription = ""
        ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "CT", "phantoms", "CT-1"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.SeriesNumber, ds.InstanceNumber, ds.SliceThickness = 3, shape[0] - n, spacing[0] + 0.5
        ds.ImagePositionPatient = [round(float(v), 6) for v in np.asarray(first) + n * step]
        ds.ImageOrientationPatient = list(orientation)
        ds.PixelSpacing = list(spacing[1:])
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, INTERCEPT, "HU"
        put_pixels(ds, (hu.astype(np.int32) - INTERCEPT).astype(np.uint16), bits_stored=12)
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)
        slices.append(ds)
    return slices


def _file_dataset(uid):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, uid
    return ds


def put_pixels(ds, stored, *, bits_stored=16):
    """Give a slice stored values, signed or not as their type is."""
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, bits_stored, bits_stored - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.PixelData = stored.tobytes()


def save(slices, folder):
    """Write slices under names that say nothing of their order, some in a folder of their own."""
    for n, ds in enumerate(slices):
        path = Path(folder) / ("" if n % 2 else "deeper") / f"IM{(7 * n) % 101:03d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
    return Path(folder)


def localizer(series="1.2.3.4"):
    """Return a localizer image, coronal."""
    (ds,) = ct_slices((1, 30, 30), series=series, orientation=(1, 0, 0, 0, 0, -1))
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    return ds


def mr_slices(count=2, series="1.2.3.5"):
    """Return MR images."""
    return ct_slices((count, 8, 8), series=series, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")


def labels(shape=SHAPE):
    """Return a mask of 24 liver and 4 tumour voxels, nowhere symmetric.

    Liver: slices 1 and 2, rows 3 to 5, columns 4 to 8, less the tumour at slice 2, rows 4 and 5,
    columns 6 and 7, and one voxel more missing at slice 1, row 3, columns 7 and 8.
    """
    array = np.zeros(shape, dtype=np.uint8)
    array[1:3, 3:6, 4:9] = 1
    array[1, 3, 7:9] = 0
    array[2, 4:6, 6:8] = 2
    return array


def mask(array=None, *, affine=AFFINE, with_slices=True, series=SERIES, meanings=LABELS):
    """Return a mask on the grid of the default series; `meanings` says what its labels mean."""
    array = labels() if array is None else array
    slices = tuple(
        SliceOrigin(sop_instance_uid=uid_of(n, series), position=(-30.0, 40.0, 100.0 + 2.5 * n))
        for n in range(len(array))
    )
    origin = Origin(
        series_instance_uid=series,
        study_instance_uid=STUDY if with_slices else "",
        frame_of_reference_uid=FRAME if with_slices else "",
        slices=slices if with_slices else (),
        labels=meanings,
    )
    return Volume(array=array, affine=affine.copy(), origin=origin)


def drawn_on(volume, array):
    """Return a mask of liver and tumour on the grid of a CT volume."""
    return replace(volume, array=array, origin=replace(volume.origin, labels=LABELS))


def read_back(path, shape=SHAPE):
    """Return the label values of a segmentation by pydicom alone, in slice order of the default series."""
    dataset = dcmread(path)
    found = np.zeros(shape, dtype=np.uint8)
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    frames = bits[: dataset.NumberOfFrames * shape[1] * shape[2]].reshape(-1, *shape[1:])
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        z = group.PlanePositionSequence[0].ImagePositionPatient[2]
        segment = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[round((z - FIRST[2]) / SPACING[0])][frame == 1] = segment
    return found
