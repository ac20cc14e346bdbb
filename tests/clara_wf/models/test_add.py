"""Models are added whole or not at all, and what they replace is kept."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clara_wf.models.add import add_model
from clara_wf.models.check import models_in
from clara_wf.models.config_pbtxt import problem_of, read_config
from clara_wf.workspace import Places
from stages.errors import InferenceError, InputError, SettingsError
from tests.clara_wf.models.test_onnx_tensors import with_weights
from tests.onnx_models import add_model as make_model

ROOT = Path(__file__).parents[3]
KIND = {
    "image": (1, -1, -1, -1),
    "scores": (3, -1, -1, -1),
    "spacing_mm": [5, 5, 5],
    "window_shape": [32, 64, 64],
}


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def add(repository):
    """Return what adds a model to the repository; skips where no Triton runs."""
    said = []

    def run(source, name=None):
        cache = Places.here(os.environ).cache
        added = add_model(source, repository, name=name, cache=cache, print_line=said.append)
        if untried := [line for line in said if "was not tried" in line]:
            pytest.skip(untried[0])
        return added

    return run


def content_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def left_beside(repository):
    return sorted(path.name for path in repository.parent.iterdir() if path.name.startswith("."))


# An ONNX file


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ({}, 'max_batch_size: 4\ninput [ { name: "image" data_type: TYPE_FP32 dims: [ 1, -1, -1, -1 ] } ]'),
        ({"data_type": "FP16"}, 'output [ { name: "scores" data_type: TYPE_FP16 dims: [ 3, -1, -1, -1 ] } ]'),
        ({"image": (1, 9, 8, 7), "scores": (3, 9, 8, 7)}, "dims: [ 1, 9, 8, 7 ]"),
    ],
)
def test_an_onnx_file_gets_a_config_that_lacks_only_what_its_author_knows(
    tmp_path, add, repository, kind, config
):
    onnx = make_model(tmp_path / "made", "spleen", **{**KIND, **kind}) / "1/model.onnx"
    added = add(onnx.rename(tmp_path / "spleen.onnx"))
    assert (added.version, added.replaced, added.checked) == (1, None, None)
    for name in ("orientation", "padding_value_hu", "activation", "channel_labels"):
        assert f"parameter {name} is missing" in added.problem
    text = (repository / "spleen/config.pbtxt").read_text()
    assert config in text
    completed = re.sub(r"^# (?=parameters:)", "", text, flags=re.MULTILINE)
    (repository / "spleen/config.pbtxt").write_text(completed)
    assert problem_of(repository / "spleen") is None


def test_weights_beside_an_onnx_file_come_along(tmp_path, add, repository):
    with_weights(tmp_path / "m.onnx", external=True)
    add(tmp_path / "m.onnx")
    assert (repository / "m/1/weights.bin").read_bytes() == (tmp_path / "weights.bin").read_bytes()


def test_weights_that_are_not_beside_it_are_missed(tmp_path, add, repository):
    with_weights(tmp_path / "m.onnx", external=True)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InputError, match=r"has weights in weights\.bin, which is not beside it"):
        add(tmp_path / "m.onnx")
    assert models_in(repository) == []


# A folder


@pytest.mark.triton
def test_a_folder_is_tried_and_its_golden_case_recorded(tmp_path, add, repository):
    source = make_model(tmp_path / "made", "liver", **KIND)
    added = add(source, "my_liver")
    assert set(added.checked.found_ml) == {1, 2}
    assert (repository / "my_liver/golden.npz").stat().st_size > 1000
    assert read_config(repository / "my_liver").name == "my_liver"
    assert 'name: "my_liver"' in (repository / "my_liver/config.pbtxt").read_text()
    assert left_beside(repository) == []


@pytest.mark.triton
@pytest.mark.slow
def test_new_weights_become_the_next_version_and_the_old_ones_are_kept(tmp_path, add, repository):
    add(make_model(tmp_path / "first", "liver", **KIND))
    before = content_of(repository / "liver")
    other = make_model(tmp_path / "second", "other", **{**KIND, "centres": (0.1, 0.5, 0.9)}) / "1/model.onnx"
    added = add(other, "liver")
    assert (added.version, added.replaced) == (2, 1)
    after = content_of(repository / "liver")
    assert {
        key.removeprefix(".previous/1/"): value for key, value in after.items() if "previous" in key
    } == before
    assert after["2/model.onnx"] == other.read_bytes()
    assert after["config.pbtxt"] == before["config.pbtxt"]
    assert after["golden.npz"] != before["golden.npz"]
    third = add(make_model(tmp_path / "third", "liver", **KIND))
    assert (third.version, third.replaced) == (3, 2)
    (found,) = models_in(repository)
    assert (found.versions, found.kept) == ((3,), (1, 2))
    back = add(repository / "liver/.previous/1", "liver")
    assert back.version == 4
    assert content_of(repository / "liver")["4/model.onnx"] == before["1/model.onnx"]


@pytest.mark.triton
@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        (
            {"activation": None},
            InputError,
            "parameter activation is missing.* since an incomplete model replaces none",
        ),
        ({"channel_labels": [0, 1]}, InputError, "expected 2 channels"),
        (
            {"data_type": "FP16"},
            InferenceError,
            "is TYPE_FP32 in config.pbtxt and of type tensor.float16. in the model",
        ),
    ],
)
def test_a_model_that_is_not_well_leaves_the_one_that_is_there(
    tmp_path, add, repository, change, error, problem
):
    add(make_model(tmp_path / "first", "liver", **KIND))
    before = content_of(repository / "liver")
    source = make_model(tmp_path / "second", "liver", **{**KIND, **change})
    config = source / "config.pbtxt"
    config.write_text(config.read_text().replace("TYPE_FP16", "TYPE_FP32"))
    with pytest.raises(error, match=problem):
        add(source)
    assert content_of(repository / "liver") == before
    assert left_beside(repository) == []


def test_a_folder_without_a_version_is_refused(tmp_path, add):
    source = make_model(tmp_path / "made", "liver", **KIND)
    shutil.rmtree(source / "1")
    with pytest.raises(InputError, match=r"has no version; expected such as .*1/model\.onnx"):
        add(source)


def test_a_config_that_triton_would_not_read_is_refused(tmp_path, add):
    source = make_model(tmp_path / "made", "liver", **KIND)
    (source / "config.pbtxt").write_text("max_batch_size: many")
    with pytest.raises(InputError, match=r"is no configuration of Triton: 1:17"):
        add(source)


def test_onnx_with_other_tensors_does_not_take_anothers_description(tmp_path, add, repository):
    make_model(repository, "liver", **KIND)
    with_weights(tmp_path / "m.onnx", external=False)
    with pytest.raises(InputError, match=r"the new model \['x'\] and \['y'\]; give it another --name"):
        add(tmp_path / "m.onnx", "liver")


@pytest.mark.parametrize(
    ("source", "name", "problem"),
    [
        ("nowhere", None, "there is no .*nowhere"),
        ("models", None, "has no config.pbtxt and 0 files"),
        ("nowhere", "../x", "a model is named with letters"),
        ("nowhere", ".x", "a model is named with letters"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, add, source, name, problem):
    with pytest.raises(InputError, match=problem):
        add(tmp_path / source, name)


# The command


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("model.zip", b"PK\x03\x04" + bytes(60), "this looks like an archive: unpack it"),
        ("model.tar.gz", b"\x1f\x8b" + bytes(60), "this looks like an archive: unpack it"),
        ("weights.pth", b"\x80\x02x", "this looks like a model of PyTorch: export it as ONNX"),
        ("script.pt", b"PK\x03\x04" + bytes(60), "this looks like a model of PyTorch: export it as ONNX"),
        ("model.onnx", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("empty.onnx", b"", "is no ONNX model: it is empty$"),
    ],
)
def test_what_people_also_call_a_model_is_refused_with_what_to_do(tmp_path, add, name, content, told):
    file = tmp_path / "given" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(InputError, match=told):
        add(tmp_path / "given" / name.partition("/")[0], name="new")


@pytest.mark.triton
@pytest.mark.slow
def test_the_command_adds_checks_and_notices_a_changed_answer(tmp_path, repository):
    def clara_wf(*arguments):
        command = [sys.executable, "-m", "clara_wf", "models", *map(str, arguments), "--models", repository]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=200)
        if "does not run on this machine" in done.stderr:
            pytest.skip(done.stderr)
        return done

    done = clara_wf("add", make_model(tmp_path / "made", "liver", **KIND), "--json")
    assert done.returncode == 0, done.stderr
    assert "added liver, version 1, to" in done.stderr
    told = json.loads(done.stdout)
    assert told["replaced"] is None
    assert told["checked"]["golden case"] == "recorded"
    assert "golden case          the same mask" in clara_wf("check", "liver").stdout
    config = repository / "liver/config.pbtxt"
    config.write_text(config.read_text().replace("[0, 1, 2]", "[0, 2, 1]"))
    changed = clara_wf("check", "liver")
    assert changed.returncode == InferenceError.exit_code != SettingsError.exit_code
    assert (
        "does not answer as it did when its golden case was recorded: Dice of label 1: 0.000"
        in changed.stderr
    )
    assert clara_wf("check", "liver", "--record").returncode == 0
    assert "the same mask" in clara_wf("check", "liver").stdout
