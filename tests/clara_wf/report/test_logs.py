"""What is taken from logs that may hold anything."""

from clara_wf.report.logs import Model, Warned, end_of, model_in, warnings_in, without_uids

UID = "1.2.826.0.1.3680043.9.7433.1.2.3"


def test_warnings_and_errors_are_taken_once_each():
    lines = [
        "2026-03-04T12:00:00Z INFO a: WARNING is only a word here",
        "2026-03-04T12:00:01Z WARNING dicom_reader.read: spacing made even",
        "2026-03-04T12:00:02Z WARNING dicom_reader.read: spacing made even",
        "2026-03-04T12:00:03Z ERROR stages.lifecycle.driver: no slices",
        "WARNING",
    ]
    assert warnings_in(lines, stage="s") == [
        Warned("s", "WARNING", "spacing made even"),
        Warned("s", "ERROR", "no slices"),
    ]


def test_the_model_is_the_one_that_was_ready_last():
    lines = [f"Z INFO ai_livertumor: model liver version {n} at 10.0.0.1:8001 is ready" for n in (1, 2)]
    assert model_in(lines, stage="ai") == Model("ai", "liver", "2")
    assert model_in(["model liver"], stage="ai") is None


def test_of_a_long_log_the_end_is_read(tmp_path):
    log = tmp_path / "a.log"
    log.write_bytes(b"old line\n" * 200_000 + b"\xff the end\n")
    lines = end_of(log)
    assert lines[-1] == r"\xff the end"
    assert set(lines[:-1]) == {"old line"}
    assert sum(len(line) + 1 for line in lines) <= 2**20


def test_a_log_that_is_not_there_has_no_lines(tmp_path):
    assert end_of(tmp_path / "none.log") == []


def test_a_line_without_end_is_cut(tmp_path):
    (tmp_path / "a.log").write_text("x" * 5000)
    assert [len(line) for line in end_of(tmp_path / "a.log")] == [600]


def test_uids_are_shortened_wherever_they_stand():
    assert without_uids(f"series {UID}: wrote {UID}.seg.dcm.") == (
        "series 1.2.826…1.2.3: wrote 1.2.826…1.2.3.seg.dcm."
    )
    assert without_uids("at 127.0.0.1:8001 in 1.25 s, version 2.50.1") == (
        "at 127.0.0.1:8001 in 1.25 s, version 2.50.1"
    )
    assert without_uids("2.25.279566784100370327751510542662632894054") == "2.25.27…94054"
