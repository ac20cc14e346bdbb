"""The process engine with small stages: wiring, failures, signals, timeouts."""

import dataclasses
import os
import sys
import textwrap
import time
from pathlib import Path

import pytest

from clara_wf.chart import edit
from clara_wf.definitions.workflow import StageBlock, Step, Workflow
from clara_wf.engines.engine import JobRun
from clara_wf.engines.process import LocalStage, ProcessEngine
from clara_wf.engines.watch import run_workflow
from clara_wf.payload import Payload, fill_input, steps_to_run
from stages.errors import InputError, OutputError

ROOT = Path(__file__).parents[3]

COPY = """
    for path in job.input_dir.iterdir():
        (job.output_dir / path.name).write_text(path.read_text() + job.stage_name)
"""


def block(name, command=()):
    usual = edit.stage_block(name, tag="1")
    return StageBlock.model_validate(usual | {"timeout": "20", "command": list(command)})


@pytest.fixture
def run(tmp_path):
    """Run stages a, b, c in a row; each is the body of an `execute` function."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("")
    payload = Payload(root=tmp_path / "job", job_id="job")

    def script(name, body):
        path = tmp_path / f"{name}.py"
        path.write_text(
            "import os, sys, time, signal\nfrom stages import main, InputError\ndef execute(job):\n"
            + textwrap.indent(textwrap.dedent(body), "    ")
            + "\nsys.exit(main(execute, sys.argv[1:], os.environ))\n"
        )
        return (sys.executable, str(path))

    def run(*, timeout_s=None, on_progress=lambda statuses: None, waits=None, keep_going=False, **bodies):
        """Run stages in a row, or as a graph where `waits` names the stages each waits for."""
        steps = []
        for n, (name, body) in enumerate(bodies.items()):
            before = waits.get(name, []) if waits else list(bodies)[n - 1 : n]
            command = script(name, body) if isinstance(body, str) else body
            steps.append(
                Step(
                    name=name,
                    block=block(name, command),
                    wait_locks=tuple(f"{each}.lock" for each in before) or ("input.lock",),
                    input_folders=tuple(f"{each}/output" for each in before) or ("a/input",),
                    arguments=(),
                )
            )
        workflow = Workflow(
            id="w", name="w", input_folder="a/input", steps=tuple(steps), result_folders=("c/output",)
        )
        payload.make_folders(workflow)
        fill_input(payload, workflow, source)
        job_run = JobRun(
            workflow=workflow,
            payload=payload,
            to_run=steps_to_run(payload, workflow, fresh=False),
            triton_url=None,
            timeout_s=timeout_s,
            environ={**os.environ, "PYTHONPATH": str(ROOT)},
            keep_going=keep_going,
        )
        return run_workflow(ProcessEngine(), job_run, on_progress=on_progress)

    run.payload = payload
    return run


def test_each_stage_reads_what_the_one_before_wrote(run):
    outcome = run(a=COPY, b=COPY, c=COPY)
    assert outcome.exit_code == 0
    assert (run.payload.root / "c/output/file").read_text() == "abc"


def test_a_finished_job_runs_no_stage_again(run):
    run(a=COPY, b=COPY, c=COPY)
    outcome = run(a=COPY, b=COPY, c=COPY)
    assert [status.state for status in outcome.statuses] == ["kept", "kept", "kept"]


def test_the_stage_that_began_it_is_named_with_its_exit_code(run):
    outcome = run(a=COPY, b='raise InputError("slice 7 is missing")', c=COPY)
    assert (outcome.culprit.name, outcome.exit_code) == ("b", 3)
    assert outcome.culprit.message == "slice 7 is missing"
    assert [status.state for status in outcome.statuses] == ["done", "failed", "failed"]
    assert outcome.statuses[2].exit_code == 5


def test_a_stage_that_is_slow_to_end_after_its_failure_is_still_the_one_that_is_named(run):
    slow_to_end = """
    import atexit
    atexit.register(time.sleep, 1)
    raise InputError("no CT")
    """
    outcome = run(a=slow_to_end, b=COPY, c=COPY)
    assert (outcome.culprit.name, outcome.exit_code) == ("a", 3)


@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_a_killed_stage_ends_the_run_soon_and_the_next_run_goes_on_behind_it(run, number):
    clock = time.monotonic()
    outcome = run(a=COPY, b=f"os.kill(os.getpid(), signal.{number}); time.sleep(60)", c=COPY)
    assert time.monotonic() - clock < 45  # b would have slept for 60 s
    assert outcome.culprit.name == "b"
    assert number in outcome.culprit.message
    again = run(a=COPY, b=COPY, c=COPY)
    assert [status.state for status in again.statuses] == ["kept", "done", "done"]


def test_a_stage_that_never_ends_is_stopped_at_its_timeout(run):
    outcome = run(a="time.sleep(60)", b=COPY, c=COPY, timeout_s=3)
    assert (outcome.culprit.name, outcome.exit_code) == ("a", 4)


def test_the_timeout_of_a_stage_begins_when_it_is_no_longer_pending(run, monkeypatch):
    """It is pending for 1.7 s and ends soon after; from its start it would have had 1.5 s."""
    began, told = time.monotonic(), []
    waits = "waiting for a node: 0/2 nodes are available"

    def pending(stage):
        if time.monotonic() - began < 1.7:
            return waits
        go.touch()
        return ""

    go = run.payload.root / "go"
    monkeypatch.setattr("clara_wf.engines.watch._OVERDUE_S", 0.5)
    monkeypatch.setattr(LocalStage, "pending", pending)
    outcome = run(
        a=("sh", "-c", f"until [ -e '{go}' ]; do sleep 0.1; done; touch $NVIDIA_CLARA_LOCKDIR/a.lock"),
        timeout_s=1,
        on_progress=lambda statuses: told.append((statuses[0].state, statuses[0].message)),
    )
    assert outcome.exit_code == 0
    assert list(dict.fromkeys(told)) == [
        ("pending", waits),
        ("working", "it has not finished before"),
        ("done", ""),
    ]


def test_a_foreign_program_that_never_ends_is_stopped_too(run, monkeypatch):
    monkeypatch.setattr("clara_wf.engines.watch._OVERDUE_S", 2)
    outcome = run(a=("sleep", "60"), b=COPY, c=COPY, timeout_s=3)
    assert outcome.exit_code == 4
    assert "a did not show up within 3 s" in outcome.culprit.message
    assert outcome.statuses[0].state == "failed"


def test_a_program_that_ends_without_its_lock_has_failed(run):
    outcome = run(a=("true",), b=COPY, c=COPY)
    assert outcome.culprit.message == "a ended without publishing a.lock"
    assert outcome.exit_code == 1


def test_a_crash_is_reported_with_the_last_line_of_its_log(run):
    outcome = run(a=(sys.executable, "-c", "raise SystemExit('no licence')"), b=COPY, c=COPY)
    assert outcome.culprit.message == "a ended with exit code 1; the last line of its log: no licence"


def test_a_command_that_does_not_exist_is_told(run):
    from stages.errors import SettingsError

    with pytest.raises(SettingsError, match=r"cannot start a: .*no-such-program"):
        run(a=("no-such-program",), b=COPY, c=COPY)


LINGER = """
    import atexit
    atexit.register(time.sleep, 60)
    job.output_dir.joinpath("file").write_text("")
"""


def test_a_stage_is_done_when_its_lock_is_there_and_its_process_is_followed_to_its_end(run):
    seen = []

    def look(statuses):
        if (run.payload.lock_dir / "a.lock").exists():
            seen.append(dataclasses.replace(statuses[0]))

    outcome = run(a=LINGER.replace("60", "0.5"), b=COPY, on_progress=look)
    assert [(status.state, status.exit_code) for status in (seen[1], seen[-1])] == [
        ("done", None),
        ("done", 0),
    ]
    assert seen[1].seconds == outcome.statuses[0].seconds


def test_a_stage_that_hangs_after_its_lock_is_ended_and_stays_done(run, monkeypatch):
    def its_time_is_over(statuses):
        if (run.payload.lock_dir / "a.lock").exists():
            monkeypatch.setattr("clara_wf.engines.watch._OVERDUE_S", -20)  # its timeout

    outcome = run(a=LINGER, on_progress=its_time_is_over)
    assert (outcome.statuses[0].state, outcome.exit_code) == ("done", 0)
    assert not (run.payload.lock_dir / "a.failed").exists()


def test_time_and_peak_memory_of_a_stage_are_measured(run):
    outcome = run(a="block = bytearray(200_000_000); time.sleep(1)", b=COPY, c=COPY)
    assert outcome.statuses[0].peak_memory_bytes > 200_000_000
    assert outcome.statuses[0].seconds >= 1


def test_peak_memory_of_a_stage_that_was_never_looked_at_comes_from_its_lock_or_failure(run, monkeypatch):
    monkeypatch.setattr("clara_wf.engines.process.peak_memory_bytes", lambda process: 0)
    outcome = run(a="block = bytearray(200_000_000)", b='raise InputError("slice 7 is missing")', c=COPY)
    a, b, _ = (status.peak_memory_bytes for status in outcome.statuses)
    assert a > 200_000_000
    assert 2**20 < b < a


def test_nothing_is_left_running_when_the_run_is_interrupted(run):
    pids = []

    def interrupt(statuses):
        if statuses[0].state == "working" and (pid_file := run.payload.root / "a/output/pid").exists():
            pids.append(int(pid_file.read_text()))
            raise KeyboardInterrupt

    body = "(job.output_dir / 'new').write_text(str(os.getpid()))\n"
    body += "(job.output_dir / 'new').rename(job.output_dir / 'pid'); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        run(a=body, b=COPY, c=COPY, on_progress=interrupt)
    assert not Path(f"/proc/{pids[0]}").exists()


def test_a_program_that_a_stage_leaves_running_ends_with_the_run(run):
    leave = """
    import subprocess
    child = subprocess.Popen(["sleep", "300"])
    (job.output_dir / "pid").write_text(str(child.pid))
    """
    run(a=leave, b=COPY, c=COPY)
    left = Path("/proc") / (run.payload.root / "a/output/pid").read_text() / "stat"
    end = time.monotonic() + 30
    while left.exists() and left.read_text().split()[2] != "Z":
        assert time.monotonic() < end, "it still runs"
        time.sleep(0.02)


DIAMOND = {"b": ["a"], "c": ["a"], "d": ["b", "c"]}


def test_branches_of_a_graph_run_at_once(run):
    meet = """
    other = {"b": "c", "c": "b"}[job.stage_name]
    (job.output_dir / "here").touch()
    end = time.monotonic() + 15
    while not (job.output_dir.parent.parent / other / "output" / "here").exists():
        assert time.monotonic() < end, "the other branch does not run"
        time.sleep(0.01)
    """
    outcome = run(a=COPY, b=meet, c=meet, d=COPY, waits=DIAMOND)
    assert outcome.exit_code == 0, outcome.culprit
    assert [status.state for status in outcome.statuses] == ["done"] * 4


def test_a_stage_reads_every_branch_that_ends_in_it(run):
    join = """
    for folder in job.input_dirs:
        (job.output_dir / folder.parent.name).write_text((folder / "file").read_text())
    """
    run(a=COPY, b=COPY, c=COPY, d=join, waits=DIAMOND)
    output = run.payload.root / "d/output"
    assert {path.name: path.read_text() for path in output.iterdir()} == {"b": "ab", "c": "ac"}


SLOW = COPY + "\n    time.sleep(4)\n"
FAIL = 'raise InputError("no liver")'


def test_a_failure_stops_the_other_branches(run):
    outcome = run(a=COPY, b=FAIL, c="time.sleep(60)", waits={"b": ["a"], "c": ["a"]})
    assert outcome.culprit.name == "b"
    assert [status.state for status in outcome.statuses] == ["done", "failed", "failed"]


def test_with_keep_going_the_branches_that_do_not_need_what_failed_are_finished(run):
    waits = {"b": ["a"], "c": ["a"], "d": ["b"], "e": ["c"]}
    outcome = run(a=COPY, b=FAIL, c=SLOW, d=COPY, e=COPY, waits=waits, keep_going=True)
    assert (outcome.culprit.name, outcome.exit_code) == ("b", 3)
    assert [status.state for status in outcome.statuses] == ["done", "failed", "done", "failed", "done"]


def test_with_keep_going_a_foreign_stage_behind_a_failure_is_stopped(run):
    outcome = run(a=FAIL, b=("sleep", "60"), waits={"b": ["a"]}, keep_going=True)
    assert outcome.culprit.name == "a"
    assert outcome.statuses[1].state == "failed"


def test_a_daemon_of_a_stage_is_gone_when_the_stage_has_ended(run):
    leave = """
    import subprocess
    child = subprocess.Popen(["setsid", "sh", "-c", "sleep 300"], env={"PATH": os.environ["PATH"]})
    (job.output_dir / "pid").write_text(str(child.pid))
    """
    later = """
    daemon = Path(job.input_dir / "pid").read_text()
    end = time.monotonic() + 10
    while Path("/proc", daemon).exists():
        assert time.monotonic() < end, "it still runs"
        time.sleep(0.01)
    """
    assert run(a=leave, b="from pathlib import Path\n" + textwrap.dedent(later)).exit_code == 0


@pytest.mark.parametrize("place", ["logs", "publish", "a", "a/output", "locks"])
def test_a_link_in_place_of_a_folder_of_the_job_is_refused_and_nothing_is_done_where_it_leads(
    run, tmp_path, place
):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious").touch()
    link = run.payload.root / place
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match=f"{place} is a symbolic link; a folder of the job belongs there"):
        run(a=COPY)
    assert os.listdir(tmp_path / "elsewhere") == ["precious"]


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/passwd"), Path.mkdir])
def test_a_log_that_is_no_file_is_refused_in_one_line(run, monkeypatch, make):
    monkeypatch.setattr("clara_wf.payload._clear", lambda payload, step: None)  # as if made just now
    (run.payload.root / "logs").mkdir(parents=True)
    make(run.payload.log("a"))
    with pytest.raises(InputError, match=r"logs/a\.log is a .*; a regular file is expected there"):
        run(a=COPY)
