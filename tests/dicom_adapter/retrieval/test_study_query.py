"""What somebody types of a study, as an archive is asked for it."""

import pytest

from clara_wf.run.archives import study_query
from stages.errors import SettingsError


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("", ""),
        ("2026-01-31", "20260131"),
        ("2026-01-01..", "20260101-"),
        ("..2026-01-31", "-20260131"),
        ("2026-01-01..2026-01-31", "20260101-20260131"),
    ],
)
def test_range_of_dates(typed, asked):
    assert study_query(patient_id="4711", dates=typed).dates == asked


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, "say which study"),
        ({"modality": "CT"}, "say which study"),
        ({"study_uid": "../.."}, "--study is no UID"),
        ({"study_uid": "1." + "2" * 64}, "--study is no UID"),
        ({"patient_id": "*"}, "--patient holds one of"),
        ({"accession": "A?"}, "--accession holds one of"),
        ({"accession": "A\\B"}, "--accession holds one of"),
        ({"patient_id": "4711\n"}, "some that no text has"),
        ({"patient_id": "4711", "dates": ".."}, "--date is no range"),
        ({"patient_id": "4711", "dates": "2026-02-01..2026-01-01"}, "--date is no range"),
        ({"patient_id": "4711", "dates": "yesterday"}, "write it as 2026-01-31"),
    ],
    ids=str,
)
def test_what_says_no_study_is_refused(query, words):
    with pytest.raises(SettingsError, match=words):
        study_query(**query)


def test_nothing_that_was_typed_of_a_patient_is_repeated():
    with pytest.raises(SettingsError) as error:
        study_query(patient_id="SECRET*")
    assert "SECRET" not in str(error.value)
