"""Stored values become Hounsfield units, exactly, or are refused."""

import numpy as np
import pytest
from pydicom import dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from dicom_reader.files.headers import read_header
from dicom_reader.pixels.pixels import read_pixels
from stages import InputError
from tests import phantoms


@pytest.fixture
def pixels(tmp_path):
    """Return what writes slices and reads their pixels."""

    def read(slices):
        headers = []
        for n, ds in enumerate(slices):
            path = tmp_path / f"IM{n}"
            dcmwrite(path, ds, enforce_file_format=True)
            headers.append(read_header(path))
        return read_pixels(headers)

    return read


def one(stored, *, bits_stored=16, **attributes):
    (ds,) = phantoms.ct_slices((1, 2, 2))
    phantoms.put_pixels(ds, np.array(stored).reshape(2, -1), bits_stored=bits_stored)
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def test_uncompressed_slices_are_read_in_place(pixels):
    hu, repairs = pixels(phantoms.ct_slices())
    assert hu.dtype == np.int16
    assert hu.flags.c_contiguous
    assert np.array_equal(hu, phantoms.hounsfield())
    assert repairs == []


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda s: s.name,
)
def test_other_uncompressed_syntaxes_give_the_same(pixels, syntax):
    slices = phantoms.ct_slices()
    for ds in slices:
        ds.file_meta.TransferSyntaxUID = syntax
        ds["PixelData"].VR = "OW"
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    assert np.array_equal(pixels(slices)[0], phantoms.hounsfield())


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=lambda s: s.name)
def test_compressed_slices_give_the_same(pixels, syntax):
    slices = phantoms.ct_slices((3, 32, 40))
    for ds in slices:
        ds.compress(syntax, generate_instance_uid=False)
    assert np.array_equal(pixels(slices)[0], phantoms.hounsfield((3, 32, 40)))


def test_signed_values_compressed_or_not_give_the_same(pixels):
    stored = phantoms.hounsfield((2, 32, 40))
    slices = phantoms.ct_slices((2, 32, 40), RescaleIntercept=0)
    for ds, plane in zip(slices, stored, strict=True):
        phantoms.put_pixels(ds, plane, bits_stored=12)
    slices[1].compress(JPEG2000Lossless, generate_instance_uid=False)
    assert np.array_equal(pixels(slices)[0], stored)


def test_each_slice_has_its_own_rescale(pixels):
    slices = [one(np.array([0, 1, 2, 3], np.uint16)) for _ in range(2)]
    slices[1].RescaleSlope, slices[1].RescaleIntercept = 2, -7
    hu, _ = pixels(slices)
    assert hu[0].ravel().tolist() == [-1024, -1023, -1022, -1021]
    assert hu[1].ravel().tolist() == [-7, -5, -3, -1]


def test_fractions_are_rounded_to_whole_hounsfield_units(pixels):
    hu, _ = pixels([one(np.array([0, 1, 3, 4], np.uint16), RescaleSlope="0.4", RescaleIntercept="-10.5")])
    assert hu.ravel().tolist() == [-10, -10, -9, -9]  # -10.5, -10.1, -9.3, -8.9; halves to even


def test_all_sixteen_bits_unsigned_are_read_when_they_fit(pixels):
    hu, _ = pixels([one(np.array([0, 33791, 40, 1], np.uint16))])
    assert hu.ravel().tolist() == [-1024, 32767, -984, -1023]


def test_the_sign_of_few_bits_is_extended(pixels):
    hu, _ = pixels([one(np.array([0, 1, 0x0FFF, 0x0800], np.int16), bits_stored=12, RescaleIntercept=0)])
    assert hu.ravel().tolist() == [0, 1, -1, -2048]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.array([0x8005, 0x0FFF, 0xF000, 5], np.uint16), [5, 4095, 0, 5]),
        (np.array([0x8005, 0x0FFF, 0x7800, 5], np.uint16).view(np.int16), [5, -1, -2048, 5]),
    ],
    ids=["unsigned", "signed"],
)
def test_bits_above_the_high_bit_are_left_out_and_told(pixels, stored, expected):
    hu, repairs = pixels([one(stored, bits_stored=12, RescaleIntercept=0)])
    assert hu.ravel().tolist() == expected
    assert repairs == ["IM0: bits above High Bit (0028,0102) of 2 pixels left out"]


def test_a_sign_that_is_extended_into_unused_bits_is_nothing_to_tell(pixels):
    hu, repairs = pixels(
        [one(np.array([-1, -2048, 0x0FFF, 7], np.int16), bits_stored=12, RescaleIntercept=0)]
    )
    assert hu.ravel().tolist() == [-1, -2048, -1, 7]
    assert repairs == []


def test_bits_on_both_sides_of_the_stored_ones_are_left_out(pixels):
    stored = np.array([0xC000 | 5 << 2 | 3, 4 << 2, 0, 1], np.uint16)
    hu, _ = pixels([one(stored, bits_stored=12, HighBit=13, RescaleIntercept=0)])
    assert hu.ravel().tolist() == [5, 4, 0, 0]


def test_eight_bits_of_which_seven_are_stored_lose_the_highest(pixels):
    ds = one(np.zeros(4, np.int16), RescaleIntercept=0)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 7, 6
    ds.PixelData = bytes([0xFF, 0x85, 0x40, 5])
    hu, repairs = pixels([ds])
    assert hu.ravel().tolist() == [-1, 5, -64, 5]
    assert repairs == ["IM0: bits above High Bit (0028,0102) of 1 pixels left out"]


def test_padding_of_more_bits_than_are_stored_is_refused_rather_than_made_a_value(pixels):
    ds = one(np.array([63536, 1, 2, 3], np.uint16), bits_stored=12, PixelPaddingValue=63536)
    with pytest.raises(InputError, match=r"IM0: Pixel Padding Value .* needs more than the 12 bits"):
        pixels([ds])


def test_values_that_do_not_fit_are_refused_with_slice_and_value(pixels):
    with pytest.raises(InputError, match=r"IM0: 33976 HU at row 1, column 0 \(stored value 35000\)"):
        pixels([one(np.array([0, 1, 35000, 3], np.uint16))])


def test_padding_that_does_not_fit_is_clipped_and_recorded(pixels):
    ds = one(np.array([-32768, 0, 1, -32768], np.int16), PixelPaddingValue=-32768)
    hu, repairs = pixels([ds])
    assert hu.ravel().tolist() == [-32768, -1024, -1023, -32768]
    assert repairs == ["IM0: 2 padding pixels of -33792 HU clipped to fit int16"]


def test_padding_that_fits_stays_as_it_is(pixels):
    hu, repairs = pixels([one(np.array([-2000, 0, 1, 2], np.int16), PixelPaddingValue=-2000)])
    assert hu.ravel().tolist() == [-3024, -1024, -1023, -1022]
    assert repairs == []


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("RescaleSlope", None, r"Rescale Slope \(0028,1053\) is missing"),
        ("RescaleSlope", 0, r"Rescale Slope \(0028,1053\) must be positive, found 0"),
        ("RescaleSlope", -1, r"Rescale Slope \(0028,1053\) must be positive, found -1"),
        ("RescaleIntercept", None, r"Rescale Intercept \(0028,1052\) is missing"),
        ("BitsAllocated", 32, r"Bits Allocated \(0028,0100\) must be 8 or 16 in a CT slice, found 32"),
        ("BitsStored", None, r"Bits Stored \(0028,0101\) is missing"),
        ("HighBit", 14, r"High Bit \(0028,0102\) must be 15 in a CT slice, found 14"),
        ("PixelRepresentation", 2, r"Pixel Representation \(0028,0103\) must be 0 or 1"),
        ("NumberOfFrames", 1000000, r"Number of Frames \(0028,0008\) must be 1"),
    ],
)
def test_what_no_ct_slice_has_is_refused(pixels, keyword, value, message):
    with pytest.raises(InputError, match=f"^IM0: {message}"):
        pixels([one(np.zeros(4, np.uint16), **{keyword: value})])


def test_missing_pixel_data_are_refused(pixels):
    ds = one(np.zeros(4, np.uint16))
    del ds.PixelData
    with pytest.raises(InputError, match=r"IM0 has no Pixel Data \(7FE0,0010\)"):
        pixels([ds])


def test_pixel_data_of_another_length_are_refused(pixels):
    ds = one(np.zeros(4, np.uint16))
    ds.PixelData = bytes(12)
    with pytest.raises(InputError, match=r"IM0: Pixel Data \(7FE0,0010\) has 12 bytes, its matrix needs 8"):
        pixels([ds])


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "IM0"
    one(np.zeros(4, np.uint16)).save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match="IM0 is truncated: 5 of 8 bytes"):
        read_pixels([read_header(path)])


def test_truncated_compressed_pixels_are_refused(tmp_path):
    (ds,) = phantoms.ct_slices((1, 32, 40))
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    path = tmp_path / "IM0"
    ds.save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[:-120])
    with pytest.raises(
        InputError, match=r"^IM0: the fragments of its Pixel Data .* are damaged: fragment 1 is cut off"
    ):
        read_pixels([read_header(path)])


def test_an_unknown_transfer_syntax_is_refused(pixels):
    (ds,) = phantoms.ct_slices((1, 32, 40))
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.file_meta.TransferSyntaxUID = "1.2.3.4"
    with pytest.raises(InputError, match=r"IM0: transfer syntax '1\.2\.3\.4' .* cannot be decoded"):
        pixels([ds])


def test_eight_bits_allocated_are_widened(pixels):
    ds = one(np.array([0, 200, 255, 7], np.uint16))
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.RescaleSlope = 8, 8, 7, 4
    ds.PixelData = bytes([0, 200, 255, 7])
    assert pixels([ds])[0].ravel().tolist() == [-1024, -224, -4, -996]


def test_eight_signed_bits_keep_their_sign(pixels):
    ds = one(np.array([0, 1, 2, 3], np.int16), RescaleIntercept=0)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = bytes([0, 127, 128, 255])
    assert pixels([ds])[0].ravel().tolist() == [0, 127, -128, -1]


def test_a_high_bit_above_the_stored_bits_is_shifted_down(pixels):
    ds = one(np.array([0, 16, 32, 65520], np.uint16), bits_stored=12, HighBit=15)
    assert pixels([ds])[0].ravel().tolist() == [-1024, -1023, -1022, 3071]


def test_a_high_bit_above_signed_stored_bits_is_shifted_down(pixels):
    ds = one(np.array([0, 16, -16, -32768], np.int16), bits_stored=12, HighBit=15, RescaleIntercept=0)
    assert pixels([ds])[0].ravel().tolist() == [0, 1, -1, -2048]


@pytest.mark.parametrize("limits", [(60000, 65535), (65535, 60000)])
def test_a_range_of_padding_that_does_not_fit_is_clipped(pixels, limits):
    ds = one(np.array([65535, 60000, 1, 62000], np.uint16))
    ds.PixelPaddingValue, ds.PixelPaddingRangeLimit = limits
    hu, repairs = pixels([ds])
    assert hu.ravel().tolist() == [32767, 32767, -1023, 32767]
    assert repairs == ["IM0: 3 padding pixels of 64511 HU clipped to fit int16"]


def test_a_value_beside_the_range_of_padding_is_refused(pixels):
    ds = one(np.array([65535, 59999, 1, 62000], np.uint16))
    ds.PixelPaddingValue, ds.PixelPaddingRangeLimit = 60000, 65535
    with pytest.raises(InputError, match=r"IM0: 58975 HU at row 0, column 1 \(stored value 59999\)"):
        pixels([ds])


def test_many_slices_are_read_by_all_cores_in_their_order(pixels):
    shape = (90, 16, 20)
    stored = np.arange(90, dtype=np.uint16)
    slices = phantoms.ct_slices(shape)
    for n, ds in zip(stored, slices, strict=True):
        phantoms.put_pixels(ds, np.full((16, 20), n, np.uint16))
    hu, _ = pixels(slices)
    assert hu[:, 3, 4].tolist() == [n - 1024 for n in range(90)]


def test_pixels_are_read_into_an_array_that_is_given(tmp_path):
    (ds,) = phantoms.ct_slices((1, 16, 20))
    ds.save_as(tmp_path / "IM0", enforce_file_format=True)
    out = np.zeros((3, 16, 20), np.int16)
    read_pixels([read_header(tmp_path / "IM0")], out=out[1:2])
    assert np.array_equal(out[1], phantoms.hounsfield((1, 16, 20))[0])
    assert not out[[0, 2]].any()


def test_the_first_bad_slice_is_named_however_many_threads_read(pixels):
    slices = phantoms.ct_slices((60, 16, 20))
    for n in (58, 33, 7):
        phantoms.put_pixels(slices[n], np.full((16, 20), 65000, np.uint16))
    with pytest.raises(InputError, match=r"^IM7: 63976 HU"):
        pixels(slices)
