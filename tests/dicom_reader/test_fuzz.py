"""Damaged headers end in a volume or in a refusal, never in anything else, and never in another volume.

A fixed number of cases from a fixed seed: bytes of a header are flipped, cut, doubled, swapped or
replaced by numbers that parsers stumble over. A volume that still comes out has the voxels and the
grid of the undamaged one, unless pydicom too finds other values in the very attributes that say so.
"""

import os
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import config, dcmread, dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_reader import read_series
from dicom_reader.files.folder import scan_folder
from dicom_reader.files.headers import read_header
from dicom_reader.pixels.pixels import read_pixels
from stages import StageError
from tests import phantoms
from tests.dicom_reader.files.test_enhanced import enhanced
from tests.dicom_reader.pixels.test_decoders import LOSSLESS, compressed

CASES = int(os.environ.get("FUZZ_CASES", "60"))  # of each kind
SECONDS = 5
AWKWARD = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0", b"\xff\xff", b"SQ", b"UN", b"DS"]


def mutated(data, rng, *, end):
    """Return the data with one to four damages before ``end``."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(0, min(end, len(data) - 8)))
        count = int(rng.integers(1, 9))
        kind = rng.integers(0, 6)
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            awkward = AWKWARD[rng.integers(0, len(AWKWARD))]
            data[at : at + len(awkward)] = awkward
        elif kind == 2:
            del data[at : at + count]
        elif kind == 3:
            data[at:at] = data[at : at + count]
        elif kind == 4:
            data[at : at + count] = rng.bytes(count)
        else:
            del data[at + 100 :]
    return bytes(data)


def seeds():
    """Give a name and a way to make two slices, or one enhanced file, of each encoding."""

    def plain(syntax):
        slices = phantoms.ct_slices((2, 48, 40))
        for ds in slices:
            if syntax is not None:
                ds.file_meta.TransferSyntaxUID = syntax
                ds["PixelData"].VR = "OW"
            if syntax == ExplicitVRBigEndian:
                ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        return slices

    def nested():
        slices = phantoms.ct_slices((2, 48, 40))
        for ds in slices:
            ds.SourceImageSequence = [phantoms.localizer(), phantoms.localizer()]
            ds["SourceImageSequence"].is_undefined_length = True
            for item in ds.SourceImageSequence:
                del item.PixelData
                item.is_undefined_length_sequence_item = True
        return slices

    yield "explicit", lambda: plain(None)
    yield "nested", nested
    yield "implicit", lambda: plain(ImplicitVRLittleEndian)
    yield "big", lambda: plain(ExplicitVRBigEndian)
    yield "deflated", lambda: plain(DeflatedExplicitVRLittleEndian)
    yield "enhanced", lambda: [enhanced()]
    for syntax in LOSSLESS:
        yield syntax.rpartition(".")[2], lambda syntax=syntax: compressed(syntax)[:2]


SEEDS = dict(seeds())
PLACING = (
    *(
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "Rows",
        "Columns",
        "SamplesPerPixel",
    ),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"),
    *("SeriesInstanceUID", "SOPInstanceUID", "SamplesPerPixel", "PixelPaddingValue", "PixelData"),
)


def placed(path):
    """Return what pydicom finds of what a slice's voxels and their place are made of."""
    try:
        with config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = dcmread(path, force=True)
            return {keyword: ds.get(keyword) for keyword in PLACING}
    except Exception as error:
        return error


def same(volume, expected):
    return np.array_equal(volume.array, expected.array) and np.allclose(volume.affine, expected.affine)


@pytest.mark.parametrize("name", SEEDS)
def test_a_damaged_header_is_read_or_refused(tmp_path, name):
    folder = tmp_path / "in"
    folder.mkdir()
    for n, ds in enumerate(SEEDS[name]()):
        dcmwrite(folder / f"IM{n}", ds, enforce_file_format=True)
    target = folder / "IM0"
    good = target.read_bytes()
    is_plain = name in ("explicit", "nested", "implicit", "big")
    end = len(good) - 48 * 40 * 2 + 100 if is_plain else len(good)
    expected, sound = read_series(folder), placed(target)
    rng = np.random.default_rng(20260101)
    messages = []
    for _ in range(CASES):
        target.write_bytes(mutated(good, rng, end=end))
        clock = time.monotonic()
        try:
            volume = read_series(folder)
        except StageError as error:
            messages.append(str(error))
        else:
            if is_plain and not same(volume, expected):
                assert placed(target) != sound
        assert time.monotonic() - clock < SECONDS
    assert len(messages) > CASES / 4
    assert all(0 < len(message) < 1000 for message in messages)


@pytest.mark.parametrize("name", ["explicit", "implicit"])
def test_damage_of_what_a_volume_is_made_of_never_passes_in_silence(tmp_path, name):
    """Every single byte of the elements that place or scale a slice is damaged in turn."""
    folder = tmp_path / "in"
    folder.mkdir()
    for n, ds in enumerate(phantoms.ct_slices((4, 16, 20))):
        if name == "implicit":
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dcmwrite(folder / f"IM{n}", ds, enforce_file_format=True)
    expected = read_series(folder)
    target = folder / "IM1"
    good = target.read_bytes()
    silent = []
    for tag in (b"\x28\x00\x10\x00", b"\x28\x00\x11\x00", b"\x28\x00\x00\x01", b"\x28\x00\x30\x00"):
        at = good.index(tag, 300)
        for n in range(at, at + 12):
            target.write_bytes(good[:n] + bytes([good[n] ^ 0x15]) + good[n + 1 :])
            try:
                volume = read_series(folder)
            except StageError:
                continue
            if not same(volume, expected):
                silent.append((tag, n - at))
    assert silent == []


def test_damaged_compressed_pixels_are_decoded_to_the_matrix_or_refused(tmp_path):
    """What decoders make of noise is not known, but it is of the right size or an error."""
    path = Path(tmp_path / "IM0")
    rng = np.random.default_rng(7)
    for syntax in LOSSLESS:
        ds = compressed(syntax)[0]
        dcmwrite(path, ds, enforce_file_format=True)
        good = path.read_bytes()
        (header,) = scan_folder(tmp_path).headers
        for _ in range(CASES // 4):
            data = bytearray(good)
            for at in rng.integers(header.pixel_offset + 16, len(good), 5):
                data[at] = rng.integers(0, 256)
            path.write_bytes(bytes(data))
            try:
                hu, _ = read_pixels([header])
            except StageError:
                continue
            assert hu.shape == (1, 48, 40)


REAL = [
    "dcm_qa_ct_GE",
    "totalseg/example_ct_dicom",
    "dcmqi/ct-3slice",
    "dicom2nifti_failing/gantrytilting",
    "dicom2nifti_failing/sliceincrement",
    "transfer_syntaxes",
    "pydicom_data/eCT_Supplemental.dcm",
]


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
def test_a_damaged_header_of_a_scanner_is_read_or_refused(real_data, tmp_path, name):
    place = real_data / name
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    sources = [p for p in files if p.stat().st_size > 5000 and read_header(p)]
    rng = np.random.default_rng(20260102)
    target = tmp_path / "IM0"
    for n in range(CASES):
        data = sources[n % len(sources)].read_bytes()
        target.write_bytes(mutated(data, rng, end=6000))
        clock = time.monotonic()
        try:
            headers = scan_folder(tmp_path).headers
            hu, _ = read_pixels(headers) if headers else (None, [])
            assert hu is None or hu.dtype == np.int16
        except StageError as error:
            assert str(error).count("\n") == 0  # noqa: PT017
        assert time.monotonic() - clock < SECONDS
