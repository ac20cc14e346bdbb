import os
import sys

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
