"""Nothing of the model server is left behind, however it or its parent ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from clara_wf.model_server import server as model_server
from clara_wf.model_server.guard import SHARED_MEMORY, sweep
from clara_wf.model_server.server import serve

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parents[3]
PARENT = """
import os, signal, sys, time
from pathlib import Path
from clara_wf.model_server import server as model_server
from clara_wf.model_server.server import serve

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
repository, cache, log = map(Path, sys.argv[1:])
with serve(repository, cache=cache, log=log, on_progress=lambda line: None):
    print("ready", flush=True)
    request = input()
    if request == "raise":
        raise ValueError("an exception in the block")
    if request == "fork":
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        input()
"""


@pytest.fixture
def repository(tmp_path, add_model):
    add_model(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def parent(repository, triton_cache, tmp_path):
    """Return a process that serves the repository, when its server is ready."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, repository, triton_cache, tmp_path / "log"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    with parent:
        assert parent.stdout.readline() == "ready\n"
        yield parent
        parent.kill()


def processes_of(repository):
    """Return guard, tritonserver and stub of a running server."""
    name = name_of(repository)
    by_program = {Path(process.cmdline()[0]).name: process for process in processes_with(name)}
    return (
        by_program[Path(sys.executable).name],
        by_program["tritonserver"],
        by_program["triton_python_backend_stub"],
    )


def name_of(repository):
    guards = [p for p in processes_with(str(repository)) if "model_server.guard" in " ".join(p.cmdline())]
    return next(each.removeprefix("--id=") for each in guards[0].cmdline() if each.startswith("--id="))


def processes_with(argument):
    processes = psutil.process_iter(["cmdline"])
    return [process for process in processes if argument in " ".join(process.info["cmdline"] or [])]


def traces(name):
    """Return the processes and the entries in shared memory of a server."""
    return [*processes_with(name), *SHARED_MEMORY.glob(f"{name}*")]


def wait_until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_running_server_leaves_traces(parent, repository):
    assert len(traces(name_of(repository))) == 7  # three processes, a region, two links and the lock


@pytest.mark.parametrize(
    "end",
    [
        lambda parent: parent.communicate("\n"),
        lambda parent: parent.communicate("raise\n"),
        lambda parent: parent.kill(),
        lambda parent: parent.terminate(),
        lambda parent: os.killpg(parent.pid, signal.SIGINT),
    ],
    ids=["exit", "exception", "SIGKILL", "SIGTERM", "Ctrl-C"],
)
def test_nothing_is_left_when_the_parent_ends(parent, repository, end):
    name = name_of(repository)
    end(parent)
    parent.wait(5)
    wait_until(lambda: not traces(name))


def test_nothing_is_left_when_the_parent_is_killed_while_the_server_starts(
    repository, triton_cache, tmp_path
):
    command = [sys.executable, "-c", PARENT, repository, triton_cache, tmp_path / "log"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as parent:
        wait_until((tmp_path / "log").exists)
        wait_until(lambda: len(psutil.Process(parent.pid).children(recursive=True)) > 1)
        (guard,) = psutil.Process(parent.pid).children()
        name = guard.cmdline()[5]
        parent.kill()
    wait_until(lambda: not traces(name))


def test_nothing_is_left_when_a_child_of_the_killed_parent_holds_its_files(parent, repository):
    name = name_of(repository)
    parent.stdin.write("fork\n")
    parent.stdin.flush()
    wait_until(lambda: len(psutil.Process(parent.pid).children()) == 2)
    os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: not traces(name))
    os.killpg(parent.pid, signal.SIGKILL)


def test_port_that_is_taken_in_the_meantime_is_replaced(repository, triton_cache, tmp_path, monkeypatch):
    with serve(repository, cache=triton_cache, log=tmp_path / "log", on_progress=print) as first:
        taken = [int(url.rpartition(":")[2]) for url in (first.http_url, first.grpc_url)]
        free_ports = model_server._free_ports
        offers = [[taken[0], *free_ports(1)], [*free_ports(1), taken[1]], free_ports(2)]
        monkeypatch.setattr(model_server, "_free_ports", lambda count: offers.pop(0))
        with serve(repository, cache=triton_cache, log=tmp_path / "log2", on_progress=print) as second:
            assert offers == []
            assert not {first.http_url, first.grpc_url} & {second.http_url, second.grpc_url}


def test_server_is_gone_when_the_block_has_ended(repository, triton_cache, tmp_path):
    with serve(repository, cache=triton_cache, log=tmp_path / "log", on_progress=print):
        name = name_of(repository)
    assert traces(name) == []


def test_server_ends_with_its_guard(parent, repository):
    name = name_of(repository)
    guard, server, _ = processes_of(repository)
    guard.kill()
    wait_until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    wait_until(lambda: not [trace for trace in traces(name) if isinstance(trace, psutil.Process)])


def test_what_a_killed_guard_left_is_swept_by_the_next_start(parent, repository, triton_cache, tmp_path):
    name = name_of(repository)
    guard, _, stub = processes_of(repository)
    stub.suspend()  # so that it cannot notice the end of its server
    guard.kill()
    wait_until(lambda: len(traces(name)) == 5)  # the stub, its region, two links and the lock
    with serve(repository, cache=triton_cache, log=tmp_path / "log2", on_progress=print):
        assert traces(name) == []


def test_traces_without_a_lock_are_swept():
    name = f"clara-model-server-{os.urandom(8).hex()}"
    (SHARED_MEMORY / f"{name}-repository" / "model").mkdir(parents=True)
    (SHARED_MEMORY / f"{name}-installation").symlink_to("/nowhere")
    sweep()
    assert traces(name) == []


def test_sweep_leaves_living_servers_alone(parent, repository):
    before = traces(name_of(repository))
    sweep()
    assert traces(name_of(repository)) == before


def test_server_finds_its_own_python_whatever_the_environment_says(
    repository, triton_cache, tmp_path, monkeypatch
):
    for name in ("PYTHONHOME", "PYTHONPATH"):
        monkeypatch.setenv(name, str(tmp_path))
    with serve(repository, cache=triton_cache, log=tmp_path / "log", on_progress=print) as server:
        server.check()


def test_sweep_looks_only_at_what_bears_a_name_of_ours():
    lock = SHARED_MEMORY / f"clara-model-server-not-a-name-{os.getpid()}.lock"
    lock.write_text("")
    try:
        sweep()
        assert lock.exists()
    finally:
        lock.unlink()
