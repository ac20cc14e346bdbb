"""The commands of the pages "From nnU-Net", "From TotalSegmentator" and "From a MONAI bundle", typed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clara_wf.model_import.totalsegmentator.tasks import PARTS

ROOT = Path(__file__).parents[3]
FRAMEWORKS = ROOT / "tests/frameworks"
pytestmark = pytest.mark.triton


def commands(page):
    text = (ROOT / f"docs/how-to/{page}.md").read_text(encoding="utf-8")
    return [
        line.partition("   #")[0].strip() for line in re.findall(r"^    (clara-wf .*)$", text, re.MULTILINE)
    ]


@pytest.fixture
def typed(tmp_path):
    """Return what types a command in a home folder, and a repository of models in the folder above it."""
    home, models = tmp_path / "home", tmp_path / "models"
    home.mkdir()
    models.mkdir()

    def run(command):
        cache = os.environ.get("CLARA_CACHE") or str(Path.home() / ".cache/clara-stages")
        done = subprocess.run(
            [
                "bash",
                "-c",
                command.replace("clara-wf", f"{sys.executable} -m clara_wf") + f" --models {models}",
            ],
            env={**os.environ, "HOME": str(home), "CLARA_CACHE": cache, "PYTHONPATH": str(ROOT)},
            cwd=home,
            capture_output=True,
            text=True,
        )
        if "was not tried" in done.stderr:
            pytest.skip(done.stderr)
        return done

    return run


def test_from_nnunet(typed, tmp_path):
    (command,) = commands("import-from-nnunet")
    source = re.search(r"~/(\S+)", command)[1]
    shutil.copytree(next(FRAMEWORKS.glob("nnunet/flat/*__*")), tmp_path / "home" / source)
    done = typed(command)
    assert done.returncode == 0, done.stderr
    assert "licence of the weights: Apache-2.0" in done.stderr
    assert "of these labels only the name is known" in done.stderr
    assert "added liver, version 1" in done.stderr
    assert re.search(r"resampling +cubic, grid stretched", done.stdout)
    assert "Apache-2.0" in (tmp_path / "models/liver/LICENCE.md").read_text()


def test_from_totalsegmentator(typed, tmp_path):
    fast, chosen = commands("import-from-totalsegmentator")
    results = tmp_path / "home/.totalsegmentator/nnunet/results"
    for number in PARTS:
        folder = next(FRAMEWORKS.glob(f"totalsegmentator/Dataset{number}_*"))
        shutil.copytree(folder, results / folder.name)
    done = typed(chosen)
    assert done.returncode == 0, done.stderr
    assert "TotalSegmentator's total_organs, 4 classes" in done.stderr
    assert re.search(r"channels +\[0, 1, 2, 3, 5\]", done.stdout)
    assert (tmp_path / "models/total_organs/LICENCE.md").read_text().count("Apache-2.0") == 1
    assert "Dataset297_TotalSegmentator_total_3mm_1559subj" in fast


def test_from_monai_without_its_extra_is_a_line_that_names_it(typed, tmp_path):
    bundle, script, backend = commands("import-from-monai")
    shutil.copytree(FRAMEWORKS / "monai/spleen", tmp_path / "home/spleen_ct_segmentation")
    done = typed(bundle)
    try:
        import torch  # noqa: F401
    except ImportError:
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].endswith(
            'is not installed; install it with: pip install "clara-stages[import-torch]"'
        )
        assert list((tmp_path / "models").iterdir()) == []
    else:
        assert done.returncode == 0, done.stderr
    assert script.split()[:3] == backend.split()[:3] == ["clara-wf", "models", "add"]
