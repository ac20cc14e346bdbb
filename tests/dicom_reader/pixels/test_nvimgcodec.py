"""The CUDA device decodes what the CPU does, bit for bit."""

import numpy as np
import pytest

from dicom_reader.files.headers import read_header
from dicom_reader.pixels import nvimgcodec
from dicom_reader.pixels.hounsfield import PixelEncoding
from dicom_reader.pixels.pixels import read_pixels
from tests import phantoms
from tests.dicom_reader.pixels.test_decoders import SHAPE, compressed


def headers_of(slices, folder):
    for n, ds in enumerate(slices):
        ds.save_as(folder / f"IM{n}", enforce_file_format=True)
    return [read_header(folder / f"IM{n}") for n in range(len(slices))]


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201"])
def test_the_device_gives_the_bits_of_the_cpu(tmp_path, syntax, signed):
    headers = headers_of(compressed(syntax, signed=signed), tmp_path)
    if not nvimgcodec.takes(headers):
        pytest.skip("nvImageCodec is not installed, or sees no CUDA device")
    stored = np.empty(SHAPE, np.int16)
    assert nvimgcodec.decode_series(headers, [PixelEncoding.from_header(h) for h in headers], stored)
    assert np.array_equal(stored, phantoms.hounsfield(SHAPE) + (0 if signed else 1024))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.203"])
def test_what_it_cannot_decode_bit_for_bit_is_left_to_the_cpu(tmp_path, syntax):
    assert not nvimgcodec.takes(headers_of(compressed(syntax), tmp_path))


def test_the_cpu_decodes_where_the_device_fails(tmp_path, monkeypatch, caplog):
    def fail(headers, planes):
        raise RuntimeError("no memory on the device")

    monkeypatch.setattr(nvimgcodec, "takes", lambda headers: True)
    monkeypatch.setattr(nvimgcodec, "_decode_batch", fail)
    hu, _ = read_pixels(headers_of(compressed("1.2.840.10008.1.2.4.90"), tmp_path))
    assert np.array_equal(hu, phantoms.hounsfield(SHAPE))
    assert "the CPU decodes instead: no memory on the device" in caplog.text


def test_the_cpu_decodes_where_the_device_gives_other_values(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(nvimgcodec, "takes", lambda headers: True)
    monkeypatch.setattr(nvimgcodec, "_decode_batch", lambda headers, planes: planes.fill(7))
    hu, _ = read_pixels(headers_of(compressed("1.2.840.10008.1.2.4.90"), tmp_path))
    assert np.array_equal(hu, phantoms.hounsfield(SHAPE))
    assert "other values than the CPU" in caplog.text
