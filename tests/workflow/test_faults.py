"""Stages killed in the middle, interrupted runs, and input that cannot be used."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.stages.tritons import REGIONS
from tests.workflow.conftest import LIVER_SEG, ROOT, clara_wf

pytestmark = [pytest.mark.workflow, REGIONS]

STAGES = ["dicom-reader", "ai-livertumor", "dicom-writer"]
SERVER_NAME = re.compile("clara-model-server-[0-9a-f]{16}")
AWAITED = ["input.lock", "dicom-reader.lock", "ai-livertumor.lock"]


class Run:
    """clara-wf in the background."""

    def __init__(self, series, payloads):
        self.locks = payloads / "job-1/locks"
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "clara_wf", "test", LIVER_SEG, "job-1", "--json"),
                *("--input", str(series), "--payloads", str(payloads)),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until_works(self, stage):
        """Wait until a stage has all its inputs, and return its process ID."""
        awaited, running = self.locks / AWAITED[STAGES.index(stage)], self.locks / f"{stage}.running"
        end = time.monotonic() + 120
        while not (awaited.exists() and running.exists()):
            assert time.monotonic() < end
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.002)
        return json.loads(running.read_text())["pid"]

    def server(self):
        """Return the name of its model server, which its processes and shared memory bear."""
        processes = psutil.Process(self.process.pid).children(recursive=True)
        found = {name for process in processes for name in SERVER_NAME.findall(" ".join(process.cmdline()))}
        assert len(found) == 1
        return found.pop()

    def end(self):
        """Return exit code, report, standard error and how long it took to end."""
        clock = time.monotonic()
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err, time.monotonic() - clock


@pytest.mark.triton
@pytest.mark.parametrize(
    ("stage", "number"), [*((stage, signal.SIGKILL) for stage in STAGES), (STAGES[1], signal.SIGTERM)]
)
@pytest.mark.slow
def test_a_stage_killed_in_its_work_is_named_and_the_next_run_succeeds(tmp_path, small_series, stage, number):
    run = Run(small_series, tmp_path)
    os.kill(run.until_works(stage), number)
    code, _, err, seconds = run.end()
    assert seconds < 15
    assert code == 1
    assert f"clara-wf: {stage} failed: " in err
    assert number.name in err
    again = clara_wf("test", LIVER_SEG, "job-1", "--json", "--input", small_series, "--payloads", tmp_path)
    assert again.code == 0, again.err
    kept = STAGES.index(stage)
    assert [s["state"] for s in again.report["stages"]] == ["kept"] * kept + ["done"] * (3 - kept)


@pytest.mark.triton
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind_when_clara_wf_itself_is_stopped(tmp_path, small_series, number):
    run = Run(small_series, tmp_path)
    run.until_works("ai-livertumor")
    server = run.server()
    run.process.send_signal(number)
    code, _, _, seconds = run.end()
    assert seconds < 15
    assert code == {signal.SIGINT: 1, signal.SIGTERM: 1, signal.SIGKILL: -9}[number]
    end = time.monotonic() + 15
    while left := _left_behind(run.locks, server):
        assert time.monotonic() < end, left
        time.sleep(0.1)


def _left_behind(lock_dir, server):
    """Return what still runs of a job, its model server, and the server's shared memory."""
    servers = subprocess.run(["pgrep", "-fa", server], capture_output=True, text=True).stdout.split()
    shared = [path.name for path in Path("/dev/shm").glob(f"{server}*")]
    return servers + shared + [path.name for path in lock_dir.glob("*.running")]


@pytest.mark.triton
@pytest.mark.slow
def test_a_folder_without_ct_fails_in_the_reader_with_what_was_found(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/readme.txt").write_text("no images here")
    done = clara_wf("test", LIVER_SEG, "--input", tmp_path / "notes", "--payloads", tmp_path / "payloads")
    assert done.code == 3
    assert "clara-wf: dicom-reader failed: " in done.err.strip().splitlines()[-1]


def test_an_unknown_workflow_is_a_usage_error_that_names_the_known_ones():
    done = clara_wf("test", "00000000-0000-0000-0000-000000000000")
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert f"the chart defines: {LIVER_SEG} (liver-seg)" in done.err


def test_a_job_without_test_data_names_the_folder_it_expects(tmp_path):
    done = clara_wf("test", LIVER_SEG, "22222222-2222-2222-2222-222222222222", "--payloads", tmp_path)
    assert done.code == 3
    assert len(done.err.strip().splitlines()) == 1
    assert "22222222-2222-2222-2222-222222222222/dicom-reader/input does not exist" in done.err


def test_an_empty_input_folder_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    done = clara_wf("test", LIVER_SEG, "--input", tmp_path / "empty", "--payloads", tmp_path / "payloads")
    assert done.code == 3
    assert len(done.err.strip().splitlines()) == 1
    assert f"{tmp_path}/empty is empty" in done.err


def test_a_job_id_cannot_lead_out_of_the_payloads():
    done = clara_wf("test", LIVER_SEG, "../../etc")
    assert done.code == 2
    assert "a job ID is a UUID" in done.err


def test_a_missing_argument_is_a_usage_error():
    assert clara_wf("test").code == 2
