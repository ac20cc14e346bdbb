"""A job is of one patient: series of two are refused, and no message names either."""

import pytest

from dicom_reader import read_all_series, read_series
from dicom_reader.explain import explain
from dicom_reader.read import judge_folder
from dicom_reader.selection.rules import with_series
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


TWO = r"Patient's Name \(0010,0010\) and Patient's Birth Date \(0010,0030\) differ from those of IM000"
NAME, BORN = r": Patient's Name \(0010,0010\) differs", r": Patient's Birth Date \(0010,0030\) differs"


@pytest.mark.parametrize(
    ("patient_id", "other", "message"),
    [
        ("", {"PatientName": "Roe^Ann", "PatientBirthDate": "19900101"}, TWO),
        ("ANON", {"PatientName": "Roe^Ann", "PatientBirthDate": "19900101"}, TWO),
        ("P-1", {"PatientName": "Roe^Ann", "PatientBirthDate": "19900101"}, TWO),
        ("", {"PatientName": "Roe^Ann"}, NAME),
        ("anonymous", {"PatientName": "Roe^Ann", "PatientBirthDate": ""}, NAME),
        ("DEIDENTIFIED", {"PatientName": "Roe^Ann"}, NAME),
        ("0000", {"PatientBirthDate": "19900101"}, BORN),
        ("", {"PatientName": "Doe^John"}, NAME),
    ],
)
def test_two_people_of_one_id_are_told_apart_by_name_and_birth_date(tmp_path, patient_id, other, message):
    folder = two_series(tmp_path, first={"PatientID": patient_id}, PatientID=patient_id, **other)
    with pytest.raises(InputError, match=message) as refused:
        read_series(folder)
    assert not any(word in str(refused.value) for word in ("Doe", "Roe", "1950", "1990"))


def test_two_people_in_one_series_are_refused(tmp_path):
    slices = phantoms.ct_slices(PatientID="")
    slices[2].PatientName, slices[2].PatientBirthDate = "Roe^Ann", "19900101"
    with pytest.raises(InputError, match=r"differ from those of IM\d+, of the same series") as told:
        read_series(phantoms.save(slices, tmp_path))
    assert "--series" not in str(told.value)  # it would name both


@pytest.mark.parametrize(
    "name",
    [
        "DOE^JANE",
        "Doe^Jane^^^",
        "Doe^Jane ",
        "Doe^Jane^Mary",
        "DOE JANE",
        "Jane^Doe",
        "Doe^J",
        "Doe^Jane^^Dr",
        "Döe^Jane",
        "",
    ],
)
def test_one_name_in_another_form_is_one_person(tmp_path, name):
    folder = two_series(
        tmp_path, first={"PatientID": ""}, PatientID="", PatientName=name, SpecificCharacterSet="ISO_IR 100"
    )
    assert read_series(folder).origin.series_instance_uid == OTHER


def test_a_name_in_two_scripts_is_that_of_one_person_where_one_of_them_agrees(tmp_path):
    both = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    where = {"SpecificCharacterSet": "ISO_IR 192", "PatientID": ""}
    folder = two_series(
        tmp_path / "a", first={**where, "PatientName": both}, **where, PatientName="YAMADA^TAROU"
    )
    assert read_series(folder).origin.series_instance_uid == OTHER
    folder = two_series(
        tmp_path / "b", first={**where, "PatientName": both}, **where, PatientName="=山田^太郎"
    )
    assert read_series(folder).origin.series_instance_uid == OTHER
    folder = two_series(
        tmp_path / "c", first={**where, "PatientName": both}, **where, PatientName="=山田^花子"
    )
    with pytest.raises(InputError, match=NAME):
        read_series(folder)


@pytest.mark.parametrize(
    "change", [{"PatientName": "Roe^Jane"}, {"PatientBirthDate": "19500111"}, {"PatientBirthDate": ""}]
)
def test_a_new_name_or_a_corrected_birth_date_is_no_new_patient_where_the_id_is_the_same(tmp_path, change):
    assert read_series(two_series(tmp_path, **change)).origin.series_instance_uid == OTHER


def test_what_is_no_birth_date_says_nothing(tmp_path):
    folder = two_series(tmp_path, first={"PatientID": ""}, PatientID="", PatientBirthDate="00010101")
    assert read_series(folder).origin.series_instance_uid == OTHER
