"""The example of a stage does what its page says, without Docker, on a real Triton."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/user_ai"
CHART = ROOT / "clara-reference-workflows/charts/clara-workflow/values.yaml"


def python(*arguments, path=""):
    """Run Python in the repository's root and return what it printed."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), path])}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_stage_is_small():
    assert len((EXAMPLE / "stage.py").read_text().splitlines()) < 60


@pytest.mark.slow
def test_its_own_test_passes():
    assert "4 passed" in python("-m", "pytest", "-q", "examples/user_ai", path="examples/user_ai")


@pytest.mark.triton
@pytest.mark.workflow
@pytest.mark.slow
def test_it_runs_as_a_process_between_the_reader_and_the_writer(tmp_path):
    from clara_wf.run.demo import write_phantom
    from phantoms import Anatomy, make_abdomen
    from stages import find_volumes, read_volume

    models = tmp_path / "models"
    models.mkdir()
    python("-m", "clara_wf", "models", "add", EXAMPLE / "models/body_fat", "--models", models)
    phantom = make_abdomen(900_001, shape=(40, 160, 160), spacing_mm=(5.0, 2.5, 2.5))
    write_phantom(phantom, tmp_path / "series", truth_folder=tmp_path / "truth")
    values = tmp_path / "values.yaml"
    values.write_text(CHART.read_text())
    given = ["--values", values]
    python("-m", "clara_wf", "cs", "user-ai", *given)
    python("-m", "clara_wf", "new", "user-workflow", "--stages", "dicom-reader,user-ai,dicom-writer", *given)
    yaml = YAML()
    chart = yaml.load(values)
    chart["stages"]["user-ai"]["command"] = ["python", str(EXAMPLE / "stage.py")]
    (workflow,) = (each for each in chart["workflows"].values() if each["name"] == "user-workflow")
    workflow["args"][1] = ["-p", "foo"]
    yaml.dump(chart, values)
    options = [
        "--input",
        tmp_path / "series",
        "--payloads",
        tmp_path / "payloads",
        "--models",
        models,
        "--json",
    ]
    report = json.loads(
        python("-m", "clara_wf", "test", "user-workflow", "--engine", "process", *options, *given)
    )
    payload = Path(report["payload"])
    output = payload / "user-ai/output"
    (record,) = output.glob("*.user-ai.json")
    assert json.loads(record.read_text())["remark"] == "foo"
    (path,) = find_volumes(output)
    assert [(label.value, label.name) for label in read_volume(path).origin.labels] == [(1, "Body fat")]
    assert [(found["name"], found["dice"]) for found in report["findings"]] == [("Body fat", None)]
    found, fat = np.asarray(read_volume(path).array) == 1, phantom.anatomy == Anatomy.FAT
    assert 2 * (found & fat).sum() / (found.sum() + fat.sum()) > 0.85
    (result,) = (payload / "dicom-writer/output").glob("*.dcm")
    assert pydicom.dcmread(result).SeriesDescription.endswith(": Body fat")
