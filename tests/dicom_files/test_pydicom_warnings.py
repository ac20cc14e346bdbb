"""Warnings of pydicom on each of many files are one line a kind, with no value in it."""

import logging
import re
import warnings

import pytest
from pydicom.misc import warn_and_log

from dicom_files.pydicom_warnings import kind_of, warnings_by_kind
from dicom_writer.source.images import find_source
from tests import phantoms


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Invalid value for VR UI: '1.2.3'. Please see <https://dicom>", "Invalid value for VR UI"),
        (
            "The value length (66) exceeds the maximum length of 64",
            "The value length (N) exceeds the maximum length of N",
        ),
        ("Unknown encoding 'O'Brien' - using 'x' instead", "Unknown encoding '...' instead"),
        (
            "End of file reached before (FFFE,E0DD) in file /data/Doe Jane X/IM 1",
            "End of file reached before (FFFE,E0DD) in file",
        ),
        ("UID 1.2.840.10008 at position 0x1F", "UID N at position N"),
    ],
)
def test_a_kind_has_no_value(text, kind):
    assert kind_of(text) == kind


def test_warnings_are_logged_once_a_kind_with_their_count(caplog):
    with warnings_by_kind(), warnings_by_kind():
        for n in range(20):
            warn_and_log(f"Invalid value for VR UI: 'Doe{n}'")
        warn_and_log("File ends early")
    assert [r.getMessage() for r in caplog.records] == [
        "pydicom warned once: File ends early",
        "pydicom warned 20 times: Invalid value for VR UI",
    ]


def test_warnings_of_others_pass():
    with pytest.warns(UserWarning, match="mine"), warnings_by_kind():
        warnings.warn("mine", UserWarning, stacklevel=1)


def test_a_name_that_is_undecodable_in_every_file_gives_one_line_without_it(tmp_path, caplog):
    slices = phantoms.ct_slices(SpecificCharacterSet="ISO_IR 192")
    folder = phantoms.save(slices, tmp_path)
    for path in (p for p in folder.rglob("IM*") if p.is_file()):
        path.write_bytes(path.read_bytes().replace(b"PN\x08\x00Doe^", b"PN\x08\x00\xffoe^"))
    with caplog.at_level(logging.WARNING), warnings_by_kind():
        for dataset in find_source(folder, phantoms.mask()):
            assert "Jane" in str(dataset.PatientName)
    (line,) = [r.getMessage() for r in caplog.records if r.name == warnings_by_kind.__module__]
    assert re.match(r"pydicom warned [5-9] times: Failed to decode byte string with encoding '...'", line)
    assert "oe^" not in caplog.text
