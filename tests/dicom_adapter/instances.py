"""Small instances for tests of the network: their answers are known by hand."""

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT = "1.2.840.10008.5.1.4.1.1.2"


def instance(number=1, *, study="1.2.3", series="1.2.3.4", uid=None, size=2048, fill=0, **more):
    """Return a CT of a few kilobytes; `fill` is the value of its pixels."""
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.SpecificCharacterSet = "ISO_IR 100"
    found.SOPClassUID = more.pop("sop_class", CT)
    found.SOPInstanceUID = uid or f"{series}.{number}"
    found.Modality = "CT"
    found.SeriesDescription = "axial"
    found.PatientName = "SECRET^NAME"
    found.PatientID = "4711"
    found.StudyInstanceUID = study
    found.SeriesInstanceUID = series
    found.InstanceNumber = str(number)
    found.Rows, found.Columns = 1, size // 2
    found.BitsAllocated = found.BitsStored = 16
    found.HighBit, found.PixelRepresentation, found.SamplesPerPixel = 15, 1, 1
    found.PhotometricInterpretation = "MONOCHROME2"
    found.PixelData = bytes([fill]) * size
    for keyword, value in more.items():
        setattr(found, keyword, value)
    return found


def write(folder, datasets, *, syntax=ExplicitVRLittleEndian):
    """Write files and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for n, each in enumerate(datasets):
        each.file_meta = FileMetaDataset()
        each.file_meta.TransferSyntaxUID = syntax
        path = folder / f"{n:05}.dcm"
        each.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
