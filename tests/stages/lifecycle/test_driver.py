"""The life of a stage, held as the engines see it: real processes, lock files and exit codes."""

import hashlib
import json
import re
import statistics
import time
from pathlib import Path

import pytest

from stages import main

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
SHA256_OF_42 = "73475cb40a568e8da8a045ced110137e159f890ac4da883b6b17dc651b3a8049"
MILLISECONDS_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")

SLEEPS = """
def execute(job):
    (job.output_dir / "begun.txt").touch()
    (Path(os.environ["NVIDIA_CLARA_LOCKDIR"]) / "begun").touch()
    time.sleep(60)
"""
FOLLOWS_ITS_LIFE = """
class MyStage(Stage):
    log = Path(__file__).with_name("life.txt")
    def note(self, word):
        with self.log.open("a") as file:
            file.write(word + " ")
    def startup(self): self.note("startup")
    def prepare(self, job): self.note("prepare")
    def execute(self, job): self.note("execute"); {work}
    def cleanup(self): self.note("cleanup")
"""


def life_of(job):
    return (job.root / "life.txt").read_text().split()


# Success


def test_success_is_published_as_a_lock_and_the_heartbeat_is_gone(ready_job):
    assert ready_job.run() == 0
    assert sorted(p.name for p in ready_job.locks.iterdir() if not p.name.startswith(".")) == [
        "input.lock",
        "my-stage.lock",
    ]


def test_lock_says_who_did_what_from_what(ready_job):
    ready_job.run()
    lock = ready_job.read("my-stage.lock")
    assert (lock["job"], lock["stage"]) == ("job-1", "my-stage")
    assert lock["host"]
    assert lock["inputs"] == {"input.lock": EMPTY_SHA256}
    assert lock["arguments"] == []
    assert MILLISECONDS_UTC.fullmatch(lock["started"])
    assert lock["started"] <= lock["finished"]


def test_lock_names_the_models_with_the_hashes_that_are_known_of_their_files(ready_job):
    now = [
        {"name": "liver", "version": "1", "files": {"1/model.onnx": "ab"}},
        {"name": "lung", "version": "2"},
    ]
    (ready_job.locks / "models.json").write_text(json.dumps({"models": now}))
    body = """
    from stages.lifecycle.model_record import ModelRecord
    class MyStage(Stage):
        def execute(self, job): pass
        def models_used(self): return [ModelRecord(name=each, version="1") for each in ("liver", "lung")]
    """
    assert ready_job.run(body) == 0
    liver, lung = ready_job.read("my-stage.lock")["models"]
    assert (liver["name"], liver["version"], liver["files"]) == ("liver", "1", {"1/model.onnx": "ab"})
    assert (lung["name"], lung["files"]) == ("lung", {})


def test_lock_vouches_for_every_output_file_with_size_and_digest(ready_job):
    ready_job.run("""
    def execute(job):
        (job.output_dir / "deep").mkdir()
        (job.output_dir / "deep" / "result.txt").write_text("42")
        (job.output_dir / "empty.txt").touch()
    """)
    assert ready_job.read("my-stage.lock")["outputs"] == [
        {"path": "deep/result.txt", "size": 2, "sha256": SHA256_OF_42},
        {"path": "empty.txt", "size": 0, "sha256": EMPTY_SHA256},
    ]


def test_input_digest_is_that_of_the_lock_file(job):
    job.publish_input("study 7")
    job.run()
    expected = hashlib.sha256(b"study 7").hexdigest()
    assert job.read("my-stage.lock")["inputs"] == {"input.lock": expected}


def test_job_tells_the_stage_its_folders_and_server(ready_job):
    code = ready_job.run(
        """
        def execute(job):
            told = [job.job_id, job.stage_name, job.input_dir.name, job.source_dir.name, job.triton_url]
            (job.output_dir / "told.txt").write_text(" ".join(told))
        """,
        TRTISURI="127.0.0.1:8001",
    )
    assert code == 0
    told = (ready_job.output() / "told.txt").read_text()
    assert told == "job-1 my-stage input source 127.0.0.1:8001"


def test_several_input_folders_arrive_in_order(ready_job):
    (ready_job.root / "second").mkdir()
    ready_job.run(
        """
        def execute(job):
            (job.output_dir / "told.txt").write_text(",".join(folder.name for folder in job.input_dirs))
        """,
        INPUT=f"{ready_job.root / 'second'}:{ready_job.root / 'input'}",
    )
    assert (ready_job.output() / "told.txt").read_text() == "second,input"


def test_an_argument_of_the_stage_reaches_it(ready_job):
    code = ready_job.run(
        """
        class MyStage(Stage):
            def add_arguments(self, parser): parser.add_argument("-p")
            def execute(self, job): (job.output_dir / "p.txt").write_text(job.arguments.p)
        """,
        "-p",
        "foo bar; $(x)",
    )
    assert code == 0
    assert (ready_job.output() / "p.txt").read_text() == "foo bar; $(x)"


def test_log_file_gets_the_story_of_the_run(ready_job):
    log = ready_job.root / "logs" / "my-stage.log"
    stage = ready_job.start(LOGS=log)
    assert stage.wait() == 0
    assert log.read_text() == stage.log
    assert "job job-1: waiting for input.lock" in stage.log


def test_log_file_that_is_standard_error_gets_each_line_once(ready_job):
    log = ready_job.root / "my-stage-0.err"
    stage = ready_job.start(LOGS=log)
    assert stage.wait() == 0
    assert stage.log.count("waiting for input.lock") == 1


# Order of the callbacks


def test_callbacks_come_in_their_order(ready_job):
    assert ready_job.run(FOLLOWS_ITS_LIFE.format(work="pass")) == 0
    assert life_of(ready_job) == ["startup", "prepare", "execute", "cleanup"]


def test_prepare_does_not_wait_for_the_inputs(job):
    stage = job.start("""
    class MyStage(Stage):
        def prepare(self, job): (Path(__file__).parent / "locks" / "prepared").touch()
        def execute(self, job): (Path(__file__).parent / "locks" / "executed").touch()
    """)
    job.until("prepared")
    time.sleep(0.1)
    assert not job.has("executed")
    job.publish_input()
    assert stage.wait() == 0
    assert job.has("executed")


@pytest.mark.parametrize("failing", ["startup", "prepare", "execute"])
def test_cleanup_comes_after_a_failure_in_any_callback(ready_job, failing):
    body = FOLLOWS_ITS_LIFE.format(work="pass")
    body += f'\n    def {failing}(self, *job): self.note("{failing}"); raise InputError("bad")\n'
    assert ready_job.run(body) == 3
    order = ["startup", "prepare", "execute"]
    assert life_of(ready_job) == [*order[: order.index(failing) + 1], "cleanup"]


def test_failing_cleanup_does_not_undo_a_success(ready_job):
    code = ready_job.run("""
    class MyStage(Stage):
        def execute(self, job): pass
        def cleanup(self): raise RuntimeError("could not clean up")
    """)
    assert code == 0
    assert ready_job.has("my-stage.lock")


# Failure


@pytest.mark.parametrize(
    ("error", "exit_code", "retryable"),
    [
        ("StageError", 1, False),
        ("RuntimeError", 1, False),
        ("SettingsError", 2, False),
        ("InputError", 3, False),
        ("GeometryError", 3, False),
        ("StageTimeoutError", 4, True),
        ("UpstreamError", 5, False),
        ("InferenceError", 6, True),
        ("OutputError", 7, False),
        ("TerminatedError", 1, True),
    ],
)
def test_failure_is_published_with_the_exit_code_of_its_class(ready_job, error, exit_code, retryable):
    assert ready_job.run(f"def execute(job): raise {error}('slice 7 is missing')") == exit_code
    failure = ready_job.read("my-stage.failed")
    assert failure["error"] == error
    assert failure["message"] == "slice 7 is missing"
    assert (failure["exit_code"], failure["retryable"]) == (exit_code, retryable)
    assert (failure["root_stage"], failure["root_message"]) == ("my-stage", "slice 7 is missing")
    assert not ready_job.has("my-stage.lock")
    assert not ready_job.has("my-stage.running")


def test_unforeseen_error_is_logged_with_its_traceback(ready_job):
    stage = ready_job.start("def execute(job): {}['series']")
    assert stage.wait() == 1
    assert "Traceback" in stage.log
    assert "KeyError: 'series'" in stage.log


def test_foreseen_error_is_logged_without_traceback(ready_job):
    stage = ready_job.start("def execute(job): raise InputError('no series')")
    assert stage.wait() == 3
    assert "ERROR stages.lifecycle.driver: no series" in stage.log
    assert "Traceback" not in stage.log


def test_usage_error_in_a_job_is_published(ready_job):
    stage = ready_job.start("def execute(job): pass", "--no-such-option")
    assert stage.wait() == 2
    failure = ready_job.read("my-stage.failed")
    assert failure["exit_code"] == 2
    assert "unrecognized arguments: --no-such-option" in failure["message"]


def test_missing_input_folder_is_the_inputs_fault(ready_job):
    assert ready_job.run(INPUT=ready_job.root / "nowhere") == 3
    assert "nowhere does not exist" in ready_job.read("my-stage.failed")["message"]


def test_stage_without_execute_is_refused(ready_job):
    assert ready_job.run("class MyStage(Stage): pass") == 2
    assert "MyStage does not say what to execute" in ready_job.read("my-stage.failed")["message"]


@pytest.mark.parametrize("output", ["input", "source", "locks", "."])
def test_output_folder_that_holds_what_must_survive_is_refused_and_not_emptied(ready_job, output):
    (ready_job.root / output / "image.dcm").parent.mkdir(exist_ok=True)
    (ready_job.root / output / "image.dcm").write_text("the only copy")
    assert ready_job.run(OUTPUT=ready_job.root / output) == 2
    assert (ready_job.root / output / "image.dcm").read_text() == "the only copy"
    assert "a stage's output is its own folder" in ready_job.read("my-stage.failed")["message"]


def test_lock_folder_that_cannot_be_made_ends_with_exit_code_7(job):
    (job.root / "file").touch()
    stage = job.start(LOCKDIR=job.root / "file" / "locks")
    assert stage.wait() == 7
    assert "cannot make the folder" in stage.log


def test_lock_folder_that_is_gone_when_the_work_is_done_ends_with_exit_code_7(ready_job):
    stage = ready_job.start("""
    import shutil
    def execute(job): shutil.rmtree(os.environ["NVIDIA_CLARA_LOCKDIR"])
    """)
    assert stage.wait() == 7
    assert "cannot publish" in stage.log


# Waiting


def test_failure_upstream_ends_all_who_wait_within_a_second_and_names_the_root_cause(job):
    second = job.start(name="second", wait="first.lock")
    third = job.start(name="third", wait="second.lock")
    job.until("second.running")
    job.until("third.running")
    time.sleep(0.3)
    job.publish_input()
    job.run("def execute(job): raise InputError('slice 7 is missing')", name="first")
    failed_at = time.monotonic()
    assert (second.wait(), third.wait()) == (5, 5)
    assert time.monotonic() - failed_at < 1
    failure = job.read("third.failed")
    assert failure["error"] == "UpstreamError"
    assert failure["message"] == "upstream failed: first: slice 7 is missing"
    assert (failure["root_stage"], failure["root_message"]) == ("first", "slice 7 is missing")


def test_foreign_failure_with_any_text_ends_the_wait(ready_job):
    (ready_job.locks / "other.failed").write_text("oops")
    assert ready_job.run(wait="other.lock") == 5
    assert ready_job.read("my-stage.failed")["root_stage"] == "other"


def test_silence_upstream_ends_the_wait(job):
    began = time.monotonic()
    assert job.run(wait="other.lock", timeout=0.4) == 4
    assert time.monotonic() - began < 3
    failure = job.read("my-stage.failed")
    assert failure["message"] == "other did not show up within 0.4 s"
    assert failure["retryable"] is True


def test_sign_of_life_upstream_keeps_a_stage_waiting_beyond_its_timeout(ready_job):
    ready_job.start(
        """
        from stages.lifecycle import driver
        driver.HEARTBEAT_S = 0.1
        def execute(job): time.sleep(2)
        """,
        name="slow",
    )
    patient = ready_job.start(wait="slow.lock", timeout=0.7)
    assert patient.wait() == 0


def test_heartbeat_that_does_not_change_is_no_sign_of_life(job):
    job.locks.mkdir()
    (job.locks / "dead.running").write_text("beat 7")
    assert job.run(wait="dead.lock", timeout=0.6) == 4
    assert job.read("my-stage.failed")["message"] == "no sign of life of dead for 0.6 s"


def test_heartbeat_is_whole_whenever_it_is_read(ready_job):
    stage = ready_job.start("""
    from stages.lifecycle import driver
    driver.HEARTBEAT_S = 0.001
    def execute(job): time.sleep(0.5)
    """)
    path = ready_job.until("my-stage.running")
    beats = set()
    while stage.process.poll() is None and not ready_job.has("my-stage.lock"):
        try:
            text = path.read_text()
        except FileNotFoundError:
            break
        beats.add(json.loads(text)["beat"])
    assert len(beats) > 10


def test_stage_waits_for_each_of_its_locks(job):
    job.publish_input()
    stage = job.start(wait="input.lock,other.lock")
    time.sleep(0.5)
    assert stage.process.poll() is None
    (job.locks / "other.lock").touch()
    assert stage.wait() == 0
    assert job.read("my-stage.lock")["inputs"] == {"input.lock": EMPTY_SHA256, "other.lock": EMPTY_SHA256}


def test_temporary_file_is_not_taken_for_a_lock(job):
    job.locks.mkdir()
    (job.locks / ".input.lock.4711.tmp").write_text('{"job": "job-')
    assert job.run(timeout=0.4) == 4


def test_lock_is_seen_soon_after_it_is_published(job):
    delays = []
    for attempt in range(3):
        name = f"stage-{attempt}"
        stage = job.start(
            """
            def execute(job): (job.output_dir / "seen.txt").write_text(str(time.monotonic()))
            """,
            name=name,
            wait=f"go-{attempt}.lock",
        )
        job.until(f"{name}.running")
        time.sleep(0.3)
        (job.locks / f"go-{attempt}.lock").touch()
        published = time.monotonic()
        assert stage.wait() == 0
        delays.append(float((job.output(name) / "seen.txt").read_text()) - published)
    assert statistics.median(delays) < 0.2


# Time limit and signals


def test_execute_that_takes_too_long_is_ended_and_cleaned_up(ready_job):
    began = time.monotonic()
    assert ready_job.run(FOLLOWS_ITS_LIFE.format(work="time.sleep(60)"), timeout=0.5) == 4
    assert time.monotonic() - began < 3
    assert "longer than the stage's timeout of 0.5 s" in ready_job.read("my-stage.failed")["message"]
    assert life_of(ready_job)[-1] == "cleanup"
    assert not ready_job.has("my-stage.lock")


def test_prepare_does_not_count_for_the_time_limit_of_execute(ready_job):
    code = ready_job.run(
        """
        class MyStage(Stage):
            def prepare(self, job): time.sleep(0.5)
            def execute(self, job): pass
        """,
        timeout=0.3,
    )
    assert code == 0


def test_sigterm_during_execute_is_published_as_retryable(ready_job):
    stage = ready_job.start(SLEEPS)
    ready_job.until("begun")
    asked = time.monotonic()
    assert stage.ask_to_stop() == 1
    assert time.monotonic() - asked < 3
    failure = ready_job.read("my-stage.failed")
    assert (failure["error"], failure["message"]) == ("TerminatedError", "stopped by SIGTERM")
    assert failure["retryable"] is True
    assert not ready_job.has("my-stage.running")


def test_sigterm_at_the_first_sign_of_life_leaves_no_sign_of_life(job):
    for attempt in range(8):
        stage = job.start(name=f"stage-{attempt}")
        job.until(f"stage-{attempt}.running")
        assert stage.ask_to_stop() == 1
        assert job.has(f"stage-{attempt}.failed")
        assert not job.has(f"stage-{attempt}.running")


def test_sigterm_that_a_handler_of_the_log_has_swallowed_ends_the_wait(job):
    stage = job.start("""
    import logging, signal
    class Handler(logging.StreamHandler):
        def format(self, record):
            if "waiting for" in record.getMessage():
                signal.raise_signal(signal.SIGTERM)
            return super().format(record)
    class MyStage(Stage):
        def prepare(self, job): logging.getLogger().addHandler(Handler())
        def execute(self, job): pass
    """)
    assert stage.wait() == 1
    assert job.read("my-stage.failed")["message"] == "stopped by SIGTERM"


def test_sigterm_during_the_wait_cleans_up_and_is_published(job):
    stage = job.start(FOLLOWS_ITS_LIFE.format(work="pass"))
    job.until("../life.txt")
    time.sleep(0.2)
    assert stage.ask_to_stop() == 1
    assert job.read("my-stage.failed")["message"] == "stopped by SIGTERM"
    assert life_of(job) == ["startup", "prepare", "cleanup"]


def test_stage_that_swallows_exceptions_is_ended_with_the_grace_time(ready_job):
    stage = ready_job.start("""
    from functools import partial
    from stages.lifecycle import driver, signals
    driver.StopSignals = partial(signals.StopSignals, grace_s=0.5)
    def execute(job):
        (Path(os.environ["NVIDIA_CLARA_LOCKDIR"]) / "begun").touch()
        while True:
            try: time.sleep(1)
            except Exception: pass
    """)
    ready_job.until("begun")
    asked = time.monotonic()
    assert stage.ask_to_stop() == 1
    assert 0.4 < time.monotonic() - asked < 2.5
    assert ready_job.read("my-stage.failed")["message"] == "stopped by SIGTERM"
    assert not ready_job.has("my-stage.running")


def test_stage_that_swallows_the_interruption_and_goes_on_publishes_no_lock(ready_job):
    body = """
    def execute(job):
        try: time.sleep(5)
        except Exception: pass
        (job.output_dir / "partial.txt").write_text("without the window that was interrupted")
    """
    assert ready_job.run(body, timeout=0.3) == 4
    assert not ready_job.has("my-stage.lock")
    assert ready_job.read("my-stage.failed")["exit_code"] == 4


def test_killed_stage_leaves_no_lock_and_can_be_run_again(ready_job):
    stage = ready_job.start(SLEEPS)
    ready_job.until("begun")
    stage.process.kill()
    stage.wait()
    assert not ready_job.has("my-stage.lock")
    assert ready_job.run() == 0
    assert ready_job.has("my-stage.lock")
    assert not ready_job.has("my-stage.running")
    assert [p.name for p in ready_job.output().iterdir()] == ["result.txt"]


def test_second_driver_of_a_stage_ends_and_leaves_the_first_alone(job):
    first = job.start()
    job.until("my-stage.running")
    second = job.start(SLEEPS)
    assert second.wait() == 2
    assert f"already run by process {first.process.pid} on " in second.log
    assert not job.has("my-stage.failed")
    job.publish_input()
    assert first.wait() == 0
    assert job.has("my-stage.lock")


# Running again

COUNTS = """
def execute(job):
    with Path(__file__).with_name("runs.txt").open("a") as file:
        file.write("x")
    (job.output_dir / "result.txt").write_text("42")
"""


def runs_of(job):
    return len((job.root / "runs.txt").read_text())


def test_finished_job_is_not_done_again(ready_job):
    ready_job.run(COUNTS)
    result = ready_job.output() / "result.txt"
    before = result.stat().st_mtime_ns
    assert ready_job.run(COUNTS) == 0
    assert result.stat().st_mtime_ns == before
    assert runs_of(ready_job) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda job: job.publish_input("another study"),
        lambda job: (job.output() / "result.txt").write_text("43"),
        lambda job: (job.output() / "result.txt").unlink(),
        lambda job: (job.locks / "my-stage.lock").unlink(),
    ],
    ids=["input lock", "tampered output", "missing output", "missing lock"],
)
def test_finished_job_is_done_again_after_a_change(ready_job, change):
    ready_job.run(COUNTS)
    change(ready_job)
    assert ready_job.run(COUNTS) == 0
    assert runs_of(ready_job) == 2
    assert (ready_job.output() / "result.txt").read_text() == "42"


def test_finished_job_is_done_again_with_other_arguments(ready_job):
    ready_job.run(COUNTS)
    assert ready_job.run(COUNTS, "--verbose") == 0
    assert runs_of(ready_job) == 2
    assert ready_job.read("my-stage.lock")["arguments"] == ["--verbose"]


def test_lock_of_another_job_does_not_count(ready_job):
    ready_job.run(COUNTS)
    assert ready_job.run(COUNTS, JOBID="job-2") == 0
    assert runs_of(ready_job) == 2


def test_empty_lock_of_a_foreign_stage_counts(ready_job):
    (ready_job.locks / "my-stage.lock").touch()
    assert ready_job.run(COUNTS) == 0
    assert not (ready_job.root / "runs.txt").exists()


def test_lock_that_another_publishes_while_the_stage_waits_is_not_its_own(job):
    process = job.start(COUNTS, timeout=60)
    job.until("my-stage.running")
    process.until_it_says("waiting for input.lock")
    (job.locks / "my-stage.lock").touch()
    job.publish_input()
    assert process.wait() == 0
    assert runs_of(job) == 1
    assert job.read("my-stage.lock")["stage"] == "my-stage"


def test_failure_of_an_earlier_run_is_forgotten_by_the_next(ready_job):
    ready_job.run("def execute(job): raise InputError('bad')")
    assert ready_job.run() == 0
    assert not ready_job.has("my-stage.failed")


def test_failed_rerun_leaves_no_lock_of_the_earlier_success(ready_job):
    ready_job.run()
    ready_job.publish_input("another study")
    assert ready_job.run("def execute(job): raise InputError('bad')") == 3
    assert not ready_job.has("my-stage.lock")


def test_output_of_an_unfinished_run_is_cleared_away(ready_job):
    ready_job.run("""
    def execute(job):
        (job.output_dir / "deep").mkdir()
        (job.output_dir / "deep" / "half.raw").write_text("half")
        raise InputError("bad")
    """)
    ready_job.run()
    assert [p.name for p in ready_job.output().iterdir()] == ["result.txt"]


# By hand


def test_nosynclock_runs_once_without_locks(job):
    assert job.run(NOSYNCLOCK="TRUE") == 0
    assert (job.output() / "result.txt").read_text() == "42"
    assert not job.locks.exists()


def test_by_hand_a_stage_reads_and_writes_the_folders_it_is_told(job):
    (job.root / "in").mkdir()
    (job.root / "in" / "name.txt").write_text("liver")
    stage = job.start(
        """
        import shutil
        def execute(job): shutil.copy(job.input_dir / "name.txt", job.output_dir)
        """,
        f"--input={job.root / 'in'}",
        "--output",
        str(job.root / "out" / "new"),
    )
    assert stage.wait() == 0
    assert (job.root / "out" / "new" / "name.txt").read_text() == "liver"
    assert not job.locks.exists()


@pytest.mark.parametrize(("work", "exit_code"), [("pass", 0), ("raise InputError('bad')", 3)])
def test_by_hand_the_callbacks_are_the_same(job, work, exit_code):
    arguments = ["--input", str(job.root / "input"), "--output", str(job.root / "out")]
    assert job.run(FOLLOWS_ITS_LIFE.format(work=work), *arguments) == exit_code
    assert life_of(job) == ["startup", "prepare", "execute", "cleanup"]


def test_by_hand_the_output_folder_must_be_told(job):
    stage = job.start("def execute(job): pass", "--input", str(job.root))
    assert stage.wait() == 2
    assert "--input needs --output" in stage.log


def test_by_hand_nothing_that_lies_in_the_output_folder_is_removed(job):
    (job.root / "out").mkdir()
    (job.root / "out" / "mine.txt").write_text("keep")
    arguments = ["--input", str(job.root / "input"), "--output", str(job.root / "out")]
    assert job.start("def execute(job): pass", *arguments).wait() == 0
    assert (job.root / "out" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_shown_without_touching_a_lock_folder(job, option):
    assert job.run("def execute(job): pass", option) == 0
    assert not job.locks.exists()


# Names from outside


@pytest.mark.parametrize("settings", [{"LOCKNAME": "../x.lock"}, {"STAGENAME": ".."}, {"JOBID": "a/b"}])
def test_name_that_leads_out_of_the_job_ends_with_exit_code_2_and_writes_nothing(job, settings):
    stage = job.start(**settings)
    assert stage.wait() == 2
    assert f"NVIDIA_CLARA_{next(iter(settings))}=" in stage.log
    assert not job.locks.exists()


def test_a_finished_stage_does_not_even_prepare_again(ready_job):
    assert ready_job.run() == 0
    code = ready_job.run("""
    class MyStage(Stage):
        def prepare(self, job): raise InferenceError("the server is gone")
        def execute(self, job): pass
    """)
    assert code == 0
    assert not ready_job.has("my-stage.failed")


# The reason of a failure, for the platform that runs the container


def test_a_failure_leaves_its_reason_where_the_platform_looks_for_it(ready_job):
    reason = ready_job.root / "termination-log"
    reason.touch()
    assert ready_job.run("def execute(job): raise InputError('no CT here')", TERMINATIONLOG=reason) == 3
    assert reason.read_text() == "no CT here"
    assert ready_job.read("my-stage.failed")["message"] == "no CT here"


def test_a_long_reason_is_cut_between_two_characters(ready_job):
    reason = ready_job.root / "termination-log"
    ready_job.run("def execute(job): raise InputError('x' + 'é' * 3000)", TERMINATIONLOG=reason)
    assert reason.read_text() == "x" + "é" * 2047  # of 4096 bytes one is left over


def test_success_leaves_no_reason(ready_job):
    reason = ready_job.root / "termination-log"
    assert ready_job.run(TERMINATIONLOG=reason) == 0
    assert not reason.exists()


def test_a_reason_that_cannot_be_left_does_not_hide_the_failure(ready_job):
    failing = "def execute(job): raise InputError('no CT here')"
    assert ready_job.run(failing, TERMINATIONLOG=ready_job.root / "missing/termination-log") == 3
    assert ready_job.read("my-stage.failed")["message"] == "no CT here"


# By hand


@pytest.mark.skipif(Path("/app/locks").exists(), reason="this machine is a stage's container")
@pytest.mark.parametrize("arguments", [[], ["--output", "out"], ["--verbose"]])
def test_a_stage_that_no_job_started_prints_its_usage_at_once(arguments, capsys):
    assert main(lambda job: None, arguments, {}, name="my-stage") == 2
    told = capsys.readouterr().err
    assert told.startswith("usage: python -m my_stage [-h] [--input DIR]")
    assert "No job has started this stage" in told


@pytest.mark.skipif(Path("/app/locks").exists(), reason="this machine is a stage's container")
def test_a_mistake_in_its_options_is_told_before_its_usage(capsys):
    assert main(lambda job: None, ["--inptu", "in"], {}, name="my-stage") == 2
    assert "unrecognized arguments: --inptu in; usage:" in capsys.readouterr().err
