"""TotalSegmentator's weights: its own steps around nnU-Net, its parts as one model, classes with codes."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from clara_wf.model_import.imported import ImportChoices, UnsupportedModelError
from clara_wf.model_import.kinds import foreign_model, write_model
from clara_wf.model_import.totalsegmentator.tasks import PARTS, TASKS, TOTAL
from stages.errors import InputError, SettingsError
from tests.frameworks.parity import our_mask, volume_of
from tests.frameworks.phantoms import ASKED, PhantomGrid

WEIGHTS = Path(__file__).parents[2] / "frameworks/totalsegmentator"
SMALL = PhantomGrid((14, 25, 26), (4.0, 5.0, 5.2))
WHOLE = PhantomGrid((60, 130, 130), (3.4, 3.0, 3.0))

MOST_APART = 5e-3
"""Share of voxels: in one of a thousand a rounding error makes HU another integer, and random weights magnify it."""


def folder_of(number):
    return next(WEIGHTS.glob(f"Dataset{number}_*"))


@pytest.fixture
def parts(tmp_path):
    """Return a folder of results with the five parts of ``total``."""
    for number in PARTS:
        shutil.copytree(folder_of(number), tmp_path / "results" / folder_of(number).name)
    return tmp_path / "results"


def reference(name):
    with np.load(WEIGHTS / f"{name}.npz") as stored:
        return stored["mask"], stored["claims"]


def imported(source, folder, **choices):
    model = foreign_model(source, ImportChoices(**choices))
    write_model(model, folder)
    return model


def test_there_are_117_classes_in_five_parts():
    assert len(TOTAL) == len(set(TOTAL)) == 117
    assert [len(TASKS[number].classes) for number in PARTS] == [24, 26, 18, 23, 26]
    assert (TOTAL[0], TOTAL[24], TOTAL[50], TOTAL[68], TOTAL[91], TOTAL[116]) == (
        *("spleen", "sacrum", "heart", "humerus_left", "rib_left_1", "costal_cartilages"),
    )


def test_a_mask_is_that_of_its_own_steps(tmp_path):
    model = imported(folder_of(298), tmp_path / "m")
    mask, _ = reference("total_6mm")
    ours = our_mask(tmp_path / "m", volume_of(WHOLE.make(ASKED)))
    assert (model.name, model.channels, model.unnamed) == ("total_6mm", 118, ())
    assert len(np.unique(mask)) > 5
    assert (ours != mask).mean() <= MOST_APART


def test_parts_become_one_model(tmp_path, parts):
    model = imported(parts, tmp_path / "m")
    mask, claims = reference("parts")
    ours = our_mask(tmp_path / "m", volume_of(SMALL.make(ASKED)))
    assert (model.name, model.channels) == ("total", 118)
    assert (claims == 1).mean() > 0.05
    assert ((ours != mask) & (claims <= 1)).mean() <= MOST_APART


def test_only_the_wanted_classes_are_kept_and_only_their_parts_read(tmp_path, parts):
    shutil.rmtree(next(parts.glob("Dataset295_*")))
    model = imported(parts, tmp_path / "m", only=("liver", "aorta", "hip_left"))
    told = {each.name: each.value for each in model.parameters}
    assert model.kind == "TotalSegmentator's total_organs and total_cardiac and total_muscles, 3 classes"
    assert told["channel_labels"] == [0, 5, 52, 77]
    session = onnxruntime.InferenceSession(tmp_path / "m/1/model.onnx")
    assert session.get_outputs()[0].shape[1] == 4
    mask, claims = reference("parts")
    ours = our_mask(tmp_path / "m", volume_of(SMALL.make(ASKED)))
    wanted = np.where(np.isin(mask, (5, 52, 77)), mask, 0)
    assert ((ours != wanted) & (claims <= 1)).mean() <= MOST_APART


def test_a_part_alone_is_24_classes_with_names_and_codes():
    model = foreign_model(folder_of(291), ImportChoices())
    meanings = {each.name: each.value for each in model.parameters}["label_meanings"]
    assert len(meanings) == 24
    assert meanings["3"] == {
        "name": "Kidney left",
        "type": {"value": "64033007", "meaning": "Kidney"},
        "modifier": {"value": "7771000", "meaning": "Left"},
        "rgb": meanings["3"]["rgb"],
    }
    assert len({meaning["rgb"] for meaning in meanings.values()}) == 24


def test_all_117_classes_have_a_code():
    assert foreign_model(folder_of(298), ImportChoices()).unnamed == ()


def test_a_missing_part_is_named(parts):
    shutil.rmtree(next(parts.glob("Dataset293_*")))
    with pytest.raises(InputError, match=r"lacks the part total_cardiac \(dataset 293\)"):
        foreign_model(parts, ImportChoices())


def test_an_unknown_class_is_named(parts):
    with pytest.raises(SettingsError, match="has no class 'livr' here"):
        foreign_model(parts, ImportChoices(only=("livr",)))


def test_an_orientation_is_not_asked_for():
    with pytest.raises(SettingsError, match="turns each image to SAR"):
        foreign_model(folder_of(291), ImportChoices(orientation="SPL"))


def test_what_needs_another_model_is_refused(tmp_path):
    folder = tmp_path / "Dataset258_TotalSegmentator_lung_vessels"
    shutil.copytree(folder_of(298), folder)
    with pytest.raises(
        UnsupportedModelError, match="dataset 258, which it runs on what another model has cut out"
    ):
        foreign_model(folder, ImportChoices())


def test_the_licence_is_told():
    assert foreign_model(folder_of(291), ImportChoices()).licence.startswith("Apache-2.0")
    assert TASKS[481].licence.startswith("not open")
