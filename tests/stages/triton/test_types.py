"""A served model, as a server says it and as a mask's description names it."""

from dataclasses import replace

import numpy as np
import pytest

from stages import InferenceError
from stages.triton.types import ServedModel, TensorSpec

MODEL = ServedModel(
    name="my_liver",
    version="3",
    inputs=(TensorSpec(name="image", datatype="FP32", shape=(-1, 1, 64, 96, 96)),),
    outputs=(TensorSpec(name="scores", datatype="FP32", shape=(-1, 3, 64, 96, 96)),),
    parameters={"overlap": "0.5", "weights_sha256": '"abc123"'},
)


def test_name_version_and_weights_are_those_of_the_server():
    algorithm = MODEL.algorithm
    assert (algorithm.name, algorithm.version, algorithm.weights_sha256) == ("my_liver", "3", "abc123")
    assert replace(MODEL, parameters={}).algorithm.weights_sha256 == ""


def test_another_configuration_has_another_hash_and_the_order_of_parameters_does_not_matter():
    first = MODEL.algorithm.configuration_sha256
    turned = replace(MODEL, parameters=dict(reversed(MODEL.parameters.items())))
    assert turned.algorithm.configuration_sha256 == first
    other = replace(MODEL, parameters={**MODEL.parameters, "overlap": "0.25"})
    assert other.algorithm.configuration_sha256 != first
    assert len(first) == 64


def said_by_a_server(sizes, outputs=("scores",)):
    metadata = {
        "versions": ["1", "3"],
        "inputs": [{"name": "image", "datatype": "FP32", "shape": sizes}],
        "outputs": [{"name": name, "datatype": "UINT8", "shape": sizes} for name in outputs],
    }
    return metadata, {"max_batch_size": 4, "parameters": {"overlap": {"string_value": "0.5"}, "x_note": {}}}


@pytest.mark.parametrize("sizes", [[-1, 1, 64], ["-1", "1", "64"]], ids=["numbers", "texts"])
def test_what_a_server_says_is_read_with_sizes_as_numbers_and_as_texts(sizes):
    model = ServedModel.from_json("my_liver", *said_by_a_server(sizes))
    assert (model.version, model.max_batch_size) == ("3", 4)
    assert model.inputs == (TensorSpec(name="image", datatype="FP32", shape=(-1, 1, 64)),)
    assert model.parameters == {"overlap": "0.5", "x_note": ""}


def test_model_with_two_outputs_is_refused():
    with pytest.raises(
        InferenceError, match=r"one input and one output tensor, it has \['image', 'a', 'b'\]"
    ):
        ServedModel.from_json("my_liver", *said_by_a_server([1], outputs=("a", "b")))


def test_type_of_a_tensor_is_numpys_and_text_is_none():
    assert TensorSpec(name="image", datatype="FP16", shape=()).dtype == np.float16
    with pytest.raises(InferenceError, match="'names' is BYTES, expected one of BOOL"):
        _ = TensorSpec(name="names", datatype="BYTES", shape=()).dtype
