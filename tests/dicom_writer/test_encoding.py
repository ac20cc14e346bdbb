"""Elements as bytes are what pydicom reads of them."""

import io

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_writer import encoding
from tests import phantoms


def read(content):
    """Return the data set that pydicom reads of encoded elements."""
    return pydicom.dcmread(io.BytesIO(encoding.file_head(phantoms.ct_slices()[0].file_meta) + content))


def test_an_element_is_encoded_as_the_standard_shows_it():
    assert encoding.text(0x00100020, "LO", "P-1") == b"\x10\x00\x20\x00LO\x04\x00P-1 "
    assert encoding.text(0x00080018, "UI", "1.2") == b"\x08\x00\x18\x00UI\x04\x001.2\x00"
    assert encoding.numbers(0x00280010, "US", 512) == b"\x28\x00\x10\x00US\x02\x00\x00\x02"
    assert encoding.element(0x7FE00010, "OW", b"ab") == b"\xe0\x7f\x10\x00OW\x00\x00\x02\x00\x00\x00ab"


def test_nested_sequences_are_read_as_they_were_meant():
    inner = encoding.code(0x0040A170, "121322", "DCM", "Source image for image processing operation")
    content = encoding.sequence(0x00082112, encoding.text(0x00081155, "UI", "1.2.3") + inner, b"")
    first, second = read(content).SourceImageSequence
    assert first.ReferencedSOPInstanceUID == "1.2.3"
    assert first.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert len(second) == 0


def test_several_values_are_parted():
    content = encoding.text(0x00200032, "DS", "1.5", "-2", "3")
    assert read(content).ImagePositionPatient == [1.5, -2, 3]
    assert list(read(encoding.numbers(0x00209157, "UL", 1, 70000)).DimensionIndexValues) == [1, 70000]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("size", [4, 5])
def test_a_tail_follows_the_data_set(tmp_path, syntax, size):
    dataset = phantoms.ct_slices()[0]
    del dataset.PixelData
    dataset.file_meta.TransferSyntaxUID = syntax
    pixels = bytes(range(size))
    encoding.save(dataset, tmp_path / "x.dcm", encoding.pixel_data(iter([pixels[:3], pixels[3:]]), size))
    found = pydicom.dcmread(tmp_path / "x.dcm")
    assert found.PatientID == "P-1"
    assert found.PixelData == pixels + bytes(size % 2)
    assert (tmp_path / "x.dcm").stat().st_size % 2 == 0


def test_frames_are_fragments_of_their_own():
    content = b"".join(encoding.encapsulated_pixel_data([b"ab", b"cdef"]))
    frames = pydicom.encaps.generate_fragments(content[12:])
    assert list(frames)[1:] == [b"ab", b"cdef"]


def test_the_meta_information_of_many_files_differs_in_the_instance_only():
    meta = phantoms.ct_slices()[0].file_meta
    head = encoding.file_head_maker(meta)
    for uid in ("1.2.3", "2.25.1234567"):
        found = pydicom.dcmread(io.BytesIO(head(uid) + encoding.text(0x00080018, "UI", uid)))
        assert found.file_meta.MediaStorageSOPInstanceUID == uid
        assert found.file_meta.FileMetaInformationGroupLength == len(head(uid)) - 128 - 4 - 12


def test_elements_keep_their_character_set():
    dataset = Dataset()
    dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 192", "山田^太郎"
    elements = encoding.elements_of(dataset)
    assert "山田^太郎".encode() in elements[0x00100010]
