"""The models of a repository, listed and tried on a real Triton."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clara_wf.models.check import models_in, plan_of
from stages.errors import InputError
from stages.model.description import ModelDescription
from stages.model.tensors import ModelTensors
from stages.volume.geometry import Grid
from tests.onnx_models import DESCRIPTION, add_model

ROOT = Path(__file__).parents[3]
FREE = {"image": (1, -1, -1, -1), "scores": (3, -1, -1, -1), "window_shape": [32, 64, 64]}


@pytest.fixture
def clara_wf(tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "clara_wf", "models", *map(str, arguments), "--models", tmp_path],
            env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=200,
        )

    return run


def test_models_are_listed_with_their_versions_and_size(tmp_path, clara_wf):
    folder = add_model(tmp_path, "spleen", **FREE)
    (folder / "2").mkdir()
    (folder / "2/model.onnx").write_bytes(bytes(1000))
    (found,) = models_in(tmp_path)
    assert (found.name, found.versions) == ("spleen", (1, 2))
    assert found.size_bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert "spleen 1, 2" in " ".join(clara_wf("list").stdout.split())
    assert json.loads(clara_wf("list", "--json").stdout)[0]["name"] == "spleen"


def test_a_repository_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="there is no model repository"):
        models_in(tmp_path / "nowhere")


def test_the_plan_counts_windows_of_the_models_grid():
    given = {**DESCRIPTION, "spacing_mm": [2, 2, 2], "window_shape": [20, 30, 30], "overlap": 0.5}
    model = ModelDescription.model_validate({**given, "mirror_axes": [2]})
    tensors = ModelTensors(
        model="m", input_layout="bczyx", output_layout="bczyx", input_type="FP32", output_type="FP32",
        fixed=(-1, -1, -1),
    )  # fmt: skip
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = 4, 1, 1, 1
    _, shape, windows = plan_of(model, tensors, Grid((20, 60, 120), affine))
    # 80, 60 and 120 mm: 40 x 30 x 60 voxels; 3 x 1 x 3 windows, each also mirrored
    assert shape == (40, 30, 60)
    assert windows == 18


@pytest.mark.triton
@pytest.mark.slow
def test_a_model_is_tried_and_its_plan_printed(tmp_path, clara_wf):
    add_model(tmp_path, "liver", **FREE)
    done = clara_wf("check", "liver")
    if "does not run on this machine" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert "in windows" in done.stdout
    told = json.loads(clara_wf("check", "liver", "--json").stdout)
    assert told["becomes"] == "120 x 512 x 512"
    assert set(told["phantom, ml"]) == {"1", "2"}
    assert re.fullmatch(r"OpenVINO [\d.]+ on the CPU in f32", told["answered by"])
    assert re.fullmatch(
        r"scores up to [\d.]+ differ by [\d.e-]+, 0 % of the labels differ", told["beside ONNX Runtime"]
    )


@pytest.mark.triton
@pytest.mark.slow
def test_a_model_whose_configuration_names_another_file_is_compared_too(tmp_path, clara_wf):
    folder = add_model(tmp_path, "liver", **FREE)
    (folder / "names.txt").write_text("background\nliver\ntumour\n")
    text = (folder / "config.pbtxt").read_text()
    text = text.replace('name: "scores"', 'name: "scores" label_filename: "names.txt"')
    (folder / "config.pbtxt").write_text(f"# Götz\n{text}", encoding="utf-8")
    done = clara_wf("check", "liver", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["beside ONNX Runtime"].startswith("scores up to ")


@pytest.mark.triton
def test_a_model_of_onnxruntime_alone_is_told_with_the_reason(tmp_path, clara_wf):
    folder = add_model(tmp_path, "liver", **FREE)
    with (folder / "config.pbtxt").open("a") as config:
        config.write('parameters { key: "engine" value: { string_value: "onnxruntime" } }\n')
    told = json.loads(clara_wf("check", "liver", "--json").stdout)
    assert told["answered by"].startswith("ONNX Runtime ")
    assert told["beside ONNX Runtime"] == "it is that"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"activation": None, "crop_margin": [1]}, "no parameter crop_margin; write crop_margin_percent"),
        ({"activation": None, "crop_margin": [1]}, "parameter activation is missing"),
        ({"channel_labels": [0, 1]}, "expected 2 channels, as many as channel_labels has"),
    ],
)
def test_a_model_that_does_not_describe_itself_is_refused_before_a_server_starts(
    tmp_path, clara_wf, changes, problem
):
    add_model(tmp_path, "liver", **{**FREE, **changes})
    done = clara_wf("check", "liver")
    assert done.returncode == 6
    assert problem in done.stderr
    assert "Triton" not in done.stderr


def test_a_byte_order_mark_is_told(tmp_path, clara_wf):
    config = add_model(tmp_path, "liver", **FREE) / "config.pbtxt"
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())
    done = clara_wf("check", "liver")
    assert done.returncode == 3
    assert "begins with a byte order mark (EF BB BF), which Triton does not read; save it" in done.stderr


@pytest.mark.triton
@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda folder: os.truncate(folder / "1/model.onnx", 200), "could not load model 'liver'.*failed"),
        (lambda folder: shutil.rmtree(folder / "1"), "at least one version must be available"),
    ],
)
def test_a_model_copied_by_half_is_told_with_the_servers_log(tmp_path, clara_wf, spoil, problem):
    spoil(add_model(tmp_path, "liver", **FREE))
    done = clara_wf("check", "liver")
    assert done.returncode == 6
    assert re.search(problem, done.stderr)
    log = Path(re.search(r"its log: (\S+)\)", done.stderr)[1])
    assert "liver" in log.read_text()
    log.unlink()


def test_an_unknown_model_is_told_with_those_there_are(tmp_path, clara_wf):
    add_model(tmp_path, "liver", **FREE)
    done = clara_wf("check", "spleen")
    assert done.returncode == 3
    assert "has no model 'spleen'; it has liver" in done.stderr
