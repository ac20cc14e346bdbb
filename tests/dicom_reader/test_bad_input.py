"""Every bad or odd series ends with its exit code and a message, soon, small, and without half an output."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import phantoms
from tests.dicom_reader.bad_series import CASES

ROOT = Path(__file__).parents[2]
SECONDS, MIB = 5, 300


@pytest.fixture(scope="module")
def reader():
    """Return what runs the reader in a process of its own: arguments -> code, seconds, mib, log."""
    command = [sys.executable, "-m", "tests.dicom_reader.forked_reader"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def run(*arguments, user=None, largest_file=None):
            how = {"user": user, "largest_file": largest_file, "seconds": SECONDS}
            request = {"arguments": [str(argument) for argument in arguments], **how}
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield run
        process.stdin.close()


def open_to_all(folder):
    for parent in (folder, *folder.parents):
        if parent == Path("/tmp"):
            break
        parent.chmod(0o777)


@pytest.mark.parametrize("name", CASES)
def test_it_ends_as_documented(tmp_path, reader, name):
    case = CASES[name]
    if case.user is not None and os.getuid() != 0:
        pytest.skip("only root can become another user")
    folder, output = phantoms.save(phantoms.ct_slices(), tmp_path / "in"), tmp_path / "out"
    if case.user is not None:
        open_to_all(tmp_path)
    case.make(folder)
    done = reader("--input", folder, "--output", output, user=case.user, largest_file=case.largest_file)
    assert (done["code"], done["seconds"] < SECONDS, done["mib"] < MIB) == (case.code, True, True), done
    *_, last = done["log"].strip().splitlines()
    said = done["log"] if case.code == 0 else last
    assert re.search(case.says, said), said
    assert "Traceback" not in done["log"]
    assert not re.search(r"Doe|P-\d|hospital|clinic", done["log"])
    left = sorted(p.suffix for p in output.iterdir()) if output.exists() else []
    assert left == ([".json", ".mhd", ".raw"] if case.code == 0 else [])


def test_there_are_many_of_them():
    assert len(CASES) >= 40


def test_the_limits_are_held(tmp_path, reader):
    """What the reader would wait for, or take, without end is stopped: a pipe that nobody writes to."""
    os.mkfifo(tmp_path / "rules.yaml")
    done = reader("--input", tmp_path, "--output", tmp_path / "out", "--select", tmp_path / "rules.yaml")
    assert (done["code"], done["seconds"] >= SECONDS) == (-9, True)
