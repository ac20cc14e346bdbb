"""What the locks of a job tell of it."""

import os
import time

import pytest

from clara_wf.definitions.workflow import Workflow
from clara_wf.payload import Payload
from clara_wf.run.status import job_in, jobs_in
from stages.errors import InputError
from stages.lifecycle import locks
from stages.lifecycle.heartbeat import Heartbeat, sole_owner
from tests.clara_wf.run.test_show import step


@pytest.fixture
def payload(tmp_path):
    workflow = Workflow(
        id="w",
        name="two",
        input_folder="a/input",
        steps=(step("a"), step("b", "a")),
        result_folders=("b/output",),
    )
    payload = Payload(root=tmp_path / "job-1", job_id="job-1")
    payload.make_folders(workflow)
    payload.describe(workflow, engine="process")
    return payload


def states(payload):
    job = job_in(payload.root.parent, "job-1")
    return job.state, *(stage.state for stage in job.stages)


def test_a_job_that_did_not_begin_is_interrupted(payload):
    assert states(payload) == ("interrupted", "pending", "pending")


def test_a_job_that_somebody_runs_is_running(payload):
    with sole_owner(payload.lock_dir, "clara-wf"), Heartbeat(payload.lock_dir, "a.lock", job="job-1"):
        end = time.monotonic() + 5
        while states(payload)[1] == "pending" and time.monotonic() < end:
            time.sleep(0.01)
        assert states(payload) == ("running", "running", "pending")


def test_a_job_that_waits_for_a_node_says_so_while_somebody_runs_it(payload):
    payload.note_pending("waiting for a node: 0/2 nodes are available")
    with sole_owner(payload.lock_dir, "clara-wf"):
        assert states(payload) == ("running", "pending", "pending")
        told = [stage.message for stage in job_in(payload.root.parent, "job-1").stages]
    assert told == ["waiting for a node: 0/2 nodes are available"] * 2
    assert [stage.message for stage in job_in(payload.root.parent, "job-1").stages] == ["", ""]


def test_a_job_whose_stages_are_all_done_is_done(payload):
    for name in "ab":
        (payload.lock_dir / f"{name}.lock").touch()
    assert states(payload) == ("done", "done", "done")


def test_a_failure_is_told_with_its_reason(payload):
    failure = locks.Failure(
        job="job-1", stage="a", error="E", exit_code=3, message="no CT", root_stage="a", root_message="no CT"
    )
    locks.publish(payload.lock_dir / "a.failed", failure)
    assert states(payload) == ("failed", "failed", "pending")
    assert job_in(payload.root.parent, "job-1").stages[0].message == "no CT"


def test_a_stage_whose_heartbeat_stopped_is_silent(payload):
    running = payload.lock_dir / "a.running"
    running.touch()
    os.utime(running, (time.time() - 60, time.time() - 60))
    assert states(payload) == ("interrupted", "silent", "pending")


def test_the_newest_job_comes_first(payload):
    for name, started in (("old", "2020"), ("new", "2999")):
        folder = payload.root.parent / name
        folder.mkdir()
        text = payload.record.read_text().replace("job-1", name)
        (folder / "job.json").write_text(text.replace('"started": "', f'"started": "{started}'))
        (folder / "locks").mkdir()
    assert [job.job for job in jobs_in(payload.root.parent)] == ["new", "job-1", "old"]


def test_an_unknown_job_names_those_there_are(payload):
    with pytest.raises(InputError, match=r"no job 'job-2' in .*; the newest are: job-1"):
        job_in(payload.root.parent, "job-2")


def test_a_record_that_is_none_is_told(payload):
    payload.record.write_text("{}")
    with pytest.raises(InputError, match=r"job.json is not the record of a job"):
        jobs_in(payload.root.parent)
