"""Temporary folders of jobs: kept while their process lives, swept when it was killed; others stay."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import stages
from stages.resident import temporary
from stages.resident.temporary import TemporaryFolder

KILLED = """
import os, signal
from stages.resident.temporary import TemporaryFolder
made = TemporaryFolder()
(made.path / "patient").touch()
print(made.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return where temporary files are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def killed(folder):
    """Return the folder of a process that was killed."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        env={**os.environ, "TMPDIR": str(folder)},
        cwd=Path(stages.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    made = Path(done.stdout.strip())
    assert (made / "patient").exists(), done.stderr
    return made


def test_folder_of_a_killed_process_is_swept_with_what_lies_in_it(folder):
    made = killed(folder)
    temporary.sweep()
    assert not made.exists()


def test_folder_in_use_and_folders_of_others_stay(folder):
    other = Path(tempfile.mkdtemp(prefix="clara-other-"))
    made = TemporaryFolder()
    (made.path / "patient").touch()
    temporary.sweep()
    assert made.path.is_dir()
    assert other.is_dir()
    made.remove()
    assert not made.path.exists()


def test_folder_that_a_forked_process_still_has_stays(folder):
    made = TemporaryFolder()
    (made.path / "patient").touch()
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(ours, 1)
        os._exit(0)
    made.let_go()
    temporary.sweep()
    assert made.path.is_dir()
    os.write(theirs, b"!")
    os.waitpid(child, 0)
    os.close(ours)
    os.close(theirs)
    temporary.sweep()
    assert not made.path.exists()


def test_empty_folder_may_not_be_locked_yet_and_stays_for_a_minute(folder, monkeypatch):
    made = killed(folder)
    (made / "patient").unlink()
    temporary.sweep()
    assert made.is_dir()
    clock = time.time
    monkeypatch.setattr(temporary.time, "time", lambda: clock() + 61)
    temporary.sweep()
    assert not made.exists()


def test_link_is_not_followed(folder):
    kept = folder / "kept"
    kept.mkdir()
    (kept / "patient").touch()
    (folder / "clara-job-link").symlink_to(kept)
    temporary.sweep()
    assert (kept / "patient").exists()
