"""What user-ai does to a volume whose answer is known; a Triton server that answers is not needed for it."""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from make_model import make_model
from stage import UserAi

from clara_wf.models.config_pbtxt import read_config
from stages import Origin, Volume
from stages.model.description import ModelDescription
from stages.segmentation.segment import segment

SIDES = ((8, 21), (10, 29), (10, 29))
MODEL = Path(__file__).parent / "models/body_fat"


@pytest.fixture
def volume():
    """Return 30 x 40 x 40 voxels of 3 x 2 x 2 mm: muscle, in it a block of fat of 14 x 20 x 20."""
    hu = np.full((30, 40, 40), 40, np.int16)
    hu[8:22, 10:30, 10:30] = -100
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = 3, 2, 2, 1  # slices upwards, rows backwards, columns to the left
    return Volume(array=hu, affine=affine, origin=Origin(series_instance_uid="1.2.3"))


@pytest.fixture
def mask(volume):
    network = onnxruntime.InferenceSession(MODEL / "1/model.onnx")
    description = ModelDescription.from_server(read_config(MODEL))
    return segment(volume, lambda windows: network.run(None, {"image": windows})[0], model=description)


def test_fat_is_found_where_it_is_at_least_two_thirds_of_the_surroundings(volume, mask):
    # on a face 18 of 27 voxels are fat: -53 HU; on an edge 12: -22 HU; just outside 9: -7 HU
    on_sides = sum(np.isin(index, ends) for index, ends in zip(np.indices((30, 40, 40)), SIDES, strict=True))
    assert np.array_equal(mask.array, (volume.array == -100) & (on_sides < 2))


def test_the_mask_keeps_the_grid(volume, mask):
    assert mask.grid.matches(volume.grid)
    assert mask.array.dtype == np.uint8


def test_the_remark_of_the_workflows_args_is_kept_with_the_result(mask, tmp_path):
    parser = argparse.ArgumentParser()
    stage = UserAi("body_fat")
    stage.add_arguments(parser)
    stage.finish(SimpleNamespace(arguments=parser.parse_args(["-p", "foo"]), output_dir=tmp_path), mask)
    record = json.loads((tmp_path / "1.2.3.user-ai.json").read_text())
    # the block has 5600 voxels of 12 mm3, 200 of them on its edges
    assert record == {"remark": "foo", "model": "body_fat", "fat_ml": 64.8}


def test_the_model_that_ships_is_the_one_that_the_script_makes():
    assert onnx.load(MODEL / "1/model.onnx") == make_model()
