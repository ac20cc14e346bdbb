"""A DICOM file is opened one way, for reader and writer alike, whatever stands before its data set."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite, write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_files.header import ROWS, read_file_header
from dicom_reader import read_series
from dicom_writer.source.images import find_source
from dicom_writer.source.pixels import source_values
from tests import phantoms

PREAMBLE = bytes(128) + b"DICM"
APPLE_DOUBLE = bytes.fromhex("00051607 00020000") + b"Mac OS X        " + bytes(4072)


def bare(ds, syntax):
    """Return a data set without anything before it."""
    content, buffer = Dataset(), DicomBytesIO()
    content.update({element.tag: element for element in ds})
    content["PixelData"].VR = "OW"
    buffer.is_implicit_VR, buffer.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    write_dataset(buffer, content)
    return buffer.getvalue()


def swapped(ds):
    """Return a slice with its pixels in big endian order."""
    ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def whole(ds, syntax):
    """Return a file as the standard has it."""
    buffer = DicomBytesIO()
    ds.file_meta.TransferSyntaxUID = syntax
    dcmwrite(buffer, swapped(ds) if syntax == ExplicitVRBigEndian else ds, enforce_file_format=True)
    return buffer.getvalue()


FORMS = {
    "as the standard has it": lambda ds: whole(ds, ExplicitVRLittleEndian),
    "no preamble": lambda ds: whole(ds, ExplicitVRLittleEndian)[132:],
    "no preamble, implicit": lambda ds: whole(ds, ImplicitVRLittleEndian)[132:],
    "no preamble, big endian": lambda ds: whole(ds, ExplicitVRBigEndian)[132:],
    "no meta information": lambda ds: PREAMBLE + bare(ds, ExplicitVRLittleEndian),
    "no meta information, implicit": lambda ds: PREAMBLE + bare(ds, ImplicitVRLittleEndian),
    "no meta information, big endian": lambda ds: PREAMBLE + bare(swapped(ds), ExplicitVRBigEndian),
    "nothing before it": lambda ds: bare(ds, ExplicitVRLittleEndian),
    "nothing before it, implicit": lambda ds: bare(ds, ImplicitVRLittleEndian),
    "deflated": lambda ds: whole(ds, DeflatedExplicitVRLittleEndian),
}


@pytest.fixture
def folder(tmp_path):
    """Return what writes the phantom, each slice in a form, among files that are none."""

    def write(form):
        for n, ds in enumerate(phantoms.ct_slices()):
            (tmp_path / f"IM{n}").write_bytes(FORMS[form](ds))
            (tmp_path / f"._IM{n}").write_bytes(APPLE_DOUBLE)
        (tmp_path / "notes").write_text("DICM is at 128\n" * 100)
        return tmp_path

    return write


@pytest.mark.parametrize("form", FORMS)
def test_the_reader_takes_it(folder, form):
    assert np.array_equal(read_series(folder(form)).array, phantoms.hounsfield())


@pytest.mark.parametrize("form", FORMS)
def test_the_writer_takes_it(folder, form):
    sources = find_source(folder(form), phantoms.mask())
    assert [ds.SOPInstanceUID for ds in sources] == [phantoms.uid_of(n) for n in range(5)]
    assert sources[2].PatientName == "Doe^Jane"


@pytest.mark.parametrize("form", FORMS)
def test_the_writer_shows_its_pixels(folder, form):
    values = source_values(folder(form) / "IM3")
    assert values[5, 7] == 100 * 3 + 10 * 5 + 7 - 500


def test_an_element_out_of_its_order_hides_none_that_comes_after_it(tmp_path):
    (ds,) = phantoms.ct_slices((1, 16, 20))
    data = whole(ds, ExplicitVRLittleEndian)
    at = data.index(b"\x08\x00\x60\x00CS")
    (tmp_path / "IM0").write_bytes(data[:at] + b"\x33\x00\x10\x00LO\x02\x00X " + data[at:])
    header = read_file_header(tmp_path / "IM0", frozenset({0x00080060, ROWS}))
    assert header.values == {0x00080060: b"CT", ROWS: b"\x10\x00", **header.values}
    assert header.pixel_length == 640
