"""Elements as bytes are what pydicom reads of them."""

import io

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from dicom_files import encoding
from dicom_files.file_meta import PREAMBLE, encoded_meta

CT = "1.2.840.10008.5.1.4.1.1.2"


def file_head(syntax=ExplicitVRLittleEndian, caller=b""):
    return PREAMBLE + encoded_meta(
        sop_class_uid=CT,
        sop_instance_uid="1.2.34",
        transfer_syntax=str(syntax),
        implementation_class_uid="1.2.3.4",
        implementation_version="TEST",
        source_ae_title=caller,
    )


def read(content):
    """Return the data set that pydicom reads of encoded elements."""
    return pydicom.dcmread(io.BytesIO(file_head() + content))


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


def test_frames_are_fragments_of_their_own():
    content = b"".join(encoding.encapsulated_pixel_data([b"ab", b"cdef"]))
    frames = pydicom.encaps.generate_fragments(content[12:])
    assert list(frames)[1:] == [b"ab", b"cdef"]


def test_a_command_set_has_its_length_before_it():
    found = encoding.command_set([(0x00000002, encoding.uid_value("1.2")), (0x00000100, b"\1\0")])
    assert found == (b"\0\0\0\0\4\0\0\0\x16\0\0\0" + b"\0\0\2\0\4\0\0\x001.2\0" + b"\0\0\0\1\2\0\0\0\1\0")


@pytest.mark.parametrize(
    ("syntax", "caller"), [(ExplicitVRLittleEndian, b"SCANNER"), (JPEG2000Lossless, b"CT")]
)
def test_file_meta_information_is_read_by_pydicom(syntax, caller):
    data = file_head(syntax, caller)
    meta = pydicom.dcmread(io.BytesIO(data)).file_meta
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == "1.2.34"
    assert meta.TransferSyntaxUID == syntax
    assert meta.SourceApplicationEntityTitle == caller.decode()
    assert meta.FileMetaInformationGroupLength == len(data) - 144


def test_a_file_that_nobody_sent_names_no_sender():
    assert "SourceApplicationEntityTitle" not in pydicom.dcmread(io.BytesIO(file_head())).file_meta
