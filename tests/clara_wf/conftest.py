"""The installed model server, once a session, and small ONNX models for it."""

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from clara_wf.model_server.installation import install
from clara_wf.model_server.server import UnsupportedPlatformError
from clara_wf.workspace import Places

CONFIG = """
backend: "onnxruntime"
max_batch_size: {max_batch_size}
input [ {{ name: "x" data_type: TYPE_{data_type} dims: [ {dims} ] }} ]
output [ {{ name: "y" data_type: TYPE_{data_type} dims: [ {dims} ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
parameters [ {{ key: "intra_op_thread_count" value: {{ string_value: "1" }} }} ]
"""


@pytest.fixture(scope="session")
def triton_cache():
    """Return the cache folder with the installed model server; the first time it is fetched."""
    cache = Places.here(os.environ).cache
    try:
        install(cache, on_progress=print)
    except UnsupportedPlatformError as error:
        pytest.skip(str(error))
    return cache


@pytest.fixture(scope="session")
def add_model():
    """Return a function that adds a model y = 2 x + k over (n, 1, length) to a model repository."""

    def add(
        repository,
        name="line",
        *,
        data_type="FP32",
        onnx_type=TensorProto.FLOAT,
        max_batch_size=0,
        nodes=None,
        k=1,
    ):
        dtype = helper.tensor_dtype_to_np_dtype(onnx_type)
        tensors = [helper.make_tensor_value_info(each, onnx_type, ["n", 1, "length"]) for each in "xy"]
        constants = [
            numpy_helper.from_array(np.asarray(value).astype(dtype), name)
            for name, value in {"two": 2, "k": k}.items()
        ]
        nodes = nodes or [
            helper.make_node("Mul", ["x", "two"], ["twice"]),
            helper.make_node("Add", ["twice", "k"], ["y"]),
        ]
        graph = helper.make_graph(nodes, name, tensors[:1], tensors[1:], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        (repository / name / "1").mkdir(parents=True)
        onnx.save(model, repository / name / "1" / "model.onnx")
        dims = "1, -1" if max_batch_size else "-1, 1, -1"
        config = CONFIG.format(max_batch_size=max_batch_size, data_type=data_type, dims=dims)
        (repository / name / "config.pbtxt").write_text(config)
        return repository / name

    return add
