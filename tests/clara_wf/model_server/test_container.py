"""How the model server's image starts it where nothing can be written."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from clara_wf.model_server.container import hold_in_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory files are Linux's")


@pytest.fixture
def held():
    """Hold a program in memory under a descriptor, and return its path."""
    descriptor = 99
    hold_in_memory(Path("/bin/echo").resolve(), descriptor)
    yield f"/proc/self/fd/{descriptor}"
    os.close(descriptor)


def test_a_program_in_memory_may_be_made_executable_again_and_runs_in_what_is_started(held):
    os.chmod(held, stat.S_IXUSR)  # what the server does with its stub
    done = subprocess.run([held, "it runs"], pass_fds=[99], capture_output=True, text=True, check=True)
    assert done.stdout == "it runs\n"


def test_programs_that_are_started_later_inherit_it(held):
    assert os.get_inheritable(99)
