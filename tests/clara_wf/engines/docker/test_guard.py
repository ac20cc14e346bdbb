"""What the guard says to Docker, which a program of the test's stands for."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clara_wf.engines.docker import guard as docker_guard


@pytest.fixture
def docker(tmp_path):
    """A docker command that lists containers c1 and c2 and network n1, and keeps what it was told."""
    program, told = tmp_path / "docker", tmp_path / "told"
    program.write_text(
        f"""#!/bin/sh
case "$1 $2" in
"ps "*) echo c1 c2 ;;
"network ls") echo n1 ;;
*) echo "$@" >>{told} ;;
esac
"""
    )
    program.chmod(0o755)
    return program


@pytest.fixture
def guard(docker):
    """Start a guard of runs with the label run=1."""
    command = [sys.executable, "-I", "-S", docker_guard.__file__, "run=1", str(docker)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ) as process:
        yield process
        process.kill()


def told(docker):
    return (docker.parent / "told").read_text().splitlines()


def test_after_a_run_that_has_ended_everything_is_removed_at_once(guard, docker):
    guard.communicate(b"ended\n", timeout=10)
    assert told(docker) == ["rm --force --volumes c1 c2", "network rm n1"]


def test_when_clara_wf_is_gone_the_stages_are_asked_to_stop_first_and_what_comes_late_is_removed_too(
    guard, docker
):
    guard.communicate(timeout=10)
    removal = ["rm --force --volumes c1 c2", "network rm n1"]
    assert told(docker) == ["stop --time=10 c1 c2", *removal, *removal]


@pytest.mark.skipif(sys.platform != "linux", reason="looks at proc(5)")
def test_a_signal_does_not_end_the_guard(guard, docker):
    while not ignored_signals(guard.pid) & (1 << signal.SIGTERM - 1):
        time.sleep(0.01)
    guard.terminate()
    guard.communicate(b"ended\n", timeout=10)
    assert guard.returncode == 0
    assert len(told(docker)) == 2


def ignored_signals(pid):
    (line,) = (
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn")
    )
    return int(line.split()[1], 16)
