"""A stage that stays does what one that is started for the job does; nothing of a job reaches the next."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from stages.resident import orders
from tests.stages.conftest import ALWAYS
from tests.stages.resident.conftest import ended, settings_of, text, until

_TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+\+00:00)?Z?|\d+\.\d s")
_FOLLOWS = """
life = Path(__file__).with_name("life.txt")
def note(word):
    with life.open("a") as file:
        file.write(word + " ")
"""


def one_shot(pool, name, *arguments, **settings):
    """Run a job as a process of its own, and return its exit code."""
    job = pool.root / name
    (job / "input").mkdir(parents=True)
    (job / "locks").mkdir()
    (job / "locks/input.lock").touch()
    environ = {**os.environ, **ALWAYS, **settings_of(job, **settings)}
    with (job / "stage.log").open("a") as log:
        command = [sys.executable, pool.script, *arguments]
        return subprocess.run(
            command, env=environ, cwd=pool.root, stdout=log, stderr=log, umask=0o022
        ).returncode


def files_of(job):
    """Return the mode and the content of each file of a job, without times and sizes of memory."""
    found = {}
    for path in sorted(job.rglob("*")):
        content = ""
        if path.suffix in (".lock", ".failed"):
            record = json.loads(path.read_text() or "{}")
            content = {
                k: v for k, v in record.items() if k not in ("started", "finished", "peak_memory_bytes")
            }
        elif path.is_file() and not path.name.startswith("."):
            content = path.read_text()
        plain = _TIMES.sub("TIME", json.dumps(content)).replace(job.name, "JOB")
        found[str(path.relative_to(job))] = (oct(path.stat().st_mode), plain)
    return found


WRITES_WHAT_IT_SEES = """
import tempfile, logging
def execute(job):
    seen = [sys.argv[1:], os.getcwd(), oct(os.umask(0o22)), sorted(k for k in os.environ if k != "TMPDIR"),
            os.environ["SECRET"], sys.stdin.read(), logging.getLogger().level]
    (job.output_dir / "seen.txt").write_text(repr(seen))
    print("to standard output")
    print("to standard error", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("body", "arguments", "code"),
    [
        (WRITES_WHAT_IT_SEES, (), 0),
        ("def execute(job): raise InputError('slice 7 is missing')", (), 3),
        ("def execute(job): {}['series']", (), 1),
        ("def execute(job): pass", ("--no-such-option",), 2),
        ("def execute(job): time.sleep(60)", (), 4),
        ("class MyStage(Stage): pass", ("--verbose",), 2),
    ],
)
def test_files_of_a_job_are_those_of_a_stage_started_for_it(pool, monkeypatch, body, arguments, code):
    monkeypatch.setenv("SECRET", "of both")
    pool.started(body, *arguments)
    assert one_shot(pool, "job-a", *arguments, TIMEOUT=1) == code
    assert pool.run("job-b", TIMEOUT=1) == code
    assert files_of(pool.root / "job-b") == files_of(pool.root / "job-a")


def test_startup_is_called_once_and_the_rest_for_each_job(pool):
    pool.started(
        _FOLLOWS
        + """
class MyStage(Stage):
    def warm_up(self): note("warm_up")
    def startup(self): note("startup")
    def prepare(self, job): note("prepare")
    def execute(self, job): note("execute")
    def cleanup(self): note("cleanup")
"""
    )
    assert [pool.run("job-1"), pool.run("job-2")] == [0, 0]
    life = "warm_up startup prepare execute cleanup prepare execute cleanup"
    assert text(pool.root / "life.txt").split() == life.split()


@pytest.mark.parametrize("starts", ["threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"])
def test_startup_that_cannot_be_forked_is_called_for_each_job(pool, starts):
    body = f"""{_FOLLOWS}
import threading
class MyStage(Stage):
    def startup(self): note('startup'); {starts}
    def execute(self, job): note(str(threading.active_count()))
"""
    pool.started(body)
    (pool.root / "life.txt").unlink()
    assert [pool.run("job-1"), pool.run("job-2")] == [0, 0]
    assert text(pool.root / "life.txt").split() == [
        "startup",
        "3",
        "startup",
        "3",
    ]  # main, its own, heartbeat
    assert "startup is called for each job" in pool.log


def test_program_that_starts_threads_when_imported_is_refused(pool):
    body = """
    import threading
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    def execute(job): pass
    """
    host = pool.start(body)
    assert host.wait(20) == 2
    assert "write resident: false into its block" in pool.log


def test_nothing_of_a_job_reaches_the_next(pool):
    pool.started(
        """
        import logging, tempfile
        seen = []
        class MyStage(Stage):
            def add_arguments(self, parser): parser.add_argument("-p")
            def execute(self, job):
                here = [seen[:], os.environ.get("SECRET"), job.arguments.p, os.getcwd(), os.umask(0o77),
                        logging.getLogger("mine").level, os.listdir(tempfile.gettempdir()), sys.argv[1:]]
                (job.output_dir / "seen.txt").write_text(repr(here))
                seen.append("patient")
                os.environ["SECRET"] = "of the first"
                os.chdir("/")
                sys.argv.append("of the first")
                job.arguments.p = "of the first"
                logging.getLogger("mine").setLevel(5)
                Path(tempfile.gettempdir(), "patient").touch()
        """
    )
    assert pool.run("job-1", environ={"SECRET": "1"}) == 0
    assert pool.run("job-2") == 0
    first, second = (text(pool.root / name / "output/seen.txt") for name in ("job-1", "job-2"))
    where = str(pool.root)
    assert first == repr([[], "1", None, where, 0o22, 0, [], []])
    assert second == repr([[], None, None, where, 0o22, 0, [], []])


def test_files_that_a_job_left_in_its_temporary_folder_are_gone(pool):
    pool.started(
        """
        import tempfile
        def execute(job):
            made = tempfile.mkdtemp()
            Path(made, "patient").touch()
            (job.output_dir / "made.txt").write_text(made)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    pool.run()
    made = text(pool.root / "job-1/output/made.txt")
    assert "clara-job-" in made
    assert not os.path.exists(made)


def test_files_of_a_job_whose_host_was_killed_are_gone_when_the_next_begins(pool):
    body = """
        import tempfile
        def execute(job):
            Path(tempfile.gettempdir(), "patient").touch()
            Path(__file__).with_name("made.txt").write_text(tempfile.gettempdir())
            time.sleep(60)
        """
    host = pool.started(body)
    pool.order("job-1")
    made = pool.root / "made.txt"
    until(lambda: made.exists() and made.read_text())
    host.kill()
    host.wait()
    pool.started(body)
    until(lambda: not os.path.exists(made.read_text()))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("raise RuntimeError('no')", 1),
        ("os._exit(9)", 9),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
        ("import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 28,) * 2); bytearray(1 << 30)", 1),
    ],
)
def test_job_that_fails_in_any_way_fails_by_itself(pool, body, code):
    host = pool.started(f"def execute(job):\n    if job.job_id == 'bad': {body}\n")
    assert pool.run("job-1", JOBID="bad") == code
    assert pool.run("job-2") == 0
    assert host.poll() is None


def test_job_that_hangs_and_is_deaf_is_ended_and_the_next_runs_meanwhile(pool):
    pool.started(
        """
        def execute(job):
            if job.job_id != "bad": return
            while True:
                try: time.sleep(60)
                except BaseException: pass
        """,
        at_once=2,
    )
    bad = pool.order("job-1", JOBID="bad", TIMEOUT=1)
    assert pool.run("job-2") == 0
    assert ended(bad) == 4
    assert json.loads(text(bad.job / "locks/my-stage.failed"))["error"] == "StageTimeoutError"


def test_what_a_job_has_started_ends_with_it(pool):
    pool.started(
        """
        import subprocess
        def execute(job):
            child = subprocess.Popen([sys.executable, "-c", "import os, time; os.setsid(); time.sleep(60)"])
            (job.output_dir / "child.txt").write_text(str(child.pid))
        """
    )
    pool.run()
    child = int(text(pool.root / "job-1/output/child.txt"))
    assert not os.path.exists(f"/proc/{child}")


def test_changed_program_is_loaded_anew(pool):
    host = pool.started("def execute(job): (job.output_dir / 'v.txt').write_text('old')")
    pool.run("job-1")
    pool.write("def execute(job): (job.output_dir / 'v.txt').write_text('another')")
    assert pool.run("job-2") == 0
    assert text(pool.root / "job-2/output/v.txt") == "another"
    assert host.poll() is None


def test_job_whose_client_has_gone_is_stopped(pool):
    pool.started("def execute(job): (job.output_dir / 'begun').touch(); time.sleep(60)")
    ticket = pool.order()
    until((ticket.job / "output/begun").exists)
    ticket.close()
    failed = ticket.job / "locks/my-stage.failed"
    until(failed.exists)
    assert "SIGTERM" in json.loads(text(failed))["message"]
    until(lambda: [p.name for p in pool.folder.iterdir() if "-" in p.name and p.suffix != ".host"] == [])


def test_job_of_a_host_that_was_killed_ends_and_is_told_as_killed(pool):
    host = pool.started("def execute(job): (job.output_dir / 'begun').touch(); time.sleep(60)")
    ticket = pool.order()
    until((ticket.job / "output/begun").exists)
    host.kill()
    assert ended(ticket) == -signal.SIGKILL
    assert (ticket.job / "locks/my-stage.failed").exists()


def test_host_that_is_asked_to_end_lets_its_jobs_end_and_takes_no_more(pool):
    host = pool.started("def execute(job): (job.output_dir / 'begun').touch(); time.sleep(1)")
    ticket = pool.order("job-1")
    until((ticket.job / "output/begun").exists)
    host.terminate()
    time.sleep(0.3)
    late = pool.order("job-2")
    assert ended(ticket) == 0
    assert host.wait(10) == 0
    assert not late.is_served
    assert late.withdraw()


WORKS_A_WHILE = """
def execute(job):
    began = time.monotonic()
    time.sleep(0.2)
    with Path(__file__).with_name("work.txt").open("a") as file:
        file.write(f"{job.job_id} {began} {time.monotonic()}\\n")
"""


def worked(pool):
    """Return who worked from when to when, in order."""
    lines = [line.split() for line in text(pool.root / "work.txt").splitlines()]
    return sorted((float(began), float(end), name) for name, began, end in lines)


WORKS_WHEN_TOLD = WORKS_A_WHILE.replace(
    "time.sleep(0.2)", "while not Path(__file__).with_name('go').exists(): time.sleep(0.005)"
)


def test_jobs_work_one_after_the_other_and_those_of_priority_first(pool):
    pool.started(WORKS_WHEN_TOLD)
    tickets = [pool.order(f"job-{n}", JOBID=f"{n}") for n in range(4)]
    until(lambda: sum(ticket.waits_for_turn for ticket in tickets) == 3)
    tickets.append(pool.order("job-stat", JOBID="stat", priority=5))
    until(lambda: tickets[4].waits_for_turn)
    (pool.root / "go").touch()
    assert [ended(ticket) for ticket in tickets] == [0] * 5
    found = worked(pool)
    assert all(end <= began for (_, end, _), (began, _, _) in pairwise(found))
    first, second, *others = (name for _, _, name in found)
    assert second == "stat"  # behind the one that worked already: whichever was ready first
    assert others == sorted({"0", "1", "2", "3"} - {first})


def test_job_that_has_waited_long_is_not_overtaken(pool, monkeypatch):
    pool.started(WORKS_WHEN_TOLD)
    clock = time.time
    monkeypatch.setattr(orders.time, "time", lambda: clock() - 2 * orders.PRIORITY_S)
    first = pool.order("job-first", JOBID="first")
    until((first.job / "output").exists)
    old = pool.order("job-old", JOBID="old")
    monkeypatch.undo()
    urgent = pool.order("job-urgent", JOBID="urgent", priority=1)
    until(lambda: old.waits_for_turn and urgent.waits_for_turn)
    (pool.root / "go").touch()
    assert [ended(each) for each in (first, old, urgent)] == [0, 0, 0]
    assert [name for _, _, name in worked(pool)] == ["first", "old", "urgent"]


def test_two_hosts_do_each_order_once(pool):
    pool.started(WORKS_A_WHILE.replace("0.2", "0.02"))
    pool.started(WORKS_A_WHILE.replace("0.2", "0.02"))
    tickets = [pool.order(f"job-{n}", JOBID=f"{n}") for n in range(12)]
    assert [ended(ticket) for ticket in tickets] == [0] * 12
    assert sorted(int(name) for _, _, name in worked(pool)) == list(range(12))


def test_job_that_another_process_runs_is_not_run_twice(pool):
    pool.started(WORKS_A_WHILE.replace("0.2", "3"))
    ticket = pool.order("job-1")
    until((ticket.job / "locks/my-stage.running").exists)
    environ = {**os.environ, **ALWAYS, **settings_of(ticket.job)}
    second = subprocess.run([sys.executable, pool.script], env=environ, capture_output=True, text=True)
    assert second.returncode == 2
    assert "already run by process" in second.stderr
    assert ended(ticket) == 0
    assert len(worked(pool)) == 1


def test_memory_does_not_grow_with_the_jobs(pool):
    host = pool.started("def execute(job): job.kept = bytearray(1 << 20)".replace("job.kept", "kept"))

    def resident():
        return int(text(f"/proc/{host.pid}/statm").split()[1])

    for n in range(10):
        assert pool.run(f"job-{n}") == 0
        pool.tickets[-1].close()
    early = resident()
    for n in range(10, 60):
        assert pool.run(f"job-{n}") == 0
        pool.tickets[-1].close()
    assert resident() <= 1.05 * early
    assert len(os.listdir(f"/proc/{host.pid}/fd")) < 16


@pytest.mark.parametrize("after", ["", "    Path(__file__).with_name('after.txt').touch()\n"])
def test_what_a_program_does_after_its_job_is_done_too(pool, after):
    pool.write(
        "import atexit\natexit.register(Path(__file__).with_name('exit.txt').touch)\ndef execute(job): pass"
    )
    whole = pool.script.read_text()
    ending = "    sys.exit(main("
    assert ending in whole
    if after:
        pool.script.write_text(
            whole.replace(ending, "    code = (main(") + after + "    sys.exit(code + 7)\n"
        )
    pool.start_script()
    assert pool.run() == (7 if after else 0)
    assert (pool.root / "exit.txt").exists()
    assert (pool.root / "after.txt").exists() == bool(after)
