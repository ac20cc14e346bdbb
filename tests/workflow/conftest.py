"""The whole road as a user runs it, in a payload folder of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
LAUNCHER = ROOT / "clara-reference-workflows/clara-wf"
LIVER_SEG = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"

Run = Callable[..., SimpleNamespace]


def clara_wf(*arguments: object, launcher: bool = False) -> SimpleNamespace:
    """Run clara-wf to its end; `report` is what ``--json`` printed."""
    command = [str(LAUNCHER)] if launcher else [sys.executable, "-m", "clara_wf"]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    report = json.loads(done.stdout) if done.stdout.startswith("{") else None
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr, report=report)


@pytest.fixture(scope="session")
def main_job(tmp_path_factory) -> SimpleNamespace:
    """The README's main job, by its launcher."""
    payloads = tmp_path_factory.mktemp("main") / "payloads"
    done = clara_wf("test", LIVER_SEG, "--json", "--payloads", payloads, launcher=True)
    assert done.code == 0, done.err
    return SimpleNamespace(report=done.report, err=done.err, payload=Path(done.report["payload"]))


@pytest.fixture(scope="session")
def small_series(tmp_path_factory) -> Path:
    """A coarse phantom as a DICOM series: 40 slices of 160 x 160."""
    from clara_wf.run.demo import write_phantom
    from phantoms import make_abdomen

    folder = tmp_path_factory.mktemp("small")
    phantom = make_abdomen(900_001, shape=(40, 160, 160), spacing_mm=(5.0, 2.5, 2.5))
    write_phantom(phantom, folder / "series", truth_folder=folder / "truth")
    return folder / "series"


@pytest.fixture
def real_ct(real_data) -> SimpleNamespace:
    """The TotalSegmentator example CT and how well a mask agrees with its liver (label 5)."""
    from stages import read_mask
    from stages.volume.geometry import orientation_of, reorient

    labels = read_mask(real_data / "totalseg/example_seg_dicom.nii.gz")

    def liver_dice(mask) -> float:
        turned, turned_affine = reorient(labels.array, labels.affine, orientation_of(mask.affine))
        assert np.allclose(turned_affine, mask.affine, atol=0.01)
        found, true = mask.array > 0, turned == 5
        assert true.sum() == 366_708
        return float(2 * (found & true).sum() / (found.sum() + true.sum()))

    return SimpleNamespace(folder=real_data / "totalseg/example_ct_dicom", liver_dice=liver_dice)
