"""The script that is run where there is a GPU: that it works is known before."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages.arrays import device_available

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks/gpu_acceptance.py"


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True)


@pytest.mark.slow
def test_rehearsal_without_a_device_runs_every_check():
    done = run("--rehearse")
    assert done.returncode == 0, done.stdout + done.stderr
    steps = (
        "preprocess",
        "windows, by a formula",
        "scores to labels",
        "all four",
        "segment",
        "Triton by system",
    )
    for step in steps:
        assert f"\n{step}" in done.stdout
    assert done.stdout.startswith("REHEARSAL: no device")
    assert "WRONG" not in done.stdout


def test_without_a_device_nothing_is_claimed():
    if device_available():
        pytest.skip("there is a CUDA device")
    done = run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "nothing was checked" in done.stderr
