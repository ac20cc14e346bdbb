"""Inputs and outputs of ONNX files, as the onnx package wrote them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from clara_wf.models.onnx_tensors import read_tensors
from stages.errors import InputError
from stages.triton.types import TensorSpec
from tests.onnx_models import add_model


def test_names_types_and_free_sizes_are_those_of_the_file(tmp_path):
    folder = add_model(tmp_path, "m", image=(1, -1, 32, 32), scores=(3, -1, 32, 32), data_type="FP16")
    found = read_tensors(folder / "1/model.onnx")
    assert found.inputs == (TensorSpec(name="image", datatype="FP16", shape=(-1, 1, -1, 32, 32)),)
    assert found.outputs == (TensorSpec(name="scores", datatype="FP16", shape=(-1, 3, -1, 32, 32)),)
    assert found.weight_files == ()


def test_the_shipped_model_is_read_as_its_configuration_says(request):
    found = read_tensors(request.config.rootpath / "models/segmentation_liver_v1/1/model.onnx")
    assert [(t.name, t.datatype, len(t.shape)) for t in found.inputs] == [("image", "FP32", 5)]
    assert [(t.name, t.shape[1]) for t in found.outputs] == [("scores", 3)]


def with_weights(path, *, external):
    """Write a model whose weights are an input too, as old exporters had it."""
    weights = numpy_helper.from_array(np.ones((1, 1, 400), np.float32), "weights")
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 400]) for name in "xy"]
    given = helper.make_tensor_value_info("weights", TensorProto.FLOAT, [1, 1, 400])
    node = helper.make_node("Add", ["x", "weights"], ["y"])
    graph = helper.make_graph([node], "g", [tensors[0], given], [tensors[1]], [weights])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]),
        path,
        save_as_external_data=external,
        location="weights.bin",
        size_threshold=0,
    )


@pytest.mark.parametrize("external", [False, True])
def test_weights_are_no_inputs_and_their_file_is_named(tmp_path, external):
    with_weights(tmp_path / "m.onnx", external=external)
    found = read_tensors(tmp_path / "m.onnx")
    assert [(t.name, t.shape) for t in found.inputs] == [("x", (1, 1, 400))]
    assert found.weight_files == (("weights.bin",) if external else ())


@pytest.mark.parametrize("content", [b"no model", b"\x0a", bytes(100), b"\x08\x0a"])
def test_what_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(InputError, match="is no ONNX model"):
        read_tensors(tmp_path / "m.onnx")


def test_a_file_cut_short_is_refused(tmp_path):
    with_weights(tmp_path / "m.onnx", external=False)
    whole = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="it ends within a field"):
        read_tensors(tmp_path / "m.onnx")


def test_weights_in_another_folder_are_refused(tmp_path):
    with_weights(tmp_path / "m.onnx", external=True)
    moved = (tmp_path / "m.onnx").read_bytes().replace(b"weights.bin", b"../ghts.bin")
    (tmp_path / "m.onnx").write_bytes(moved)
    with pytest.raises(InputError, match=r"weights lie in '\.\./ghts\.bin'; expected a file beside it"):
        read_tensors(tmp_path / "m.onnx")


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_tensors(tmp_path / "m.onnx")
