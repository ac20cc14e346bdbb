"""``clara-wf serve`` and ``clara-wf test --warm``, as they really run, with stages of a few lines."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from clara_wf.chart.edit import stage_block

ROOT = Path(__file__).parents[3]
WORKFLOW = "00000000-0000-4000-8000-000000000001"
STAGE = """
import os, sys, time
from pathlib import Path
from stages import Stage, main, InputError
class Mine(Stage):
    def execute(self, job):
        if "slow" in (job.source_dir / "file").read_text(): time.sleep(1)
        if "bad" in (job.source_dir / "file").read_text(): raise InputError("it is bad")
        for path in job.input_dir.iterdir():
            (job.output_dir / path.name).write_text(path.read_text() + job.stage_name)
if __name__ == "__main__":
    with Path(__file__).with_name("pids.txt").open("a") as pids:
        pids.write(f"{os.getpid()} ")
    code = main(Mine(), sys.argv[1:], os.environ)
    sys.exit(code)
"""


class Workspace:
    """A values.yaml of two stages in a row, a folder of jobs, and who serves them."""

    def __init__(self, root):
        self.root, self.values, self.payloads = root, root / "values.yaml", root / "payloads"
        self.services = []
        for name in "ab":
            (root / f"{name}.py").write_text(STAGE)
        self.write()

    def write(self, **more):
        blocks = {
            name: {**stage_block(name, command=["python", str(self.root / f"{name}.py")]), **more}
            for name in "ab"
        }
        workflow = {
            "name": "two",
            "stages": ["a", "b"],
            "waitLocks": ["", "a.lock"],
            "ioFolders": ["a/input", "a/output", "b/output"],
            "args": ["", ""],
        }
        self.values.write_text(json.dumps({"stages": blocks, "workflows": {WORKFLOW: workflow}}))

    def command(self, *arguments):
        places = ("--values", self.values, "--payloads", self.payloads)
        return [sys.executable, "-m", "clara_wf", *map(str, (*arguments, *places))]

    def serve(self, *arguments):
        with (self.root / "serve.log").open("a") as log:
            service = subprocess.Popen(
                self.command("serve", WORKFLOW, "--server", "none", *arguments),
                cwd=self.root,
                env=environ(),
                stdout=log,
                stderr=log,
            )
        self.services.append(service)
        end = time.monotonic() + 60
        while "ready for jobs" not in self.log:
            assert service.poll() is None, self.log
            assert time.monotonic() < end
            time.sleep(0.02)
        return service

    def start(self, job, *arguments, content="1"):
        source = self.root / f"in-{job}"
        source.mkdir(exist_ok=True)
        (source / "file").write_text(content)
        command = self.command("test", WORKFLOW, job, "--input", source, "--server", "none", *arguments)
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=environ(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def test(self, job, *arguments, content="1"):
        process = self.start(job, *arguments, content=content)
        process.out, process.err = process.communicate(timeout=60)
        return process

    @property
    def log(self):
        path = self.root / "serve.log"
        return path.read_text() if path.exists() else ""

    def end(self):
        for service in self.services:
            service.kill()
            service.wait()


def ended(job):
    """Return the exit code of a job, whose output is read."""
    job.communicate(timeout=60)
    return job.returncode


def environ():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace(tmp_path)
    yield workspace
    workspace.end()


_VARIES = re.compile(r"\d{4}-\d\d-\d\dT[\d:.+]+Z?|\d+\.\d+|\"(seconds|peak_memory_bytes)\": [\d.]+")

_OF_TIMES = ("report.html", "kept.json", "digests.json")  # made of the times of files


def files_of(payload):
    """Return mode and content of each file of a job, without what differs between any two runs of it."""
    found = {}
    for path in sorted(payload.rglob("*")):
        content = path.read_text(errors="replace") if path.is_file() else ""
        if path.suffix in (".lock", ".failed"):
            record = json.loads(content)
            record = {k: v for k, v in record.items() if k not in ("inputs", "outputs", "peak_memory_bytes")}
            content = json.dumps(record)
        content = "" if path.name in _OF_TIMES else _VARIES.sub("", content)
        if not path.name.startswith("."):
            plain = content.replace(payload.name, "JOB")
            found[str(path.relative_to(payload))] = (oct(path.stat().st_mode), plain)
    return found


def test_job_that_a_service_runs_leaves_the_files_of_one_that_runs_by_itself(workspace):
    workspace.serve()
    warm, cold = workspace.test("warm", "--warm"), workspace.test("cold")
    assert (warm.returncode, cold.returncode) == (0, 0), warm.err
    assert "not warm" not in warm.err
    assert (workspace.payloads / "warm/b/output/file").read_text() == "1ab"
    assert files_of(workspace.payloads / "warm") == files_of(workspace.payloads / "cold")
    shown = [
        re.sub(r"\s*\d+ MiB", "", _VARIES.sub("", run.out)).replace(name, "")
        for run, name in ((warm, "warm"), (cold, "cold"))
    ]
    assert shown[0] == shown[1]
    pids = (workspace.root / "pids.txt").read_text().split()
    assert len(pids) == 4  # two hosts that served the first job, two processes of the second


def test_failure_is_told_by_whoever_asked(workspace):
    workspace.serve()
    done = workspace.test("bad", "--warm", content="bad")
    assert done.returncode == 3
    assert done.err.splitlines()[-1] == "clara-wf: a failed: it is bad"
    assert workspace.test("good", "--warm").returncode == 0


def test_without_a_service_the_job_runs_by_itself_and_says_so(workspace):
    done = workspace.test("job", "--warm")
    assert done.returncode == 0
    assert "not warm: no service runs there; start one with: clara-wf serve" in done.err


@pytest.mark.parametrize("more", [{"resident": False}, {"command": ["sh", "-c", "exec python $0", "PLACE"]}])
def test_stage_that_does_not_stay_is_started_for_each_job(workspace, more):
    if "command" in more:
        script = f"exec {sys.executable} {workspace.root}/a.py"
        more = {"command": ["sh", "-c", script]}
    workspace.write(**more)
    workspace.serve()
    assert not (workspace.root / "pids.txt").exists()
    assert workspace.test("job", "--warm").returncode == 0
    assert len((workspace.root / "pids.txt").read_text().split()) == 2


def test_service_ends_when_its_jobs_have_and_leaves_nothing(workspace):
    service = workspace.serve()
    job = workspace.start("slow", "--warm", content="slow")
    while not (workspace.payloads / "slow/locks/a.running").exists():
        time.sleep(0.01)
    service.terminate()
    assert ended(job) == 0
    assert service.wait(30) == 0
    assert [path.name for path in workspace.payloads.iterdir()] == ["slow"]


def test_job_that_is_asked_to_stop_is_stopped_in_the_service(workspace):
    workspace.serve()
    job = workspace.start("slow", "--warm", content="slow")
    while not (workspace.payloads / "slow/locks/a.running").exists():
        time.sleep(0.01)
    job.send_signal(signal.SIGINT)
    assert ended(job) == 1
    failed = json.loads((workspace.payloads / "slow/locks/a.failed").read_text())
    assert "SIGTERM" in failed["message"]
    assert workspace.test("slow", "--warm", content="slow").returncode == 0


def test_jobs_of_a_service_that_is_killed_say_so_and_go_on_by_themselves(workspace):
    service = workspace.serve()
    job = workspace.start("slow", "--warm", content="slow")
    while not (workspace.payloads / "slow/locks/a.running").exists():
        time.sleep(0.01)
    service.kill()
    _, errors = job.communicate(timeout=30)
    assert job.returncode == 1
    assert "the service that ran the job has ended" in errors
    assert workspace.test("slow", "--warm", content="slow").returncode == 0


def test_studies_follow_each_other_through_the_stages(workspace):
    workspace.serve("--at-once", "3")
    jobs = [workspace.start(f"job-{n}", "--warm", content="slow") for n in range(3)]
    assert [ended(job) for job in jobs] == [0] * 3
    locks = [workspace.payloads / f"job-{n}/locks/{stage}.lock" for n in range(3) for stage in "ab"]
    spans = sorted(
        (record["started"], record["finished"]) for record in map(json.loads, map(Path.read_text, locks))
    )
    overlapping = sum(later[0] < earlier[1] for earlier, later in pairwise(spans))
    assert overlapping >= 2  # b of one study works while a works on the next
    of_a = sorted(
        (record["started"], record["finished"])
        for record in (json.loads(path.read_text()) for path in locks if path.name == "a.lock")
    )
    assert all(end <= began for (_, end), (began, _) in pairwise(of_a))


def test_second_service_of_the_same_payloads_is_refused(workspace):
    workspace.serve()
    second = subprocess.run(
        workspace.command("serve", WORKFLOW, "--server", "none"),
        cwd=workspace.root,
        env=environ(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 2
    assert "already served by another clara-wf serve" in second.stderr
    assert workspace.test("job", "--warm").returncode == 0


def test_second_signal_ends_the_jobs_too(workspace):
    service = workspace.serve()
    for path in workspace.root.glob("[ab].py"):
        path.write_text(path.read_text().replace("time.sleep(1)", "time.sleep(60)"))
    job = workspace.start("slow", "--warm", content="slow")
    while not (workspace.payloads / "slow/locks/a.running").exists():
        time.sleep(0.01)
    service.terminate()
    time.sleep(0.5)
    assert service.poll() is None
    service.terminate()
    assert ended(job) == 1
    assert service.wait(30) == 0
    assert [path.name for path in workspace.payloads.iterdir()] == ["slow"]
