from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_adapter.storage.paths import AdapterPaths, ae_title_of, checked_uid, folder_of
from stages.errors import InputError

PLACES = AdapterPaths(root=Path("/data"))


@pytest.mark.parametrize(
    "uid",
    [
        "",
        "..",
        "../../etc",
        "1.2/3",
        "1.2.",
        ".1.2",
        "1..2",
        "1.2\0",
        "1.2\n",
        "1" * 65,
        "3.1",
        None,
        "a.b",
    ],
)
def test_what_is_no_uid_is_refused(uid):
    with pytest.raises(InputError, match="is no UID"):
        checked_uid(uid, "StudyInstanceUID")


@pytest.mark.parametrize(
    ("uid", "reason"),
    [
        ("", "it is missing or empty"),
        ("1.2." + "3" * 61, "it has 65 characters, 64 are allowed"),
        ("3." + "1" * 62, "its dots or its first number are wrong"),
        ("a.b", "it holds 'a'"),
        ("1.2.x9", "it holds 'x'"),
    ],
)
def test_it_is_said_what_keeps_a_uid_from_being_one(uid, reason):
    with pytest.raises(InputError, match=f"is no UID .*: {reason}; "):
        checked_uid(uid, "StudyInstanceUID")


@pytest.mark.parametrize(
    "uid", ["1.2", "1.02", "1.0.00", "2.25.0", "1.2.840.10008.5.1.4.1.1.2", "2.25." + "9" * 59]
)
def test_uid_is_taken(uid):
    assert checked_uid(uid, "StudyInstanceUID") == uid


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=16))
def test_folder_of_any_ae_title_is_one_name_and_leads_back(title):
    folder = folder_of(title)
    assert "/" not in folder
    assert folder.strip(".") == folder
    assert ae_title_of(folder) == title


def test_what_is_beside_the_studies_has_the_name_that_backups_know():
    names = {path.name for path in (PLACES.database, PLACES.audit, PLACES.incoming, PLACES.studies)}
    assert names == {"adapter.sqlite", "audit.jsonl", "incoming", "studies"}
    assert {path.parent for path in (PLACES.database, PLACES.audit, PLACES.incoming)} == {PLACES.root}


def test_study_lies_within_the_folder():
    assert PLACES.study("../X", "1.2.3") == Path("/data/studies/%2E%2E%2FX/1.2.3")
