"""nnU-Net's trained models: our masks are nnU-Net's, and foreign files that are wrong are refused."""

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from clara_wf.model_import.imported import ImportChoices, UnsupportedModelError
from clara_wf.model_import.kinds import foreign_model, write_model
from stages.errors import InputError, SettingsError
from tests.frameworks.parity import LEAST_DICE, dice_by_label, our_mask, volume_of
from tests.frameworks.phantoms import ASKED, EVEN_ASKED, THICK_ASKED

MODELS = Path(__file__).parents[2] / "frameworks/nnunet"
LIES = ImportChoices(orientation="SPL")


def trained_model(name):
    return next(MODELS.glob(f"{name}/*__*__*"))


@pytest.fixture
def even(tmp_path):
    """Return a copy of a trained model, to be damaged."""
    return Path(shutil.copytree(trained_model("even"), tmp_path / "Dataset801_Phantom" / "a__b__c"))


def edit(path, change):
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("even", EVEN_ASKED),  # isotropic
        ("thick", THICK_ASKED),  # slices so thick that they are resampled apart
        ("flat", THICK_ASKED),  # a network of slices
        ("regions", EVEN_ASKED),  # which overlap
        ("folds", EVEN_ASKED),  # the mean of five networks
        ("zscore", EVEN_ASKED),  # statistics of each volume; a residual encoder
    ],
)
def test_masks_are_those_of_nnunet(tmp_path, name, asked):
    model = foreign_model(trained_model(name), LIES)
    write_model(model, tmp_path / name)
    with np.load(MODELS / name / "reference.npz") as stored:
        reference = stored["mask"]
    dices = dice_by_label(our_mask(tmp_path / name, volume_of(asked.make(ASKED))), reference)
    assert len(dices) >= 1
    assert min(dices.values()) >= LEAST_DICE, dices


def test_five_folds_are_said(tmp_path):
    model = foreign_model(trained_model("folds"), LIES)
    assert model.kind == "nnU-Net 3d_lowres, the mean of 5 folds, trained by nnUNetTrainer"
    chosen = foreign_model(trained_model("folds"), ImportChoices(orientation="SPL", folds=("3",)))
    assert chosen.kind == "nnU-Net 3d_lowres, fold 3, trained by nnUNetTrainer"


def test_a_plan_before_version_2_3_gives_the_same_network(tmp_path, even):
    def old(plans):
        told = plans["configurations"]["3d_fullres"]
        values = told.pop("architecture")["arch_kwargs"]
        told |= {
            "UNet_class_name": "PlainConvUNet",
            "UNet_base_num_features": 6,
            "unet_max_num_features": 32,
            "n_conv_per_stage_encoder": values["n_conv_per_stage"],
            "n_conv_per_stage_decoder": values["n_conv_per_stage_decoder"],
            "num_pool_per_axis": [3, 3, 3],
            "pool_op_kernel_sizes": values["strides"],
            "conv_kernel_sizes": values["kernel_sizes"],
        }

    write_model(foreign_model(even, LIES), tmp_path / "new")
    edit(even / "plans.json", old)
    write_model(foreign_model(even, LIES), tmp_path / "old")
    assert (tmp_path / "new/1/model.onnx").read_bytes() == (tmp_path / "old/1/model.onnx").read_bytes()


def test_what_it_says_of_itself(even):
    model = foreign_model(even.parent, LIES)
    told = {each.name: each.value for each in model.parameters}
    assert (model.name, model.licence, model.unnamed) == (
        "Phantom",
        "Apache-2.0",
        ((1, "organs"), (3, "bone")),
    )
    assert told["spacing_mm"] == [4.0, 4.0, 4.0]
    assert told["mirror_axes"] == [0, 1, 2]
    assert told["channel_labels"] == [0, 1, 2, 3]
    assert told["label_meanings"]["2"]["type"] == {"value": "10200004", "meaning": "Liver"}


def test_axes_are_turned_as_the_plan_transposes_them(even):
    edit(even / "plans.json", lambda plans: plans.update(transpose_forward=[2, 0, 1]))
    told = {each.name: each.value for each in foreign_model(even, LIES).parameters}
    assert told["orientation"] == "LSP"


def test_recommended_postprocessing_is_taken_over(even):
    folder = even / "crossval_results_folds_0_1_2_3_4"
    folder.mkdir()
    told = {
        "postprocessing_fns": ["remove_all_but_largest_component_from_segmentation"],
        "postprocessing_kwargs": [{"labels_or_regions": [1, 2, 3]}],
    }
    (folder / "postprocessing.json").write_text(json.dumps(told))
    parameters = {each.name: each.value for each in foreign_model(even, LIES).parameters}
    assert parameters["largest_component"] == [1, 2, 3]
    told["postprocessing_kwargs"] = [{"labels_or_regions": 2}]
    (folder / "postprocessing.json").write_text(json.dumps(told))
    with pytest.raises(UnsupportedModelError, match="recommends 1 steps"):
        foreign_model(even, LIES)


# Mistakes in foreign files: one line each


def without(key):
    return lambda told: told.pop(key)


@pytest.mark.parametrize(
    ("file", "change", "error", "said"),
    [
        (
            "plans.json",
            without("transpose_forward"),
            InputError,
            "of another version of nnU-Net, or damaged: it lacks",
        ),
        (
            "plans.json",
            lambda plans: plans["configurations"]["3d_fullres"].update(previous_stage="3d_lowres"),
            UnsupportedModelError,
            "3d_fullres is a cascade: it also needs the mask of 3d_lowres",
        ),
        (
            "plans.json",
            lambda plans: plans["configurations"]["3d_fullres"].update(normalization_schemes=["Own"]),
            UnsupportedModelError,
            "normalised by Own",
        ),
        (
            "plans.json",
            lambda plans: plans["configurations"].update({"3d_fullres": {"inherits_from": "3d_fullres"}}),
            InputError,
            "inherits from itself",
        ),
        (
            "plans.json",
            lambda plans: plans["configurations"]["3d_fullres"]["architecture"].update(
                network_class_name="a.Primus"
            ),
            UnsupportedModelError,
            "its network is Primus",
        ),
        (
            "dataset.json",
            lambda told: told.update(labels={"0": "background"}),
            InputError,
            "as nnU-Net v2 has them",
        ),
        (
            "dataset.json",
            lambda told: told.update(channel_names={"0": "CT", "1": "PET"}),
            UnsupportedModelError,
            "has 2 channels",
        ),
        (
            "dataset.json",
            lambda told: told["labels"].update(bone=7),
            InputError,
            "expected 1 to 3, each once",
        ),
    ],
)
def test_wrong_plans_are_refused_in_a_line(even, file, change, error, said):
    edit(even / file, change)
    with pytest.raises(error, match=said) as found:
        foreign_model(even, LIES)
    assert "\n" not in str(found.value)


def test_the_orientation_is_asked_for():
    with pytest.raises(SettingsError, match="say it with --orientation"):
        foreign_model(trained_model("even"), ImportChoices())


def test_a_missing_fold_is_named():
    with pytest.raises(InputError, match="has no fold 7, it has 0, 1, 2, 3, 4"):
        foreign_model(trained_model("folds"), ImportChoices(orientation="SPL", folds=("7",)))


def test_a_fold_without_a_checkpoint_is_named(even):
    (even / "fold_1").mkdir()
    with pytest.raises(InputError, match=r"fold_1 has no checkpoint_final\.pth or checkpoint_best\.pth"):
        foreign_model(even, LIES)


def test_a_checkpoint_that_was_cut_off_is_refused(even):
    path = even / "fold_all/checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(InputError, match="was cut off"):
        foreign_model(even, LIES)


def test_a_checkpoint_with_a_tensor_that_is_not_whole_is_refused(tmp_path, even):
    path = even / "fold_all/checkpoint_final.pth"
    rewrite(path, lambda name, content: content[:-4] if name.endswith("data/0") else content)
    with pytest.raises(InputError, match="a tensor is not whole"):
        write_model(foreign_model(even, LIES), tmp_path / "x")


class Hostile:
    def __reduce__(self):
        return Path.touch, (Path("/nonexistent/touched"),)


def test_a_checkpoint_that_would_run_code_is_refused(even):
    path = even / "fold_all/checkpoint_final.pth"
    hostile = pickle.dumps({"network_weights": {}, "trainer_name": Hostile()})
    rewrite(path, lambda name, content: hostile if name.endswith("data.pkl") else content)
    with pytest.raises(InputError, match=r"would run .*, which is no data; .*--trust-code"):
        foreign_model(even, LIES)


def rewrite(path, change):
    """Write an archive anew, with other content."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, each in content.items():
            archive.writestr(name, change(name, each))


def test_another_network_than_the_plan_is_refused(tmp_path, even):
    def deeper(plans):
        plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["n_conv_per_stage"] = [
            1,
            3,
            2,
            2,
        ]

    edit(even / "plans.json", deeper)
    with pytest.raises(InputError, match=r"has no weight encoder\.stages\.1\.0\.convs\.2"):
        write_model(foreign_model(even, LIES), tmp_path / "x")


def test_weights_that_the_plan_does_not_have_are_refused(tmp_path, even):
    def shallower(plans):
        plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["n_conv_per_stage"] = [
            1,
            1,
            2,
            2,
        ]

    edit(even / "plans.json", shallower)
    with pytest.raises(InputError, match=r"has 4 weights that the plan's network has not"):
        write_model(foreign_model(even, LIES), tmp_path / "x")
