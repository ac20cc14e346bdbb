"""The audit trail: what its lines say, that they are only added, and that a changed one shows."""

import json

import pytest

from dicom_adapter.watching.audit import AuditTrail, first_break
from stages.errors import OutputError


@pytest.fixture
def file(tmp_path):
    return tmp_path / "audit/trail.jsonl"


def write(file, times=1):
    trail = AuditTrail(file, ae_title="CLARA")
    for n in range(times):
        trail.sent(study="5ac1", job=f"j{n}", destination="PACS", address="10.0.0.7", instances=2, outcome=0)
    trail.close()


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_transfer_has_the_content_of_the_audit_message_profile(file):
    write(file)
    (message,) = lines(file)
    event = message["EventIdentification"]
    assert event["EventID"]["csd-code"] == "110104"
    assert (event["EventActionCode"], event["EventOutcomeIndicator"]) == ("R", 0)
    roles = {each["RoleIDCode"]["csd-code"]: each["UserID"] for each in message["ActiveParticipant"]}
    assert roles == {"110150": "CLARA", "110153": "CLARA", "110152": "PACS"}
    (study,) = message["ParticipantObjectIdentification"]
    assert study["ParticipantObjectIDTypeCode"]["csd-code"] == "110180"
    assert study["ParticipantObjectID"] == "hash:5ac1"


def test_a_restart_adds_to_what_is_there_and_the_chain_goes_on(file):
    write(file, 2)
    before = file.read_bytes()
    write(file, 3)
    assert file.read_bytes().startswith(before)
    assert len(lines(file)) == 5
    assert first_break(file) is None


@pytest.mark.parametrize("meddled", [1, 2, 3])
def test_a_line_that_was_changed_shows_at_the_next(file, meddled):
    write(file, 5)
    changed = file.read_text().splitlines()
    changed[meddled] = changed[meddled].replace("PACS", "ELSE")
    file.write_text("\n".join(changed) + "\n")
    assert first_break(file) == meddled + 2


def test_a_line_that_was_taken_out_shows(file):
    write(file, 5)
    kept = file.read_text().splitlines()
    del kept[2]
    file.write_text("\n".join(kept) + "\n")
    assert first_break(file) == 3


def test_a_line_that_a_crash_cut_spoils_none_that_follow(file):
    write(file, 2)
    file.write_bytes(file.read_bytes()[:-20])
    write(file, 2)
    whole, cut, *added = file.read_text().splitlines()
    assert json.loads(whole)
    assert not cut.endswith("}")
    assert [json.loads(line)["EventIdentification"]["EventActionCode"] for line in added] == ["R", "R"]
    assert first_break(file) is None


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write the audit trail"):
        AuditTrail(tmp_path / "file/trail", ae_title="CLARA")
