"""A new stage runs, passes its own test, and takes part in a workflow at once."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clara_wf.chart.scaffold import scaffold
from stages import Origin, Volume, read_volume, write_volume
from stages.errors import SettingsError

ROOT = Path(__file__).parents[3]


def run(*arguments, cwd):
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environ, capture_output=True, text=True)


def test_the_new_stage_passes_its_own_test(tmp_path):
    scaffold("my-ai", tmp_path / "my-ai")
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path / "my-ai")
    assert "1 passed" in done.stdout, done.stdout


def test_the_new_stage_runs_by_hand_with_its_option(tmp_path):
    scaffold("my-ai", tmp_path)
    hu = np.zeros((2, 3, 4), np.int16)
    hu[1, 2, 3] = 300
    write_volume(
        Volume(array=hu, affine=np.eye(4), origin=Origin(series_instance_uid="1.2.3")), tmp_path / "in"
    )
    done = run("stage.py", "--input", "in", "--output", "out", "--above", "299", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    mask = read_volume(next((tmp_path / "out").glob("*.mhd")))
    assert mask.array.dtype == np.uint8
    assert np.argwhere(mask.array).tolist() == [[1, 2, 3]]


def test_the_image_is_made_from_the_toolkits_of_this_version(tmp_path):
    from stages import __version__

    scaffold("my-ai", tmp_path)
    assert f"clara/stages:{__version__}" in (tmp_path / "Dockerfile").read_text()


def test_what_lies_in_the_folder_is_not_overwritten(tmp_path):
    (tmp_path / "stage.py").write_text("mine")
    with pytest.raises(SettingsError, match=r"has stage.py already; choose an empty folder"):
        scaffold("my-ai", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["stage.py"]
