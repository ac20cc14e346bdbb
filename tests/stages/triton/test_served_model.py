"""A served model as a mask's description names it."""

from dataclasses import replace

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
