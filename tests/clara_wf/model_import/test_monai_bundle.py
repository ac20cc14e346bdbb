"""MONAI bundles: their configurations are read as data, and what has no counterpart is refused by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from clara_wf.model_import.config_text import config_text
from clara_wf.model_import.imported import ImportChoices, UnsupportedModelError
from clara_wf.model_import.kinds import foreign_model
from clara_wf.model_import.monai_bundle.config import BundleConfig, Component, Unread
from stages.errors import InputError, SettingsError
from tests.frameworks.parity import our_mask, volume_of
from tests.frameworks.phantoms import ASKED, EVEN_ASKED

BUNDLES = Path(__file__).parents[2] / "frameworks/monai"


@pytest.fixture
def spleen(tmp_path):
    """Return a copy of a bundle, to be changed."""
    return Path(shutil.copytree(BUNDLES / "spleen", tmp_path / "spleen"))


def edit(folder, change, name="inference"):
    path = folder / f"configs/{name}.json"
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


def read(folder, **choices):
    return {each.name: each.value for each in foreign_model(folder, ImportChoices(**choices)).parameters}


@pytest.mark.parametrize("name", ["spleen", "whole"])
def test_masks_are_those_of_monai(tmp_path, name):
    """The network as `models add` has exported it, the description as it is read now."""
    model = foreign_model(BUNDLES / name, ImportChoices())
    (tmp_path / name / "1").mkdir(parents=True)
    (tmp_path / name / "config.pbtxt").write_text(config_text(name, model))
    shutil.copy(BUNDLES / name / "exported.onnx", tmp_path / name / "1/model.onnx")
    with np.load(BUNDLES / name / "reference.npz") as stored:
        reference = stored["mask"]
    mask = our_mask(tmp_path / name, volume_of(EVEN_ASKED.make(ASKED)))
    assert (reference > 0).sum() > 10_000
    assert (mask != reference).mean() <= 1e-5


def test_its_parameters():
    told = read(BUNDLES / "spleen")
    assert told["orientation"] == "RAS"
    assert told["spacing_mm"] == [4.0, 4.0, 5.0]
    assert (told["intensity_clip_hu"], told["intensity_scale"]) == ([-57.0, 164.0], [0.0, 1.0])
    assert (told["window_placement"], told["blending"], told["overlap"]) == ("stepped", "constant", 0.5)
    assert (told["activation"], told["activation_after"]) == ("softmax", "blending")
    assert told["channel_labels"] == [0, 1]
    assert told["label_meanings"]["1"]["type"]["value"] == "10200004"


def test_references_and_conditions_are_followed():
    told = read(BUNDLES / "whole")
    assert told["spacing_mm"] == [5.0, 4.0, 3.9]  # as displayable_configs#highres chooses
    assert (told["overlap"], told["padding_mode"], told["score_interpolation"]) == (
        0.25,
        "replicate",
        "nearest",
    )
    assert told["intensity_zscore"] == "nonzero"


def test_all_that_has_no_counterpart_is_named_at_once(spleen):
    def change(told):
        told["preprocessing"]["transforms"].append({"_target_": "RandAffined", "keys": "image"})
        told["preprocessing"]["transforms"].append({"_target_": "monai.transforms.GaussianSmoothd"})
        told["inferer"]["_target_"] = "SimpleInferer"
        told["postprocessing"]["transforms"].append({"_target_": "FillHolesd", "keys": "pred"})

    edit(spleen, change)
    with pytest.raises(
        UnsupportedModelError, match=r"RandAffine; GaussianSmooth; .*SimpleInferer.*; FillHoles"
    ):
        read(spleen)


@pytest.mark.parametrize(
    ("step", "arguments", "expected"),
    [
        (4, {"clip": False}, {"intensity_zscore": {"mean": -57.0, "std": 221.0}}),
        (3, {"pixdim": [2.0, 2.0, -1]}, {"spacing_mm": [2.0, 2.0, "native"]}),
        (3, {"mode": "nearest"}, {"interpolation": "nearest"}),
        (
            4,
            {"_target_": "ScaleIntensityd", "minv": 0.0, "maxv": 1.0},
            {"intensity_clip_percentile": [0, 100], "intensity_scale": [0.0, 1.0]},
        ),
        (
            4,
            {"_target_": "NormalizeIntensityd", "subtrahend": 50, "divisor": 80},
            {"intensity_zscore": {"mean": 50, "std": 80}},
        ),
    ],
)
def test_steps_in_our_words(spleen, step, arguments, expected):
    edit(spleen, lambda told: told["preprocessing"]["transforms"][step].update(arguments))
    told = read(spleen)
    assert {key: told[key] for key in expected} == expected


def test_what_comes_before_resampling_is_said(spleen):
    def swap(told):
        steps = told["preprocessing"]["transforms"]
        steps[3], steps[4] = steps[4], steps[3]

    edit(spleen, swap)
    assert read(spleen)["intensity_before_resampling"] is True


def test_an_inverse_that_interpolates_labels_is_refused(spleen):
    def swap(told):
        steps = told["postprocessing"]["transforms"]
        steps[1], steps[2] = steps[2], steps[1]

    edit(spleen, swap)
    with pytest.raises(UnsupportedModelError, match="Invert interpolates labels"):
        read(spleen)


def test_a_bundle_without_orientation_asks_for_it(spleen):
    edit(spleen, lambda told: told["preprocessing"]["transforms"].pop(2))
    with pytest.raises(SettingsError, match="say with --orientation"):
        read(spleen)
    assert read(spleen, orientation="LPS")["orientation"] == "LPS"


def test_a_bundle_without_its_inference_is_refused(spleen):
    (spleen / "configs/inference.json").unlink()
    with pytest.raises(InputError, match=r"has no configs/inference\.json or \.yaml"):
        read(spleen)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda told: told["network_data_format"]["inputs"]["image"].update(num_channels=4),
            "with 4 channels",
        ),
        (
            lambda told: told["network_data_format"]["outputs"]["pred"].pop("channel_def"),
            "has no channel_def",
        ),
        (lambda told: told.pop("network_data_format"), "does not say what the model takes"),
    ],
)
def test_metadata_that_says_too_little_is_refused(spleen, change, said):
    edit(spleen, change, "metadata")
    with pytest.raises(InputError, match=said):
        read(spleen)


# The configuration as data


def config(tmp_path, content):
    (tmp_path / "c.json").write_text(json.dumps(content))
    return BundleConfig(tmp_path / "c.json")


def test_expressions_of_plain_values_are_computed_and_others_left(tmp_path):
    found = config(
        tmp_path,
        {
            "root": ".",
            "path": "$@root + '/models'",
            "half": "$@sizes#1 / 2",
            "sizes": [3, "$-4"],
            "run": "$__import__('os').system('true')",
            "uses": "$@run",
            "net": {"_target_": "a.b.UNet", "size": "@sizes::0"},
            "off": {"_target_": "X", "_disabled_": True},
        },
    )
    assert (found.get("path"), found.get("half"), found.get("sizes")) == ("./models", -2.0, [3, -4])
    assert isinstance(found.get("run"), Unread)
    assert isinstance(found.get("uses"), Unread)
    assert found.get("net") == Component(target="UNet", arguments={"size": 3})
    assert found.get("off") is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": "@b", "b": "@a"}, "lead in a circle"),
        ({"a": "@c"}, "refers to 'c', which it does not have"),
    ],
)
def test_references_that_lead_nowhere_are_refused(tmp_path, content, said):
    with pytest.raises(InputError, match=said):
        config(tmp_path, content).get("a")


@pytest.mark.parametrize(
    ("name", "channels", "window"), [("spleen", 2, (48, 48, 32)), ("whole", 4, (48, 48, 40))]
)
def test_the_exported_networks_score_every_voxel_of_windows(name, channels, window):
    session = onnxruntime.InferenceSession(BUNDLES / name / "exported.onnx")
    (scores,) = session.run(None, {session.get_inputs()[0].name: np.zeros((3, 1, *window), np.float32)})
    assert scores.shape == (3, channels, *window)
