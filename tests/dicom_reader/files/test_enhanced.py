"""Each frame of an enhanced CT file is a slice with its own place and rescale."""

import numpy as np
import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_files.uids import EnhancedCTImageStorage
from dicom_reader import read_all_series, read_series
from dicom_reader.files.enhanced import is_enhanced, split_frames
from dicom_reader.files.headers import read_header
from dicom_reader.pixels.pixels import read_pixels
from stages import InputError
from tests import phantoms
from tests.dicom_files import hostile

SHAPE = (4, 16, 20)


def item(**attributes):
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def enhanced(shape=SHAPE, *, rescale_per_frame=True):
    """Return the phantom as one enhanced file, frames from the highest slice to the lowest."""
    slices = phantoms.ct_slices(shape)[::-1]
    ds = phantoms.ct_slices((1, *shape[1:]))[0]
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    place = ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"]
    for keyword in [*place, "RescaleSlope", "RescaleIntercept", "RescaleType"]:
        delattr(ds, keyword)
    stored, frames = [], []
    for n, one in enumerate(slices, 1):
        hu = phantoms.hounsfield(shape)[len(slices) - n]
        intercept = -1024 - n if rescale_per_frame else -1024
        stored.append((hu - intercept).astype(np.uint16))
        frame = item(
            PlanePositionSequence=[item(ImagePositionPatient=one.ImagePositionPatient)],
            FrameContentSequence=[item(StackID="1", InStackPositionNumber=n)],
        )
        if rescale_per_frame:
            frame.PixelValueTransformationSequence = [
                item(RescaleSlope=1, RescaleIntercept=intercept, RescaleType="HU")
            ]
        frames.append(frame)
    ds.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[0.8, 0.6], SliceThickness=2.5)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=list(phantoms.AXIAL))],
            CTImageFrameTypeSequence=[item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])],
        )
    ]
    if not rescale_per_frame:
        ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [
            item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
        ]
    ds.PerFrameFunctionalGroupsSequence = frames
    ds.NumberOfFrames = len(frames)
    ds.PixelData = np.stack(stored).tobytes()
    return ds


def split(ds, folder):
    dcmwrite(folder / "IM1", ds, enforce_file_format=True)
    header = read_header(folder / "IM1")
    assert is_enhanced(header)
    return split_frames(header)


@pytest.mark.parametrize("rescale_per_frame", [True, False])
def test_every_frame_is_a_slice_of_its_own(tmp_path, rescale_per_frame):
    headers = split(enhanced(rescale_per_frame=rescale_per_frame), tmp_path)
    assert [h.frame for h in headers] == [1, 2, 3, 4]
    assert [h.numbers("ImagePositionPatient", 3)[2] for h in headers] == [107.5, 105, 102.5, 100]
    assert headers[2].numbers("PixelSpacing", 2) == (0.8, 0.6)
    assert headers[2].text("ImageType") == "ORIGINAL\\PRIMARY\\VOLUME\\NONE"
    assert headers[2].name == "IM1 frame 3"
    hu, _ = read_pixels(headers[::-1])
    assert np.array_equal(hu, phantoms.hounsfield(SHAPE))


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda s: s.name,
)
def test_every_uncompressed_syntax_gives_the_same(tmp_path, syntax):
    ds = enhanced()
    ds.file_meta.TransferSyntaxUID = syntax
    ds["PixelData"].VR = "OW"
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    assert np.array_equal(read_pixels(split(ds, tmp_path))[0], phantoms.hounsfield(SHAPE)[::-1])


@pytest.mark.parametrize(("fragments", "has_table"), [(1, True), (1, False), (3, True), (3, False)])
def test_compressed_frames_are_told_apart(tmp_path, fragments, has_table):
    imagecodecs = pytest.importorskip("imagecodecs")
    shape = (4, 48, 40)
    ds = enhanced(shape)
    stored = np.frombuffer(ds.PixelData, np.uint16).reshape(shape)
    frames = [bytes(imagecodecs.jpegls_encode(plane)) for plane in stored]
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.80"
    ds.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=has_table)
    ds["PixelData"].VR = "OB"
    assert np.array_equal(read_pixels(split(ds, tmp_path))[0], phantoms.hounsfield(shape)[::-1])


def test_an_extended_offset_table_is_stepped_over(tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs")
    from pydicom.encaps import encapsulate_extended

    shape = (4, 48, 40)
    ds = enhanced(shape)
    stored = np.frombuffer(ds.PixelData, np.uint16).reshape(shape)
    frames = [bytes(imagecodecs.jpegls_encode(plane)) for plane in stored]
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.80"
    ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    ds["PixelData"].VR = "OB"
    assert np.array_equal(read_pixels(split(ds, tmp_path))[0], phantoms.hounsfield(shape)[::-1])


def test_an_enhanced_file_becomes_the_same_volume_as_single_images(tmp_path):
    enhanced((5, 16, 20)).save_as(tmp_path / "IM1", enforce_file_format=True)
    volume = read_series(tmp_path)
    assert np.array_equal(volume.array, phantoms.hounsfield())
    assert np.allclose(volume.affine, phantoms.AFFINE)


def test_a_legacy_converted_file_becomes_the_same_volume_as_its_images(tmp_path):
    highdicom = pytest.importorskip("highdicom")
    slices = phantoms.ct_slices(
        PatientPosition="HFS", AcquisitionNumber=1, KVP="120", BodyPartExamined="ABDOMEN"
    )
    converted = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        slices,
        series_instance_uid=phantoms.SERIES,
        series_number=3,
        sop_instance_uid="1.2.3.8",
        instance_number=1,
    )
    converted.save_as(tmp_path / "IM1", enforce_file_format=True)
    volume = read_series(tmp_path)
    assert np.array_equal(volume.array, phantoms.hounsfield())
    assert np.allclose(volume.affine, phantoms.AFFINE)


@pytest.mark.real_data
def test_a_real_enhanced_file_has_two_frames(real_data):
    header = read_header(real_data / "pydicom_data/eCT_Supplemental.dcm")
    first, second = split_frames(header)
    assert first.numbers("ImagePositionPatient", 3) != second.numbers("ImagePositionPatient", 3)
    hu, _ = read_pixels([first, second])
    assert hu.shape == (2, 512, 512)
    assert hu.min() >= -1024


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda ds: setattr(ds, "NumberOfFrames", 2147483647),
            r"Number of Frames \(0028,0008\) is 2147483647",
        ),
        (lambda ds: setattr(ds, "NumberOfFrames", -1), r"Number of Frames \(0028,0008\) must be 1 or more"),
        (lambda ds: setattr(ds, "NumberOfFrames", 0), r"Number of Frames \(0028,0008\) must be 1 or more"),
        (lambda ds: delattr(ds, "NumberOfFrames"), r"Number of Frames \(0028,0008\) is missing"),
        (lambda ds: delattr(ds, "PerFrameFunctionalGroupsSequence"), r".* \(5200,9230\) has 0 item"),
    ],
)
def test_frames_that_contradict_their_groups_are_refused(tmp_path, change, message):
    ds = enhanced()
    change(ds)
    with pytest.raises(InputError, match=f"^IM1: {message}"):
        split(ds, tmp_path)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("PlanePositionSequence", r"IM1 frame 2: Image Position \(Patient\) \(0020,0032\) is missing"),
        ("PixelValueTransformationSequence", r"IM1 frame 2: Rescale Slope \(0028,1053\) is missing"),
    ],
)
def test_a_frame_without_a_group_is_named(tmp_path, group, message):
    ds = enhanced()
    delattr(ds.PerFrameFunctionalGroupsSequence[1], group)
    headers = split(ds, tmp_path)
    with pytest.raises(InputError, match=message):
        headers[1].numbers("ImagePositionPatient", 3), read_pixels(headers)


def test_fewer_pixels_than_frames_are_refused(tmp_path):
    ds = enhanced()
    ds.PixelData = ds.PixelData[: 3 * 16 * 20 * 2]
    with pytest.raises(
        InputError, match=r"IM1 frame 1: Pixel Data \(7FE0,0010\) has 1920 bytes, .* needs 2560"
    ):
        read_pixels(split(ds, tmp_path))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (hostile.items(20), r"Number of Frames \(0028,0008\) is 4, Per-Frame .* has more items"),
        (hostile.items(600_000), "more than 500,000 elements and items"),
        ((hostile.ITEM + hostile.SEQUENCE) * 1000, "nested more than 64 deep"),
    ],
)
def test_stuffed_functional_groups_are_refused(tmp_path, extra, message):
    dcmwrite(tmp_path / "IM1", enhanced(), enforce_file_format=True)
    data = (tmp_path / "IM1").read_bytes()
    at, end = data.index(b"\x00\x52\x30\x92SQ"), data.index(b"\xe0\x7f\x10\x00OW")
    groups = hostile.long_element(b"SQ", hostile.UNDEFINED, (0x5200, 0x9230)) + extra + hostile.END
    (tmp_path / "IM1").write_bytes(data[:at] + groups + data[end:])
    with pytest.raises(InputError, match=rf"^IM1.*{message}"):
        split_frames(read_header(tmp_path / "IM1"))


def test_a_derived_frame_among_acquired_ones_is_set_apart(tmp_path):
    ds = enhanced((5, 16, 20))
    last = ds.PerFrameFunctionalGroupsSequence[-1]
    last.CTImageFrameTypeSequence = [item(FrameType=["DERIVED", "PRIMARY", "VOLUME", "MAXIMUM"])]
    dcmwrite(tmp_path / "IM1", ds, enforce_file_format=True)
    volume = read_series(tmp_path)
    assert np.array_equal(volume.array, phantoms.hounsfield((5, 16, 20))[1:])  # the last frame is the lowest
    assert volume.origin.selection["1.2.3.2_derived"] == "not chosen, derived: 1 derived axial CT slices"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian], ids=lambda s: s.name)
def test_phases_of_one_enhanced_file_are_told_apart_by_numbers_that_are_no_text(tmp_path, syntax):
    ds = enhanced((8, 16, 20))
    ds.file_meta.TransferSyntaxUID = syntax
    ds["PixelData"].VR = "OW"
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    for n, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
        frame.PlanePositionSequence[0].ImagePositionPatient = [-30, 40, 100 + 2.5 * (n // 2)]
        frame.CardiacSynchronizationSequence = [item(NominalPercentageOfCardiacPhase=(40.0, 75.0)[n % 2])]
    dcmwrite(tmp_path / "IM1", ds, enforce_file_format=True)
    names = [volume.origin.part for volume in read_all_series(tmp_path)]
    assert names == ["cardiac-40", "cardiac-75"]
