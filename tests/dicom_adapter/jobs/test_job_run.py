"""One run of a job: the process of clara-wf, what it is stopped by, where it goes on."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from pydicom.uid import CTImageStorage

from clara_wf.payload import Payload
from clara_wf.publish.published import load_published
from dicom_adapter.config.blocks import Storage
from dicom_adapter.config.dicom_blocks import SeriesFilter
from dicom_adapter.jobs.job_input import fill_payload
from dicom_adapter.jobs.job_run import JobRunOptions, run_job
from dicom_adapter.storage.results import find_results
from dicom_adapter.studies.selection import chosen
from stages.errors import InputError, OutputError
from tests.dicom_adapter.destinations import wait_until
from tests.dicom_adapter.offline_adapter import received_file
from tests.dicom_adapter.workflows import ROOT, STAMP, publish_stamp
from tests.phantoms import ct_slices, save, uid_of


class Bench:
    """A job of the stamping workflow, with what steers it."""

    def __init__(self, folder):
        self.steering = folder / "steering"
        self.published = publish_stamp(folder, self.steering)
        self.workflow = load_published(self.published, STAMP)[1]
        self.payload = Payload(root=folder / "payloads/j1", job_id="j1")
        received = sorted(p for p in save(ct_slices(), folder / "received").rglob("*") if p.is_file())
        self.files = [received_file(path, f"1.2.3.{n}") for n, path in enumerate(received)]
        environ = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        self.run_options = JobRunOptions(
            published=self.published, engine="process", server="none", models=None, environ=environ
        )
        self.stop = threading.Event()
        self.storage = Storage.model_validate({"minimum-free": "1M"})

    def fill(self):
        fill_payload(self.payload, self.workflow, self.files, self.storage)

    def run(self, **options):
        self.fill()
        return run_job(self.payload, self.workflow, self.run_options, stopped=self.stop.is_set, **options)

    def ran(self):
        file = self.steering / "ran"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def results(self):
        return find_results(self.payload.folder(self.workflow.result_folders[0]))


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_a_job_runs_from_received_files_to_results(bench):
    outcome = bench.run()
    assert (outcome.verdict, outcome.exit_code, outcome.message) == ("done", 0, "")
    assert [each.sop_instance_uid for each in bench.results()] == [f"{uid_of(n)}.77" for n in range(5)]
    assert (bench.payload.publish_dir / "report.html").is_file()


def test_filling_again_changes_nothing(bench):
    bench.fill()
    lock = bench.payload.lock_dir / "input.lock"
    before = lock.stat().st_mtime_ns
    bench.fill()
    assert lock.stat().st_mtime_ns == before


def test_half_a_payload_is_filled_anew(bench):
    bench.fill()
    (bench.payload.lock_dir / "input.lock").unlink()
    (bench.payload.folder("pass/input") / "1.2.3.0.dcm").unlink()
    (bench.payload.folder("pass/input") / "left-over").write_text("x")
    bench.fill()
    assert len(list(bench.payload.folder("pass/input").iterdir())) == 5
    assert not (bench.payload.folder("pass/input") / "left-over").exists()


@pytest.mark.parametrize("uid", ["", ".", "..", "1/2", "../../x", "1.2\0", "1." + "2" * 63])
def test_no_name_leads_out_of_the_payload(bench, uid):
    bench.files[0] = received_file(bench.files[0].path, uid)
    with pytest.raises(InputError, match="SOPInstanceUID is no UID"):
        bench.fill()
    assert not (bench.payload.lock_dir / "input.lock").exists()


@pytest.mark.parametrize(
    ("which", "left"),
    [
        ({}, 2),
        ({"modalities": ("CT",)}, 1),
        ({"sop-classes": (CTImageStorage,)}, 2),
        ({"sop-classes": ("1.2.3",)}, 0),
        ({"descriptions": "^thin"}, 1),
        ({"descriptions": "^thin", "modalities": ("CT",)}, 0),
    ],
)
def test_a_filter_lets_in_what_it_names(bench, which, left):
    path = bench.files[0].path
    thin = received_file(path, "1.2", modality="MR", series_description="thin slices")
    instances = [received_file(path, "1.1"), thin]
    assert len(chosen(instances, SeriesFilter.model_validate(which))) == left


def test_a_file_that_is_gone_or_cut_starts_nothing(bench):
    bench.files[1].path.write_bytes(b"cut")
    with pytest.raises(InputError, match="has 3 bytes"):
        bench.fill()
    bench.files[1].path.unlink()
    with pytest.raises(InputError, match="is gone"):
        bench.fill()


@pytest.mark.parametrize(("code", "verdict"), [(3, "dead"), (6, "retry"), (-9, "retry")])
def test_only_what_may_be_better_next_time_is_tried_again(bench, code, verdict):
    (bench.steering / "exit").write_text(f"{code} 1")
    outcome = bench.run()
    assert outcome.verdict == verdict
    assert outcome.message.startswith("stamp failed: ")


def test_a_workflow_that_is_not_published_is_a_matter_of_settings(bench, tmp_path):
    bench.fill()
    bench.run_options = JobRunOptions(**{**vars(bench.run_options), "published": tmp_path})
    outcome = run_job(bench.payload, bench.workflow, bench.run_options, stopped=bench.stop.is_set)
    assert (outcome.verdict, outcome.exit_code) == ("dead", 2)
    assert "no workflow" in outcome.message


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_what_a_stage_has_put_in_place_of_the_log_is_neither_followed_nor_waited_for(bench, kind):
    victim = bench.steering / "victim"
    victim.write_text("kept")
    bench.fill()
    log = bench.payload.root / "logs/clara-wf.log"
    log.symlink_to(victim) if kind == "link" else os.mkfifo(log)
    assert bench.run().verdict == "done"
    assert victim.read_text() == "kept"
    assert log.is_file()


def test_a_run_whose_folder_was_removed_is_tried_again_at_once(bench):
    bench.fill()
    shutil.rmtree(bench.payload.root)
    with pytest.raises(OutputError, match="was removed"):
        run_job(bench.payload, bench.workflow, bench.run_options, stopped=bench.stop.is_set)


def test_a_run_that_is_stopped_goes_on_where_it_was(bench):
    (bench.steering / "sleep").write_text("30")
    threading.Thread(target=lambda: (wait_until(bench.ran), bench.stop.set())).start()
    assert bench.run() is None
    (bench.steering / "sleep").unlink()
    bench.stop.clear()
    passed = (bench.payload.lock_dir / "pass.lock").stat().st_mtime_ns
    assert bench.run().verdict == "done"
    assert (bench.payload.lock_dir / "pass.lock").stat().st_mtime_ns == passed


def works(process):
    """Tell whether a process does anything; one that has ended and that nobody has asked about does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_run_that_is_killed_leaves_no_stage_behind_and_is_tried_again(bench):
    (bench.steering / "sleep").write_text("60")

    def kill():
        wait_until(bench.ran)
        (run,) = set(psutil.Process().children()) - others
        stages.extend(run.children())
        run.kill()

    stages, others = [], set(psutil.Process().children())
    killer = threading.Thread(target=kill)
    killer.start()
    outcome = bench.run()
    killer.join()
    assert (outcome.verdict, outcome.exit_code) == ("retry", -9)
    (bench.steering / "sleep").unlink()
    assert bench.run().verdict == "done"
    assert len(stages) >= 1
    wait_until(lambda: not any(map(works, stages)), what="the end of the stages")


SCRIPT = """
import sys
from pathlib import Path
from tests.dicom_adapter.jobs.test_job_run import Bench
bench = Bench(Path(sys.argv[1]))
bench.run()
"""


def test_a_run_ends_with_the_adapter_that_started_it_and_the_next_waits_for_that(tmp_path):
    steering = tmp_path / "steering"
    steering.mkdir()
    (steering / "sleep").write_text("60")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    adapter = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], env=environ, cwd=ROOT)
    wait_until(lambda: (steering / "ran").exists(), what="the stage")
    adapter.send_signal(signal.SIGKILL)
    adapter.wait()
    (steering / "sleep").unlink()
    bench = Bench(tmp_path)
    clock = time.monotonic()
    assert bench.run(owner_wait_s=20).verdict == "done"
    assert time.monotonic() - clock < 20
    assert len(Path(steering / "ran").read_text().splitlines()) == 2
