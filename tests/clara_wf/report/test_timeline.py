"""Bars worked out by hand: the stages of the job took from 12:00:01 to :03, :04 to :08 and :08 to :10."""

import dataclasses

import pytest

from clara_wf.engines.engine import StageStatus
from clara_wf.report.timeline import make_timeline, readable_time
from tests.finished_job import clock, finished_job


def timeline(job):
    return make_timeline(job.workflow, job.payload, job.outcome, started=clock(0))


def bars(stage):
    return [(bar.kind, bar.start, bar.length) for bar in stage.bars]


def test_a_stage_waits_gets_ready_and_works(tmp_path):
    reader, ai, writer = timeline(finished_job(tmp_path)).stages
    assert bars(reader) == [("ready", 0, 10), ("working", 10, 20)]
    assert bars(ai) == [("waiting", 0, 30), ("ready", 30, 10), ("working", 40, 40)]
    assert bars(writer) == [("waiting", 0, 80), ("working", 80, 20)]
    assert (ai.waited_s, ai.ready_s, ai.worked_s) == pytest.approx((3, 1, 4))


def test_a_rerun_finds_its_input_there_and_does_not_count_from_then(tmp_path):
    job = finished_job(tmp_path)
    reader, *_ = make_timeline(job.workflow, job.payload, job.outcome, started=clock(0.5)).stages
    assert (reader.waited_s, reader.ready_s) == (0, 0.5)


def test_the_axis_has_a_tick_every_two_seconds(tmp_path):
    ticks = timeline(finished_job(tmp_path)).ticks
    assert ticks == ((0, 0), (20, 2), (40, 4), (60, 6), (80, 8), (100, 10))


def test_what_waits_for_a_failed_stage_never_works(tmp_path):
    reader, ai, writer = timeline(finished_job(tmp_path, failed="ai-livertumor", message="no")).stages
    assert bars(reader) == [("ready", 0, 10), ("working", 10, 20)]
    assert bars(ai) == [("waiting", 0, 30), ("failed", 30, 50)]
    assert bars(writer) == [("waiting", 0, 100)]
    assert (writer.waited_s, writer.worked_s) == (None, None)


def test_a_kept_stage_has_no_bar_and_does_not_stretch_the_axis(tmp_path):
    job = finished_job(tmp_path)
    kept = StageStatus(name="dicom-reader", state="kept", exit_code=0)
    outcome = dataclasses.replace(job.outcome, statuses=(kept, *job.outcome.statuses[1:]))
    reader, ai, _ = timeline(dataclasses.replace(job, outcome=outcome)).stages
    assert (reader.bars, reader.finished) == ((), "2026-03-04 12:00:03 UTC")
    assert bars(ai)[-1] == ("working", 40, 40)


def test_the_lock_of_a_foreign_stage_counts_from_its_file(tmp_path):
    job = finished_job(tmp_path)
    lock = job.payload.lock_dir / "ai-livertumor.lock"
    lock.write_text("")
    stage = timeline(job).stages[1]
    assert stage.worked_s == pytest.approx(1.0)  # what the engine saw
    assert stage.bars


def test_a_job_of_which_no_time_is_known_has_a_timeline_without_bars(tmp_path):
    job = finished_job(tmp_path)
    for lock in job.payload.lock_dir.glob("*.lock"):
        lock.unlink()
    assert [stage.worked_s for stage in timeline(job).stages] == [None, None, None]
    assert timeline(job).ticks == ()


def test_times_are_told_in_utc():
    assert readable_time("2026-03-04T13:00:00+01:00") == "2026-03-04 12:00:00 UTC"
    assert readable_time("yesterday") == ""
