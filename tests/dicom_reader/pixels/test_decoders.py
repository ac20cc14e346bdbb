"""Every compressed transfer syntax gives the stored values, bit for bit where it is lossless."""

import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGLosslessSV1, RLELossless

from dicom_files.codestreams import SYNTAXES
from dicom_reader.files.headers import read_header
from dicom_reader.pixels import decoders
from dicom_reader.pixels.pixels import read_pixels
from stages import InputError
from tests import phantoms

imagecodecs = pytest.importorskip("imagecodecs")

SHAPE = (3, 48, 40)
LOSSLESS = {
    "1.2.840.10008.1.2.4.57": lambda a: imagecodecs.ljpeg_encode(a.view(np.uint16), bitspersample=16),
    "1.2.840.10008.1.2.4.70": lambda a: imagecodecs.jpeg8_encode(
        a.view(np.uint16), lossless=True, predictor=1, bitspersample=16
    ),
    "1.2.840.10008.1.2.4.80": lambda a: imagecodecs.jpegls_encode(a.view(np.uint16)),
    "1.2.840.10008.1.2.4.90": lambda a: imagecodecs.jpeg2k_encode(
        a, level=0, codecformat="j2k", reversible=True
    ),
    "1.2.840.10008.1.2.4.201": lambda a: imagecodecs.htj2k_encode(a, reversible=True),
    "1.2.840.10008.1.2.4.202": lambda a: imagecodecs.htj2k_encode(a, reversible=True),
    "1.2.840.10008.1.2.4.203": lambda a: imagecodecs.htj2k_encode(a, reversible=True),
}
ABRIDGED = {uid: uid.rpartition(".")[2] for uid in LOSSLESS}


def compressed(syntax, *, signed=False, change=lambda frame: frame):
    """Return a series of phantoms in a transfer syntax."""
    slices = phantoms.ct_slices(SHAPE, **({"RescaleIntercept": 0} if signed else {}))
    for ds, hu in zip(slices, phantoms.hounsfield(SHAPE), strict=True):
        stored = hu if signed else (hu + 1024).astype(np.uint16)
        phantoms.put_pixels(ds, stored, bits_stored=16)
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = encapsulate([change(bytes(LOSSLESS[syntax](stored)))])
        ds["PixelData"].VR = "OB"
    return slices


def read(slices, folder):
    headers = []
    for n, ds in enumerate(slices):
        ds.save_as(folder / f"IM{n}", enforce_file_format=True)
        headers.append(read_header(folder / f"IM{n}"))
    return read_pixels(headers)[0]


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=ABRIDGED.get)
def test_lossless_syntaxes_give_the_same_bits(tmp_path, syntax, signed):
    assert np.array_equal(read(compressed(syntax, signed=signed), tmp_path), phantoms.hounsfield(SHAPE))


@pytest.mark.parametrize("syntax", LOSSLESS, ids=ABRIDGED.get)
def test_an_overlay_above_the_high_bit_is_left_out_of_compressed_slices_too(tmp_path, syntax):
    slices = compressed(syntax)
    for ds, hu in zip(slices, phantoms.hounsfield(SHAPE), strict=True):
        stored = (hu + 1024).astype(np.uint16)
        stored[2:5, 2:9] |= 0x8000
        ds.BitsStored, ds.HighBit = 12, 11
        ds.PixelData = encapsulate([bytes(LOSSLESS[syntax](stored))])
    assert np.array_equal(read(slices, tmp_path), phantoms.hounsfield(SHAPE))


@pytest.mark.parametrize("precision", [12, 16])
def test_a_codestream_of_all_bits_or_of_just_the_stored_ones_gives_the_same(tmp_path, precision):
    """High Bit is 15 and 12 bits are stored: encoders write the whole cells, or the values."""
    slices = compressed("1.2.840.10008.1.2.4.90")
    for ds, hu in zip(slices, phantoms.hounsfield(SHAPE), strict=True):
        stored = (hu + 1024).astype(np.uint16) << (precision - 12)
        ds.BitsStored, ds.HighBit = 12, 15
        how = {"codecformat": "j2k", "reversible": True, "bitspersample": precision}
        ds.PixelData = encapsulate([bytes(imagecodecs.jpeg2k_encode(stored, level=0, **how))])
    assert np.array_equal(read(slices, tmp_path), phantoms.hounsfield(SHAPE))


def test_negative_values_where_the_header_says_that_there_are_none_are_refused(tmp_path):
    slices = compressed("1.2.840.10008.1.2.4.90", signed=True)
    for ds in slices:
        ds.PixelRepresentation, ds.BitsStored, ds.HighBit = 0, 12, 11
    with pytest.raises(InputError, match=r"negative values, Pixel Representation \(0028,0103\)"):
        read(slices, tmp_path)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("pattern", "tolerance"),
    [
        ("*.1.dcm", 0),
        ("*.2.dcm", 0),
        ("*.99.dcm", 0),
        ("*.5.dcm", 0),
        ("*.57.dcm", 0),
        ("*.70.dcm", 0),
        ("*.80.dcm", 0),
        ("*.81.dcm", 1),
        ("*.90.dcm", 0),
        ("*.91.dcm", 5),
        ("*CTImage*.50.dcm", 64),  # 8 bits of lossy JPEG with 32 HU a step
        ("*CTImage*.51.dcm", 36),
        ("*.53.dcm", 36),
        ("*.55.dcm", 36),
    ],
)
def test_a_real_slice_is_the_same_in_every_transfer_syntax(real_data, pattern, tolerance):
    folder = real_data / "transfer_syntaxes"
    files = sorted(folder.glob(pattern))
    assert files
    (original,) = read_pixels([read_header(folder / "CTImage.dcm")])[0]
    assert [int(original.min()), int(original.max())] == [-3024, 1378]
    for path in files:
        (hu,) = read_pixels([read_header(path)])[0]
        assert np.abs(hu.astype(np.int32) - original).max() <= tolerance


@pytest.mark.real_data
def test_frames_of_several_fragments_without_an_offset_table_are_told_apart(real_data):
    (path,) = (real_data / "transfer_syntaxes").glob("CT0012*")
    from dicom_reader.pixels.encapsulated import compressed_frame

    header = read_header(path)
    expected = list(generate_frames(dcmread(path).PixelData, number_of_frames=2))
    frame = type(header)(path, {}, header.transfer_syntax, header.pixel_offset, None, frame=2, frames=2)
    found = compressed_frame(frame, frames=2)
    assert found.rstrip(b"\0") == expected[1].rstrip(b"\0")


def test_a_frame_in_several_fragments_is_put_together(tmp_path):
    (ds, *_) = compressed("1.2.840.10008.1.2.4.80")
    frame = next(generate_frames(ds.PixelData, number_of_frames=1))
    ds.PixelData = encapsulate([frame], fragments_per_frame=3)
    assert np.array_equal(read([ds], tmp_path)[0], phantoms.hounsfield(SHAPE)[0])


@pytest.mark.parametrize("syntax", LOSSLESS, ids=ABRIDGED.get)
@pytest.mark.parametrize("kept", [0.99, 0.5, 0.05])
def test_a_frame_cut_off_never_passes_in_silence(tmp_path, syntax, kept):
    slices = compressed(syntax, change=lambda frame: frame[: int(kept * len(frame))])
    with pytest.raises(InputError, match=r"^IM0: its compressed Pixel Data \(7FE0,0010\) cannot be decoded"):
        read(slices, tmp_path)


PADS = [b"\0", b"\xcc", b"\x33", b"\xff", b"\xff\xff\xcc", b"\xd9\xff", b"\xcc" * 4096]


@pytest.mark.parametrize("pad", PADS, ids=lambda pad: pad[:3].hex())
@pytest.mark.parametrize("syntax", LOSSLESS, ids=ABRIDGED.get)
def test_whatever_follows_the_end_of_a_frame_is_padding(tmp_path, syntax, pad):
    assert np.array_equal(
        read(compressed(syntax, change=lambda frame: frame + pad), tmp_path), phantoms.hounsfield(SHAPE)
    )


@pytest.mark.parametrize("syntax", LOSSLESS, ids=ABRIDGED.get)
def test_padding_hides_neither_missing_data_nor_a_second_image(tmp_path, syntax):
    with pytest.raises(InputError, match="cannot be decoded"):
        read(compressed(syntax, change=lambda frame: frame[:-40] + b"\xcc" * 40), tmp_path)
    with pytest.raises(InputError, match="another image follows in the same frame"):
        read(compressed(syntax, change=lambda frame: frame + b"\xcc\xcc" + frame), tmp_path)


@pytest.mark.parametrize("pad", [b"\xcc", b"\xff"])
def test_a_tile_part_up_to_the_end_may_be_padded(tmp_path, pad):
    def endless(frame):
        at = frame.index(b"\xff\x90\x00\x0a") + 6
        return frame[:at] + bytes(4) + frame[at + 4 :] + pad

    slices = compressed("1.2.840.10008.1.2.4.90", change=endless)
    assert np.array_equal(read(slices, tmp_path), phantoms.hounsfield(SHAPE))


def bigger(frame):
    """Make a frame say that it has 60000 x 60000 pixels."""
    if frame.startswith(b"\xff\x4f"):
        return frame[:8] + struct.pack(">2L", 60000, 60000) + frame[16:]
    header = next(i for i, b in enumerate(frame) if b == 0xFF and frame[i + 1] in (0xC3, 0xF7))
    return frame[: header + 5] + struct.pack(">2H", 60000, 60000) + frame[header + 9 :]


@pytest.mark.parametrize("syntax", LOSSLESS, ids=ABRIDGED.get)
def test_a_frame_that_says_another_size_is_refused_before_it_is_decoded(tmp_path, syntax):
    with pytest.raises(
        InputError, match=r"it has 60000 x 60000 pixels .* Rows \(0028,0010\) .* say 48 x 40$"
    ):
        read(compressed(syntax, change=bigger), tmp_path)


@pytest.mark.parametrize(
    "garbage", [b"\0" * 100, b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\x4f\xff\x51", b"\xff" * 99]
)
@pytest.mark.parametrize("syntax", LOSSLESS, ids=ABRIDGED.get)
def test_garbage_is_refused(tmp_path, syntax, garbage):
    with pytest.raises(InputError, match=r"^IM0: its compressed Pixel Data \(7FE0,0010\) cannot be decoded"):
        read(compressed(syntax, change=lambda frame: garbage), tmp_path)


def rle(change=lambda frame: frame, **attributes):
    (ds,) = phantoms.ct_slices((1, 48, 40), **attributes)
    ds.compress(RLELossless, generate_instance_uid=False)
    frame = next(generate_frames(ds.PixelData, number_of_frames=1))
    ds.PixelData = encapsulate([change(frame)])
    return [ds]


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame[:-40],
        lambda frame: frame[:70],
        lambda frame: frame[:30],
        lambda frame: b"\x01" + frame[1:],
        lambda frame: frame[:4] + b"\xff\xff\xff\x7f" + frame[8:],
    ],
)
def test_damaged_rle_is_refused(tmp_path, change):
    with pytest.raises(InputError, match=r"^IM0: its compressed Pixel Data \(7FE0,0010\) cannot be decoded"):
        read(rle(change), tmp_path)


def test_rle_of_fewer_pixels_than_the_matrix_is_refused(tmp_path):
    (ds,) = rle()
    ds.Rows = 49
    with pytest.raises(InputError, match="3840 of 3920 bytes are there"):
        read([ds], tmp_path)


def test_every_decoder_runs_without_imagecodecs_where_pydicom_has_one(tmp_path, monkeypatch):
    monkeypatch.setattr(decoders, "_imagecodecs_installed", lambda: False)
    expected = phantoms.hounsfield(SHAPE)
    assert np.array_equal(read(rle(), tmp_path)[0], phantoms.hounsfield((1, 48, 40))[0])
    assert np.array_equal(read(compressed("1.2.840.10008.1.2.4.90"), tmp_path), expected)


@pytest.mark.parametrize(
    ("syntax", "advice"),
    [
        (JPEGLosslessSV1, r"JPEG Lossless, First-Order Prediction .* is installed; .*gpl"),
        ("1.2.840.10008.1.2.4.81", r"JPEG-LS Near-Lossless .*install imagecodecs, .*gpl"),
    ],
)
def test_a_missing_decoder_is_named_with_its_syntax_and_what_to_install(
    tmp_path, monkeypatch, syntax, advice
):
    monkeypatch.setattr(decoders, "_imagecodecs_installed", lambda: False)
    monkeypatch.setattr(decoders, "_pydicom_decodes", lambda uid: False)
    slices = compressed("1.2.840.10008.1.2.4.80")
    for ds in slices:
        ds.file_meta.TransferSyntaxUID = syntax
    with pytest.raises(InputError, match=f"IM0: no decoder for transfer syntax {advice}"):
        read(slices, tmp_path)


def test_the_conformance_page_names_every_transfer_syntax():
    from dicom_reader.pixels.uncompressed import NATIVE

    page = (Path(__file__).parents[3] / "docs/conformance.md").read_text(encoding="utf-8")
    assert [uid for uid in [*NATIVE, *SYNTAXES] if f"| {uid} |" not in page] == []
