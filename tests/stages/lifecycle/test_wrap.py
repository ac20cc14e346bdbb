import os
import signal
import sys
import time

import pytest

WRAP = [sys.executable, "-m", "stages", "wrap", "--"]


def test_command_that_ends_well_publishes_its_lock(ready_job):
    command = [*WRAP, "sh", "-c", 'printf 42 > "$NVIDIA_CLARA_OUTPUT/result.txt"']
    assert ready_job.start_command(command).wait() == 0
    (output,) = ready_job.read("my-stage.lock")["outputs"]
    assert (output["path"], output["size"]) == ("result.txt", 2)


def test_command_begins_when_the_inputs_are_there(job):
    stage = job.start_command([*WRAP, "sh", "-c", 'touch "$NVIDIA_CLARA_LOCKDIR/begun"'])
    job.until("my-stage.running")
    assert not job.has("begun")
    job.publish_input()
    assert stage.wait() == 0
    assert job.has("begun")


def test_options_after_the_dashes_belong_to_the_command(ready_job):
    command = [*WRAP, sys.executable, "-c", "import sys; sys.exit(sys.argv[1:] != ['--input', 'x'])"]
    assert ready_job.start_command([*command, "--input", "x"]).wait() == 0
    assert ready_job.has("my-stage.lock")


def test_exit_code_of_the_command_is_told_in_its_failure(ready_job):
    assert ready_job.start_command([*WRAP, "sh", "-c", "exit 9"]).wait() == 1
    assert ready_job.read("my-stage.failed")["message"] == "sh ended with exit code 9"
    assert not ready_job.has("my-stage.lock")


def test_signal_that_ended_the_command_is_told_in_its_failure(ready_job):
    assert ready_job.start_command([*WRAP, "sh", "-c", "kill -9 $$"]).wait() == 1
    assert ready_job.read("my-stage.failed")["message"] == "sh was ended by signal 9"


def test_missing_command_is_a_usage_error(ready_job):
    assert ready_job.start_command([*WRAP, "no-such-program"]).wait() == 2
    assert "cannot run 'no-such-program'" in ready_job.read("my-stage.failed")["message"]


def test_wrap_without_a_command_shows_its_usage(job):
    stage = job.start_command([sys.executable, "-m", "stages", "wrap"])
    assert stage.wait() == 2
    assert stage.log == "usage: python -m stages wrap -- COMMAND ARGS...\n"


def test_sigterm_ends_the_command_too(ready_job):
    script = (
        'echo $$ > "$NVIDIA_CLARA_LOCKDIR/.pid"; mv "$NVIDIA_CLARA_LOCKDIR/.pid" "$NVIDIA_CLARA_LOCKDIR/pid"'
    )
    stage = ready_job.start_command([*WRAP, "sh", "-c", f"{script}; exec sleep 60"])
    child = int(ready_job.until("pid").read_text())
    assert stage.ask_to_stop() == 1
    assert ready_job.read("my-stage.failed")["message"] == "stopped by SIGTERM"
    assert not is_alive(child)


def test_command_that_overruns_the_time_limit_is_ended(ready_job):
    stage = ready_job.start_command([*WRAP, "sleep", "60"], timeout=0.3)
    assert stage.wait() == 4


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_lock_of_a_wrapped_program_records_what_the_workflow_gives(ready_job):
    stage = ready_job.start_command([*WRAP, "true", "-p", "foo"], ARGUMENTS='["-p", "foo"]')
    assert stage.wait() == 0
    assert ready_job.read("my-stage.lock")["arguments"] == ["-p", "foo"]


DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(1), os.close(2)
        with open("daemon.new", "w") as file:
            file.write(str(os.getpid()))
        os.rename("daemon.new", "daemon.pid")
        os.execvpe("sleep", ["sleep", "300"], {"PATH": os.environ["PATH"]})
    os._exit(0)
while not os.path.exists("daemon.pid"):
    time.sleep(0.005)
"""


def daemon_of(job, stage, seconds=10):
    end = time.monotonic() + seconds
    while not (found := job.root / "daemon.pid").exists():
        assert time.monotonic() < end, stage.log
        time.sleep(0.005)
    return int(found.read_text())


def is_gone_within(pid, seconds):
    end = time.monotonic() + seconds
    while is_alive(pid):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            return False
        time.sleep(0.01)
    return True


ENDS = {
    "itself": ("", 0),
    "an exit code": ("sys.exit(9)", 1),
    "a signal of its own": ("os.kill(os.getpid(), 9)", 1),
    "its time limit": ("time.sleep(60)", 4),
    "SIGTERM": ("time.sleep(60)", 1),
    "SIGKILL of the stage": ("time.sleep(60)", -9),
    "SIGTERM that it ignores": ("import signal; signal.signal(15, signal.SIG_IGN); time.sleep(60)", None),
}


@pytest.mark.parametrize("way", ENDS)
def test_what_a_command_has_made_a_daemon_ends_with_the_stage_whichever_way_it_ends(
    ready_job, monkeypatch, way
):
    end, code = ENDS[way]
    monkeypatch.chdir(ready_job.root)
    timeout = 3 if way == "its time limit" else 60
    stage = ready_job.start_command([*WRAP, sys.executable, "-c", DAEMON + end], timeout=timeout)
    daemon = daemon_of(ready_job, stage)
    if way == "SIGTERM":
        stage.process.terminate()
    elif "SIGKILL" in way or "ignores" in way:
        stage.process.kill()
    assert code is None or stage.wait() == code
    assert is_gone_within(daemon, 1 if code is not None else 3)


def test_what_was_left_running_is_told(ready_job, monkeypatch):
    monkeypatch.chdir(ready_job.root)
    stage = ready_job.start_command([*WRAP, sys.executable, "-c", DAEMON])
    assert stage.wait() == 0
    assert "left 1 running, which were killed" in stage.log
