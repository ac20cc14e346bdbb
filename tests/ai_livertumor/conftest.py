"""A model's description, volumes with a known answer, and both array backends."""

import json

import numpy as np
import pytest

from ai_livertumor import ModelDescription
from stages import Origin, Volume
from stages.geometry import reorient
from stages.triton import ServedModel, TensorSpec

PARAMETERS = {
    "orientation": "SPL",
    "spacing_mm": [2.0, 1.0, 1.0],
    "intensity_clip_hu": [-100, 300],
    "intensity_scale": [0, 1],
    "padding_value_hu": -1000,
    "window_shape": [8, 16, 16],
    "overlap": 0.5,
    "blending": "gaussian",
    "activation": "none",
    "channel_labels": [0, 1, 2],
    "largest_component": [1, 2],
    "inside": {"2": 1},
}


def served_model(
    parameters=PARAMETERS, *, image=(-1, 1, 8, 16, 16), scores=(-1, 3, 8, 16, 16), datatype="FP32"
):
    return ServedModel(
        name="liver",
        version="1",
        inputs=(TensorSpec(name="image", datatype="FP32", shape=image),),
        outputs=(TensorSpec(name="scores", datatype=datatype, shape=scores),),
        parameters=parameters,
    )


@pytest.fixture
def served():
    """Return what makes a served model: parameters may be left out, replaced (as text) or added."""

    def make(*, without=(), **changes):
        texts = {key: json.dumps(value) for key, value in PARAMETERS.items() if key not in without}
        tensors = {key: changes.pop(key) for key in ("image", "scores", "datatype") if key in changes}
        return served_model({**texts, **changes}, **tensors)

    return make


@pytest.fixture
def describe():
    """Return what makes a model's description, with some values replaced."""
    return lambda **changes: ModelDescription.model_validate({**PARAMETERS, **changes})


@pytest.fixture
def place():
    """Return what makes a volume of an axial array of 2 x 1 x 1 mm, turned into an orientation."""

    def make(array, orientation="SPL", spacing=(2.0, 1.0, 1.0)):
        affine = np.zeros((4, 4))
        affine[[2, 1, 0], [0, 1, 2]] = spacing
        affine[:, 3] = -30, 12, 5, 1
        turned, turned_affine = reorient(array, affine, orientation)
        return Volume(array=turned, affine=turned_affine, origin=Origin(series_instance_uid="1.2.3"))

    return make
