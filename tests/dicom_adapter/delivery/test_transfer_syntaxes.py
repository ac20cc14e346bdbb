"""Archives that take other transfer syntaxes than results have: they get the same values, or a reason."""

from contextlib import contextmanager

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    SegmentationStorage,
)
from pynetdicom import AE, evt

from dicom_adapter.delivery import transcode as transcoding
from dicom_adapter.delivery.store_scu import StoreScu
from dicom_adapter.delivery.transcode import TranscodeError, alternatives, transcode
from dicom_adapter.storage.results import find_results
from dicom_writer import write_results
from tests import phantoms
from tests.dicom_adapter.delivery.test_store_scu import peer
from tests.dicom_adapter.destinations import Storescp
from tests.dicom_adapter.offline_adapter import destination
from tests.phantoms import ct_slices, save

KINDS = ["seg", "labelmap", "rtstruct", "report"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return results of several kinds, as the writer makes them."""
    folder = tmp_path_factory.mktemp("results")
    source = save(ct_slices(), folder / "ct")
    write_results(phantoms.mask(), source, folder / "out", results=KINDS)
    return find_results(folder / "out")


def send(to, files):
    told = []
    StoreScu(peer=to).send(files, lambda result, answer: told.append(answer))
    return told


def values(dataset):
    """Return all there is in a data set but how it was written, pixels unpacked."""
    if "PixelData" in dataset and UID(dataset.file_meta.TransferSyntaxUID).is_compressed:
        dataset.decompress(as_rgb=False, generate_instance_uid=False)
    return [(each.tag, None if each.VR == "SQ" else each.value) for each in dataset.iterall()]


@contextmanager
def archive_of(*contexts):
    """Run an archive that takes some SOP classes, each in one transfer syntax; give it and what it got."""
    entity, got = AE(ae_title="PACS"), []
    for sop_class, syntax in contexts:
        entity.add_supported_context(sop_class, syntax)

    def store(event):
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        got.append(dataset)
        return 0

    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield server.server_address[1], got
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("option", "syntax"), [("+xi", ImplicitVRLittleEndian), ("+xe", ExplicitVRLittleEndian)]
)
def test_one_that_takes_a_single_syntax_gets_every_kind_of_result_value_by_value(
    results, tmp_path, option, syntax
):
    with Storescp(tmp_path / "got", option, "-pm") as archive:
        told = send(peer(archive.port, archive.ae_title, timeout_s=10), results)
    assert [each.verdict for each in told] == ["accepted"] * len(results)
    got = {each.SOPInstanceUID: each for each in map(dcmread, (tmp_path / "got").iterdir())}
    for each in results:
        arrived = got[each.sop_instance_uid]
        if option == "+xi":
            assert arrived.file_meta.TransferSyntaxUID == syntax
        assert values(arrived) == values(dcmread(each.path))


def test_one_that_takes_segmentations_implicit_and_images_explicit_gets_both(results, tmp_path):
    images = find_results(save(ct_slices((2, 16, 20)), tmp_path / "ct"))
    segmentation = next(each for each in results if each.sop_class_uid == SegmentationStorage)
    contexts = [(CTImageStorage, ExplicitVRLittleEndian), (SegmentationStorage, ImplicitVRLittleEndian)]
    with archive_of(*contexts) as (port, got):
        told = send(peer(port, "PACS"), [*images, segmentation])
    assert [each.verdict for each in told] == ["accepted"] * 3
    assert [each.file_meta.TransferSyntaxUID for each in got] == [
        *[ExplicitVRLittleEndian] * 2,
        ImplicitVRLittleEndian,
    ]
    assert got[2].PixelData == dcmread(segmentation.path).PixelData


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_one_that_takes_packed_pixels_alone_gets_images_bit_by_bit(tmp_path, syntax):
    files = find_results(save(ct_slices((2, 64, 64)), tmp_path / "ct"))
    with archive_of((CTImageStorage, syntax)) as (port, got):
        told = send(peer(port, "PACS"), files)
    assert [each.verdict for each in told] == ["accepted"] * 2
    for each, arrived in zip(files, got, strict=True):
        assert arrived.file_meta.TransferSyntaxUID == syntax
        assert np.array_equal(arrived.pixel_array, dcmread(each.path).pixel_array)
        assert arrived.SOPInstanceUID == each.sop_instance_uid


def test_one_that_takes_packed_pixels_alone_gets_no_segmentation_and_a_reason(results):
    segmentation = next(each for each in results if each.sop_class_uid == SegmentationStorage)
    with archive_of((SegmentationStorage, JPEG2000Lossless)) as (port, got):
        (answer,) = send(peer(port, "PACS"), [segmentation])
    assert (answer.verdict, got) == ("refused", [])
    assert answer.message == (
        "ARCHIVE does not take Segmentation Storage in any syntax that we can give it: "
        "Explicit VR Little Endian, Implicit VR Little Endian"
    )


def test_what_is_taken_in_no_syntax_is_a_dead_letter_with_its_reason_and_the_rest_goes(offline):
    with archive_of((CTImageStorage, ImplicitVRLittleEndian)) as (port, _):
        bench = offline(destination("A", port, "PACS"))
        bench.done_job("A", results=2)
        odd = dcmread(bench.store.deliveries()[0].path)
        odd.file_meta.MediaStorageSOPClassUID = odd.SOPClassUID = SegmentationStorage
        odd.save_as(bench.store.deliveries()[0].path, enforce_file_format=True)
        bench.deliver(lambda: bench.states() == {"delivered": 1, "dead": 1})
    (dead,) = bench.store.deliveries("dead")
    assert (dead.tries, dead.status) == (5, "context")
    assert dead.message.startswith("A does not take Segmentation Storage in any syntax that we can give it")


def test_each_kind_of_file_is_offered_in_its_own_syntax_and_the_default_one(results, tmp_path):
    offered = {
        each.transfer_syntax_uid: alternatives(each.path, each.transfer_syntax_uid) for each in results
    }
    assert set(offered) == {ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless}
    for own, found in offered.items():
        assert found[0] == own
        assert {ExplicitVRLittleEndian, ImplicitVRLittleEndian} <= {*found}
    assert alternatives(results[0].path, JPEGBaseline8Bit) == [JPEGBaseline8Bit]
    assert alternatives(results[0].path, "1.2.840.113619.5.2") == ["1.2.840.113619.5.2"]


def test_what_was_deflated_is_inflated(results, tmp_path):
    made = dcmread(next(each for each in results if each.sop_class_uid == SegmentationStorage).path)
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    (deflated,) = find_results(tmp_path)
    with archive_of((SegmentationStorage, ImplicitVRLittleEndian)) as (port, got):
        send(peer(port, "PACS"), [deflated])
    assert values(got[0]) == values(dcmread(deflated.path))


# Odd values


def odd(**attributes):
    (made,) = ct_slices((1, 4, 4))
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def in_characters(charset, name):
    return odd(SpecificCharacterSet=charset, PatientName=name)


def with_private(value, vr):
    made = odd()
    made.add_new(0x00190010, "LO", "MAKER")
    made.add_new(0x00191001, vr, value)
    return made


def nested(depth=3, undefined=False):
    made = inner = odd()
    for _ in range(depth):
        inner.ContentSequence = [Dataset()]
        inner["ContentSequence"].is_undefined_length = undefined
        inner = inner.ContentSequence[0]
        inner.TextValue = "x"
    return made


ODD = {
    "UTF-8": lambda: in_characters("ISO_IR 192", "Müller^Jörg"),
    "Latin": lambda: in_characters("ISO_IR 100", "Müller^Jörg"),
    "private text": lambda: with_private("abc", "LO"),
    "private numbers": lambda: with_private([1.5, 2.5], "FD"),
    "private sequence": lambda: with_private([nested(1)], "SQ"),
    "nested": nested,
    "undefined lengths": lambda: nested(undefined=True),
    "padded numbers": lambda: odd(InstanceNumber=" 7 ", SliceThickness="2.500"),
    "no values": lambda: odd(PatientName="", ReferencedImageSequence=[], AcquisitionNumber=None),
    "signed or not": lambda: odd(PixelPaddingValue=7),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("own", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_odd_values_are_the_same_in_the_other_form(tmp_path, name, own):
    made = ODD[name]()
    made.file_meta.TransferSyntaxUID = own
    made.save_as(tmp_path / "x.dcm", implicit_vr=own.is_implicit_VR, enforce_file_format=True)
    other = ExplicitVRLittleEndian if own.is_implicit_VR else ImplicitVRLittleEndian
    with (tmp_path / "y").open("w+b") as file:
        size = transcode(tmp_path / "x.dcm", other, file)
        assert len(file.read()) == size


def test_bytes_that_are_no_text_stay_as_they_are(tmp_path):
    made = in_characters("ISO_IR 192", "XX^YY")
    made.StudyDescription = "ZZZZ"
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    broken = (tmp_path / "x.dcm").read_bytes().replace(b"ZZZZ", b"\xff\xfe\xc3Z")
    (tmp_path / "x.dcm").write_bytes(broken)
    with (tmp_path / "y").open("w+b") as file:
        transcode(tmp_path / "x.dcm", ImplicitVRLittleEndian, file)
        assert b"\xff\xfe\xc3Z" in file.read()


def test_what_would_come_out_otherwise_is_not_given(tmp_path, monkeypatch):
    odd().save_as(tmp_path / "x.dcm", enforce_file_format=True)
    real = transcoding.dcmread
    reads = []

    def read(path, **options):
        reads.append(real(path, **options))
        if len(reads) == 2:  # what is written, after what it is held against
            reads[1][0x00280010] = RawDataElement(reads[1][0x00280010].tag, "US", 2, b"\5\0", 0, False, True)
        return reads[-1]

    monkeypatch.setattr(transcoding, "dcmread", read)
    with (tmp_path / "y").open("w+b") as file, pytest.raises(TranscodeError, match="Implicit VR"):
        transcode(tmp_path / "x.dcm", ImplicitVRLittleEndian, file)
