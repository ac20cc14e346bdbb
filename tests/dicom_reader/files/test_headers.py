"""The needed attributes of one file, however it is encoded."""

import zlib
from contextlib import suppress

import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_reader.files.headers import read_header
from stages import InputError
from tests import phantoms


@pytest.fixture
def one(tmp_path):
    """Return what writes one slice, changed by a function, and gives its path."""

    def write(change=lambda ds: None, **how):
        (ds,) = phantoms.ct_slices((1, 16, 20))
        change(ds)
        path = tmp_path / "IM1"
        dcmwrite(path, ds, **{"enforce_file_format": True, **how})
        return path

    return write


def assert_is_the_slice(header):
    assert header.uid("SOPInstanceUID") == "1.2.3.2.1"
    assert header.integer("Rows") == 16
    assert header.numbers("PixelSpacing", 2) == (0.8, 0.6)
    assert header.numbers("ImagePositionPatient", 3) == (-30, 40, 100)
    assert header.pixel_length == 16 * 20 * 2


def test_explicit_little_endian_is_scanned(one):
    path = one()
    header = read_header(path)
    assert_is_the_slice(header)
    stored = phantoms.hounsfield((1, 16, 20)) + 1024
    assert path.read_bytes()[header.pixel_offset :] == stored.tobytes()


def test_implicit_little_endian_is_scanned(one):
    def implicit(ds):
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian

    assert_is_the_slice(read_header(one(implicit)))


def test_big_endian_is_read(one):
    def big(ds):
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        ds["PixelData"].VR = "OW"

    header = read_header(one(big))
    assert_is_the_slice(header)
    assert header.pixel_offset + header.pixel_length == header.path.stat().st_size


def test_deflated_is_read(one):
    def deflated(ds):
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    header = read_header(one(deflated))
    assert_is_the_slice(header)
    assert header.transfer_syntax == DeflatedExplicitVRLittleEndian


def test_a_deflated_bomb_is_refused(one):
    def deflated(ds):
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    path = one(deflated)
    head = path.read_bytes()[: 144 + int.from_bytes(path.read_bytes()[140:144], "little")]
    zeros = bytes.fromhex("0900 0110 4f42 0000 00000040") + bytes(300 << 20)  # a private value of 1 GiB
    path.write_bytes(head + zlib.compress(zeros, 9, wbits=-15))
    with pytest.raises(InputError, match=r"IM1: Series Instance UID \(0020,000E\) is missing"):
        read_header(path).uid("SeriesInstanceUID")


def test_a_deflated_file_without_preamble_is_refused_rather_than_inflated_unguarded(one):
    def deflated(ds):
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    path = one(deflated)
    path.write_bytes(path.read_bytes()[132:])
    with pytest.raises(InputError, match="IM1 is damaged: it cannot be inflated"):
        read_header(path)


def test_the_uid_of_the_deflated_syntax_elsewhere_in_a_header_means_nothing(one):
    def mentioning(ds):
        ds.StudyDescription = str(DeflatedExplicitVRLittleEndian)

    assert_is_the_slice(read_header(one(mentioning)))


def test_a_file_without_preamble_is_read(one):
    path = one(enforce_file_format=False)
    path.write_bytes(path.read_bytes()[132:])
    assert_is_the_slice(read_header(path))


@pytest.mark.parametrize("implicit", [True, False])
def test_sequences_of_undefined_length_are_stepped_over(one, implicit):
    def nested(ds):
        if implicit:
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        item, inner = Dataset(), Dataset()
        inner.Rows = 7
        inner.is_undefined_length_sequence_item = item.is_undefined_length_sequence_item = True
        item.ReferencedImageSequence = Sequence([inner])
        item["ReferencedImageSequence"].is_undefined_length = True
        ds.SourceImageSequence = Sequence([item, Dataset()])
        ds["SourceImageSequence"].is_undefined_length = True

    assert_is_the_slice(read_header(one(nested)))


def test_a_long_private_header_is_stepped_over(one):
    def long(ds):
        ds.private_block(0x0009, "PHANTOM", create=True).add_new(0x01, "OB", bytes(100_000))

    assert_is_the_slice(read_header(one(long)))


@pytest.mark.parametrize("content", [b"", b"text", bytes(500), b"\x08\x00text" * 50])
def test_another_file_is_no_dicom(tmp_path, content):
    (tmp_path / "x.dcm").write_bytes(content)
    assert read_header(tmp_path / "x.dcm") is None


def test_the_instance_comes_from_the_meta_information_when_the_data_set_has_none(one):
    def empty(ds):
        ds.SOPInstanceUID = ds.SOPClassUID = ""

    header = read_header(one(empty))
    assert_is_the_slice(header)
    assert header.instance_from_meta


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"IM1: Pixel Spacing \(0028,0030\) is missing"),
        ("nan\\1", r"Pixel Spacing \(0028,0030\) must be 2 finite number"),
        ("wide", r"Pixel Spacing .* found 'wide'"),
        ("0.8", r"Pixel Spacing .* found '0.8'"),
    ],
)
def test_numbers_that_are_none_are_refused(one, value, message):
    path = one()
    header = read_header(path)
    values = {**header.values, 0x00280030: (value or "").encode()}
    damaged = type(header)(path, values, header.transfer_syntax, None, None)
    with pytest.raises(InputError, match=message):
        damaged.numbers("PixelSpacing", 2)


@pytest.mark.parametrize("uid", ["1.2.a", "../../etc/passwd", "1." + "2" * 70, "1..2"])
def test_a_uid_that_is_none_is_refused(one, uid):
    header = read_header(one())
    damaged = type(header)(header.path, {0x0020000E: uid.encode()}, "", None, None)
    with pytest.raises(InputError, match=r"Series Instance UID \(0020,000E\) is no UID"):
        damaged.uid("SeriesInstanceUID")


@pytest.mark.parametrize("kept", range(0, 1200, 37))
def test_a_truncated_header_never_gives_anything_but_a_refusal_or_less(one, kept):
    path = one()
    path.write_bytes(path.read_bytes()[:kept])
    header = None
    with suppress(InputError):  # and nothing else
        header = read_header(path)
    if header is not None and header.pixel_offset is not None:
        assert_is_the_slice(header)
