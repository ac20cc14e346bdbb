"""Processes and their parents."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.runtime.processes import (
    children,
    command_with_parent,
    descendants,
    die_with_parent,
    own_interpreter,
    peak_memory_bytes,
    start_time,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are of Linux")
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleeper():
    process = subprocess.Popen(SLEEP)
    yield process
    process.kill()
    process.wait()


def ended_within(pid, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not start_time(pid):
            return True
        time.sleep(0.02)
    return False


def test_peak_memory_is_of_the_whole_life():
    before = peak_memory_bytes()
    block = bytearray(64 << 20)
    del block
    assert peak_memory_bytes(os.getpid()) >= before
    assert peak_memory_bytes() > 64 << 20


def test_peak_memory_of_a_process_that_is_gone_is_0(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tx\n")
    assert peak_memory_bytes(7, proc=str(tmp_path)) == 0
    assert peak_memory_bytes(8, proc=str(tmp_path)) == 0


def test_children_and_what_is_below_them_are_found(sleeper):
    assert sleeper.pid in (children(os.getpid()) or [sleeper.pid])
    assert sleeper.pid in descendants(os.getpid())
    assert children(2**22 + 1) is None


def test_start_time_tells_a_process_from_a_later_one_of_its_number(sleeper):
    assert start_time(sleeper.pid).isdigit()
    assert int(start_time(sleeper.pid)) >= int(start_time(os.getpid()))
    assert start_time(2**22 + 1) == ""


PARENT = """
import os, subprocess, sys
sys.path.insert(0, {packages!r})
from stages.runtime.processes import command_with_parent, die_with_parent
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
one = subprocess.Popen(command_with_parent(os.getpid(), sleep))
two = subprocess.Popen(sleep, preexec_fn=die_with_parent)
print(one.pid, two.pid, flush=True)
input()
"""


def test_child_dies_with_its_parent_however_that_ends():
    packages = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", PARENT.format(packages=packages)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        pids = list(map(int, parent.stdout.readline().split()))
        time.sleep(0.5)  # until the first has become its command
        parent.kill()
    assert len(pids) == 2
    assert all(ended_within(pid, 10) for pid in pids)


def test_command_does_not_begin_if_its_parent_is_gone(tmp_path):
    made = tmp_path / "made"
    command = [sys.executable, "-c", f"open({str(made)!r}, 'w')"]
    subprocess.run(command_with_parent(os.getpid() + 1, command), check=True)
    assert not made.exists()
    subprocess.run(command_with_parent(os.getpid(), command), check=True)
    assert made.exists()


def test_own_interpreter_heeds_no_environment(tmp_path):
    (tmp_path / "stages.py").write_text("raise SystemExit(9)")
    command = own_interpreter("stages.runtime.processes", "0", "true")
    assert subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}).returncode == 0


def test_signal_can_be_chosen():
    process = subprocess.Popen(["true"], preexec_fn=lambda: die_with_parent(signal.SIGKILL))
    assert process.wait() == 0
