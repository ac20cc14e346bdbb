"""What a result says, apart from when: equal results have equal contents."""

import os
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from dicom_adapter.storage.results import content_of, read_result
from stages.errors import OutputError
from tests.phantoms import ct_slices


@pytest.fixture
def content(tmp_path):
    """Return what writes a result with these attributes and gives its content."""

    def of(syntax=None, **attributes):
        (ds,) = ct_slices((1, 4, 4), **attributes)
        if syntax:
            ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(tmp_path / "x.dcm", implicit_vr=bool(syntax), enforce_file_format=True)
        return content_of(tmp_path / "x.dcm")

    return of


def test_dates_and_times_are_no_content(content):
    times = {"ContentTime": "101112", "SeriesDate": "20261126", "AcquisitionDateTime": "20261126101112"}
    before = dict.fromkeys(times, "")
    assert content(**before) == content(**times) != ""
    syntax = ImplicitVRLittleEndian
    assert content(syntax, **before) == content(syntax, **times)


def item(value):
    inner = Dataset()
    inner.CodeValue = value
    inner.is_undefined_length_sequence_item = True
    return inner


@pytest.mark.parametrize(
    ("attribute", "one", "other"),
    [
        ("PatientID", "P-1", "P-2"),
        ("PixelData", bytes(32), bytes(31) + b"\1"),
        ("ProcedureCodeSequence", [item("1")], [item("2")]),
        ("StudyDescription", "", "x"),
    ],
)
def test_everything_else_is_content(content, attribute, one, other):
    assert content(**{attribute: one}) == content(**{attribute: one})
    assert content(**{attribute: one}) != content(**{attribute: other})


def test_what_cannot_be_read_through_has_no_content(content, tmp_path):
    content()
    whole = (tmp_path / "x.dcm").read_bytes()
    (tmp_path / "x.dcm").write_bytes(whole[:200])
    assert content_of(tmp_path / "x.dcm") == ""
    assert content_of(tmp_path / "nowhere") == ""
    (tmp_path / "x.dcm").write_bytes(whole)
    assert dcmread(tmp_path / "x.dcm").Rows == 4


def test_what_is_in_place_of_a_result_and_is_no_file_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "result.dcm")
    for path in (tmp_path / "result.dcm", tmp_path, Path("/dev/zero")):
        with pytest.raises(OutputError, match="cannot be sent: it is no file"):
            read_result(path)
