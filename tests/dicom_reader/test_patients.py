"""A job is of one patient: series of two are refused, and no message names either."""

import pytest

from dicom_reader import read_all_series, read_series
from dicom_reader.explain import explain
from dicom_reader.read import judge_folder
from dicom_reader.rules import with_series
from stages import InputError
from tests import phantoms

OTHER = "1.2.3.77"


def two_series(folder, *, first=None, **second):
    phantoms.save(phantoms.ct_slices((3, 16, 20), **(first or {})), folder / "a")
    phantoms.save(phantoms.ct_slices((4, 16, 20), series=OTHER, **second), folder / "b")
    return folder


@pytest.mark.parametrize("other", ["P-2", "", "p-1", "P-1 A"])
def test_series_of_two_patients_are_refused_naming_both_and_no_value(tmp_path, other):
    folder = two_series(tmp_path, PatientID=other)
    with pytest.raises(InputError) as refused:
        read_series(folder)
    assert str(refused.value) == (
        "IM000: Patient ID (0010,0020) differs from that of IM000, of series 1.2.3.77, while this is of "
        "series 1.2.3.2; a job is of one patient: send each in a job of its own, or name one series with "
        "--series"
    )
    with pytest.raises(InputError, match=r"Patient ID \(0010,0020\) differs"):
        list(read_all_series(folder))


def test_two_patients_whose_identifiers_are_not_ascii_are_told_apart(tmp_path):
    folder = two_series(
        tmp_path,
        first={"SpecificCharacterSet": "ISO_IR 100", "PatientID": "Ä-1"},
        SpecificCharacterSet="ISO_IR 100",
        PatientID="Ö-1",
    )
    with pytest.raises(InputError, match=r"of series 1\.2\.3\.77"):
        read_series(folder)


def test_one_patient_in_two_character_sets_is_one(tmp_path):
    folder = two_series(
        tmp_path,
        first={"SpecificCharacterSet": "ISO_IR 100", "PatientID": "Ä-1 "},
        SpecificCharacterSet="ISO_IR 192",
        PatientID="Ä-1",
    )
    assert read_series(folder).origin.series_instance_uid == OTHER


def test_an_issuer_tells_patients_apart_only_where_both_have_one(tmp_path):
    folder = two_series(tmp_path / "one", IssuerOfPatientID="north")
    assert read_series(folder).origin.series_instance_uid == OTHER
    folder = two_series(tmp_path / "two", first={"IssuerOfPatientID": "south"}, IssuerOfPatientID="north")
    with pytest.raises(InputError, match=r"Issuer of Patient ID \(0010,0021\) differs") as refused:
        read_series(folder)
    assert "north" not in str(refused.value)
    assert "south" not in str(refused.value)


def test_explain_says_that_series_of_two_patients_are_refused(tmp_path):
    *_, last = explain(judge_folder(two_series(tmp_path / "two", PatientID="P-2")))
    assert last.startswith("refused: IM000: Patient ID (0010,0020) differs from that of IM000, of series ")
    assert not any(line.startswith("refused") for line in explain(judge_folder(two_series(tmp_path / "one"))))


def test_what_the_rules_drop_is_no_candidate(tmp_path):
    folder = two_series(tmp_path, PatientID="P-2")
    chosen = read_series(folder, rules=with_series(None, phantoms.SERIES))
    assert chosen.origin.series_instance_uid == phantoms.SERIES
