"""Data sets as bytes are what pydicom reads of them."""

import io

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_files import encoding
from dicom_writer import encoding as dataset_encoding
from tests import phantoms


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("size", [4, 5])
def test_a_tail_follows_the_data_set(tmp_path, syntax, size):
    dataset = phantoms.ct_slices()[0]
    del dataset.PixelData
    dataset.file_meta.TransferSyntaxUID = syntax
    pixels = bytes(range(size))
    dataset_encoding.save(
        dataset, tmp_path / "x.dcm", encoding.pixel_data(iter([pixels[:3], pixels[3:]]), size)
    )
    found = pydicom.dcmread(tmp_path / "x.dcm")
    assert found.PatientID == "P-1"
    assert found.PixelData == pixels + bytes(size % 2)
    assert (tmp_path / "x.dcm").stat().st_size % 2 == 0


def test_the_meta_information_of_many_files_differs_in_the_instance_only():
    meta = phantoms.ct_slices()[0].file_meta
    for uid in ("1.2.3", "2.25.1234567"):
        head = dataset_encoding.file_head(meta, uid)
        found = pydicom.dcmread(io.BytesIO(head + encoding.text(0x00080018, "UI", uid)))
        assert found.file_meta.MediaStorageSOPInstanceUID == uid
        assert found.file_meta.FileMetaInformationGroupLength == len(head) - 128 - 4 - 12


def test_elements_keep_their_character_set():
    dataset = Dataset()
    dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 192", "山田^太郎"
    elements = dataset_encoding.elements_of(dataset)
    assert "山田^太郎".encode() in elements[0x00100010]
