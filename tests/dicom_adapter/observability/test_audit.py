"""The audit trail: what its lines say, that they are only added, and that a changed one shows."""

import json
import os
import resource
from contextlib import contextmanager

import pytest

from dicom_adapter.observability.audit import AuditTrail
from dicom_adapter.observability.audit_chain import AuditChain, check_chain
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
    assert check_chain(file).broken == ""


@pytest.mark.parametrize("meddled", [1, 2, 3])
def test_a_line_that_was_changed_shows_at_the_next(file, meddled):
    write(file, 5)
    changed = file.read_text().splitlines()
    changed[meddled] = changed[meddled].replace("PACS", "ELSE")
    file.write_text("\n".join(changed) + "\n")
    assert check_chain(file).broken.endswith(f"line {meddled + 2}")


def test_a_line_that_was_taken_out_shows(file):
    write(file, 5)
    kept = file.read_text().splitlines()
    del kept[2]
    file.write_text("\n".join(kept) + "\n")
    assert check_chain(file).broken.endswith("line 3")


def test_a_line_that_a_crash_cut_spoils_none_that_follow(file):
    write(file, 2)
    file.write_bytes(file.read_bytes()[:-20])
    write(file, 2)
    whole, cut, *added = file.read_text().splitlines()
    assert json.loads(whole)
    assert not cut.endswith("}")
    assert [kind(json.loads(line)) for line in added] == ["110134", "110104", "110104"]
    assert "the line before was cut off" in added[0]
    found = check_chain(file)
    assert (found.broken, found.lines, found.cut) == ("", 5, (f"{file}: line 2",))


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write the audit trail"):
        AuditTrail(tmp_path / "file/trail", ae_title="CLARA")


def kind(message):
    event = message["EventIdentification"]
    return event.get("EventTypeCode", event["EventID"])["csd-code"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_where_the_trail_belongs(file, make):
    file.parent.mkdir()
    make(file)
    with pytest.raises(OutputError, match=r"no regular file|Is a directory"):
        AuditTrail(file, ae_title="CLARA")


def test_a_line_that_lacks_nothing_but_its_end_is_whole(file):
    write(file, 2)
    file.write_bytes(file.read_bytes()[:-1])
    write(file, 1)
    assert [kind(line) for line in lines(file)] == ["110104"] * 3
    assert check_chain(file).cut == ()


def test_what_did_not_fit_follows_when_there_is_room_and_the_chain_says_what_happened(file):
    trail = AuditTrail(file, ae_title="CLARA")
    trail.started()
    length = file.stat().st_size
    with largest_file(length + length // 2):  # half of the next line
        for _ in range(3):
            trail.stopped()
        assert "cannot write the audit trail" in trail.trouble
        assert check_chain(file).broken == ""
    trail.flush()
    assert trail.trouble == ""
    trail.close()
    found = check_chain(file)
    assert (found.broken, found.cut) == ("", (f"{file}: line 2",))
    whole = [json.loads(line) for n, line in enumerate(file.read_text().splitlines()) if n != 1]
    assert [kind(each) for each in whole] == ["110120", "110134", "110121", "110121", "110121"]


@pytest.mark.parametrize("room", [0, 1, 40, -2, -1])
def test_at_whichever_byte_the_disk_is_full_each_message_is_there_once(file, room):
    trail = AuditTrail(file, ae_title="CLARA")
    trail.started()
    length = file.stat().st_size
    following = length - len("begin") + 64 - len("Start") + len("Stop")
    with largest_file(length + (room if room >= 0 else following + room)):
        trail.stopped()
    trail.flush()
    trail.close()
    texts = file.read_text().splitlines()
    assert sum(kind(json.loads(text)) == "110121" for text in texts if text.endswith("}")) == 1
    assert check_chain(file).broken == ""


def test_after_a_full_disk_and_a_crash_the_next_start_ends_the_line(file):
    trail = AuditTrail(file, ae_title="CLARA")
    trail.started()
    with largest_file(file.stat().st_size + 50):
        trail.stopped()
        trail.close()
        AuditTrail(file, ae_title="CLARA").close()  # still no room: it starts, and says so later
    write(file, 1)
    assert [kind(json.loads(text)) for text in file.read_text().splitlines()[2:]] == ["110134", "110104"]
    assert check_chain(file).broken == ""


def test_a_file_that_is_large_enough_gets_a_number_and_the_chain_goes_on(file, monkeypatch):
    monkeypatch.setattr(AuditChain.__init__, "__kwdefaults__", {"largest": 1500})
    write(file, 3)
    write(file, 3)
    names = sorted(path.name for path in file.parent.iterdir())
    assert names[:2] == ["trail-0001.jsonl", "trail-0002.jsonl"]
    found = check_chain(file)
    assert (found.broken, found.lines, found.is_whole) == ("", 6, True)
    (file.parent / names[0]).unlink()
    assert not check_chain(file).is_whole
    assert check_chain(file).broken == ""


def test_a_line_that_is_changed_in_an_older_file_shows_in_the_next(file, monkeypatch):
    monkeypatch.setattr(AuditChain.__init__, "__kwdefaults__", {"largest": 1})
    write(file, 3)
    first = file.with_stem("trail-0001")
    first.write_text(first.read_text().replace("PACS", "ELSE"))
    assert check_chain(file).broken == f"{file.with_stem('trail-0002')}: line 1"


def test_a_file_that_somebody_takes_away_goes_on_in_a_new_one_that_says_so(file):
    trail = AuditTrail(file, ae_title="CLARA")
    trail.started()
    file.unlink()
    trail.stopped()
    trail.close()
    told, stopped = lines(file)
    assert kind(told) == "110134"
    assert "moved or removed" in json.dumps(told)
    assert kind(stopped) == "110121"


def test_a_tail_of_zeros_as_a_power_failure_leaves_it_is_a_line_that_was_cut(file):
    write(file, 1)
    with file.open("ab") as target:
        target.write(bytes(300_000))
    write(file, 1)
    assert check_chain(file).cut == (f"{file}: line 2",)
    assert check_chain(file).broken == ""


def test_only_we_and_our_group_may_read_it_whatever_the_umask(file):
    before = os.umask(0)
    try:
        write(file)
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o640


@contextmanager
def largest_file(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
