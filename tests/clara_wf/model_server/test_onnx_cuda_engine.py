"""ONNX Runtime on a device: every step but the device itself, on the CPU's provider and host memory."""

import ctypes
import gc
import importlib
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper

from clara_wf.model_server.installation import BACKENDS

pytest.importorskip("onnxruntime")


class HostTensor:
    """A tensor of Triton's, as far as an engine sees it."""

    def __init__(self, name, array=None, capsule=None):
        self.name, self._array, self._capsule = name, array, capsule

    @classmethod
    def from_dlpack(cls, name, capsule):
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        assert pointer(capsule, b"dltensor")
        return cls(name, capsule=capsule)

    def to_dlpack(self):
        return self._array.__dlpack__()


@pytest.fixture
def engines(monkeypatch):
    """Return the package of engines, as the server's Python sees it."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", SimpleNamespace(Tensor=HostTensor))
    monkeypatch.syspath_prepend(str(BACKENDS / "onnxruntime"))
    yield importlib.import_module("engines")
    for name in [each for each in sys.modules if each.partition(".")[0] == "engines"]:
        del sys.modules[name]


@pytest.fixture
def cuda(engines):
    return importlib.import_module("engines.onnx_cuda")


@pytest.fixture
def values_of(engines, monkeypatch):
    """Return a function that gives the values and the address of a tensor that an engine handed over."""
    tensors, dlpack = importlib.import_module("engines.tensors"), importlib.import_module("engines.dlpack")
    monkeypatch.setattr(tensors, "_set_capsule_name", lambda capsule, name: None)  # it is still to be read

    def values(tensor, dtype):
        memory = dlpack.Memory(tensor._capsule)
        count = int(np.prod(memory.shape)) * np.dtype(dtype).itemsize
        raw = ctypes.string_at(memory.pointer, count)
        return np.frombuffer(raw, dtype).reshape(memory.shape)

    return values


def config_of(**parameters):
    told = {name: {"string_value": value} for name, value in parameters.items()}
    return {
        "max_batch_size": 4,
        "input": [{"name": "x", "dims": [1, -1]}],
        "output": [{"name": "y", "dims": [1, -1]}],
        "parameters": told,
    }


@pytest.fixture
def engine_for(cuda, add_model, tmp_path):
    def engine(config=None, **model):
        path = add_model(tmp_path, **model) / "1/model.onnx"
        return cuda.OnnxCudaEngine(path, config or config_of(), on="cpu")

    return engine


def test_answer_is_bound_in_memory_that_outlives_its_request(engine_for, values_of):
    engine = engine_for()
    x = np.float32([[[0, 1, -2.5]]])
    (answer,) = engine.run(["y"], {"x": HostTensor("x", x)})
    engine.run(["y"], {"x": HostTensor("x", x + 100)})
    gc.collect()
    assert values_of(answer, np.float32).tolist() == [[[1, 3, -4]]]


@pytest.mark.parametrize(
    ("onnx_type", "dtype"),
    [(TensorProto.FLOAT16, np.float16), (TensorProto.DOUBLE, np.float64), (TensorProto.INT64, np.int64)],
)
def test_data_type_is_bound_as_the_model_has_it(engine_for, values_of, onnx_type, dtype):
    engine = engine_for(onnx_type=onnx_type)
    (answer,) = engine.run(["y"], {"x": HostTensor("x", np.array([[[3, 100]]], dtype))})
    assert values_of(answer, dtype).tolist() == [[[7, 201]]]


def test_truth_values_are_answered_as_such(engine_for, values_of):
    engine = engine_for(onnx_type=TensorProto.BOOL, nodes=[helper.make_node("Not", ["x"], ["y"])])
    (answer,) = engine.run(["y"], {"x": HostTensor("x", np.array([[[True, False]]]))})
    assert values_of(answer, np.bool_).tolist() == [[[False, True]]]
    dlpack = importlib.import_module("engines.dlpack")
    told = dlpack._Tensor.from_address(dlpack._pointer_of(answer._capsule, b"dltensor"))
    assert told.dtype.code == 6  # of truth values; the capsule of ONNX Runtime 1.31 has that of uint8


def test_file_that_is_no_model_is_told_in_one_line(cuda, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"garbage")
    with pytest.raises(
        cuda.UnfitError, match=r"CPUExecutionProvider does not take it: .*Protobuf parsing failed"
    ):
        cuda.OnnxCudaEngine(tmp_path / "model.onnx", config_of(), on="cpu")


def test_each_shape_keeps_its_session_until_there_are_too_many(engine_for, cuda):
    engine = engine_for()
    shapes = [(1, 1, length) for length in range(1, 6)]

    def session_for(shape):
        engine.run(["y"], {"x": HostTensor("x", np.zeros(shape, np.float32))})
        return engine._sessions[(("x", shape),)]

    sessions = [session_for(shape) for shape in shapes[: cuda.SESSIONS]]
    assert len(set(map(id, sessions))) == cuda.SESSIONS == 4
    assert session_for(shapes[0]) is sessions[0]
    assert session_for(shapes[4]) is sessions[1]  # of the shape that was unused the longest


def test_sessions_of_other_shapes_give_way_where_memory_runs_out(engine_for, values_of, monkeypatch, capsys):
    engine = engine_for()
    for length in (1, 2, 3):
        engine.run(["y"], {"x": HostTensor("x", np.zeros((1, 1, length), np.float32))})
    answer, failures = engine._answer, [RuntimeError("BFCArena: Failed to allocate memory for 5 bytes")]

    def short_of_memory(*arguments):
        if failures:
            raise failures.pop()
        return answer(*arguments)

    monkeypatch.setattr(engine, "_answer", short_of_memory)
    (found,) = engine.run(["y"], {"x": HostTensor("x", np.float32([[[5]]]))})
    assert values_of(found, np.float32).tolist() == [[[11]]]
    assert list(engine._sessions) == [(("x", (1, 1, 1)),)]
    assert "memory of the device ran out" in capsys.readouterr().err


def test_other_failures_are_told_as_they_are(engine_for):
    engine = engine_for(k=[1, 2, 3])
    with pytest.raises(Exception, match="broadcast an axis"):
        engine.run(["y"], {"x": HostTensor("x", np.zeros((1, 1, 4), np.float32))})
    (found,) = engine.run(["y"], {"x": HostTensor("x", np.zeros((1, 1, 3), np.float32))})
    assert found is not None


def test_only_the_outputs_that_are_asked_for_are_answered_in_that_order(cuda, tmp_path, values_of):
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
        helper.make_node("ReduceMax", ["a"], ["largest"], keepdims=0),
    ]
    outputs = [
        value(name, shape=shape) for name, shape in (("sum", ["n"]), ("difference", ["n"]), ("largest", []))
    ]
    graph = helper.make_graph(nodes, "g", [value("a", shape=["n"]), value("b", shape=["n"])], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    config = {"input": [{"name": "a", "dims": [-1]}, {"name": "b", "dims": [-1]}]}
    engine = cuda.OnnxCudaEngine(tmp_path / "model.onnx", config, on="cpu")
    given = {"b": HostTensor("b", np.float32([10, 20])), "a": HostTensor("a", np.float32([1, 2]))}
    largest, total = engine.run(["largest", "sum"], given)
    assert (values_of(largest, np.float32).tolist(), values_of(total, np.float32).tolist()) == (2, [11, 22])


def test_warm_up_runs_a_single_window_and_a_full_batch_and_says_so(engine_for, capsys):
    engine = engine_for(config_of(window_shape="[7]"))
    said = capsys.readouterr().err.splitlines()
    assert ["x [1, 1, 7] warmed up in 0." in said[0], "x [4, 1, 7] warmed up in 0." in said[1]] == [True] * 2
    (warm,) = engine._spare
    engine.run(["y"], {"x": HostTensor("x", np.zeros((4, 1, 7), np.float32))})
    assert engine._sessions[(("x", (4, 1, 7)),)] is warm


def test_warm_up_that_fails_is_told_and_the_model_still_loads(engine_for, capfd):
    engine_for(config_of(window_shape="[4]"), k=[1, 2, 3])
    assert "could not be warmed up" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("batch", "dims", "window", "shapes"),
    [
        (4, [1, -1, -1, -1], "[64, 96, 96]", [(1, 1, 64, 96, 96), (4, 1, 64, 96, 96)]),
        (1, [1, -1, -1, -1], "[64, 96, 96]", [(1, 1, 64, 96, 96)]),
        (0, [-1, 1, -1, -1], "[96, 96]", [(1, 1, 96, 96)]),
        (2, [1, 32, 32, 32], "", [(1, 1, 32, 32, 32), (2, 1, 32, 32, 32)]),
        (4, [1, -1, -1, -1], "[96, 96]", []),
        (4, [1, -1, -1, -1], "", []),
        (4, [1, -1, -1, -1], '"native"', []),
        (4, [1, -1], "not JSON", []),
    ],
)
def test_shapes_to_warm_up_are_those_that_windows_will_have(cuda, batch, dims, window, shapes):
    config = {"max_batch_size": batch, "input": [{"name": "x", "dims": [str(each) for each in dims]}]}
    config["parameters"] = {"window_shape": {"string_value": window}}
    assert [each["x"] for each in cuda.warm_up_shapes(config)] == shapes


@pytest.mark.parametrize(
    ("parameters", "option", "value"),
    [
        ({}, "use_tf32", "0"),
        ({"use_tf32": "1"}, "use_tf32", "1"),
        ({"precision": '"bf16"'}, "use_tf32", "1"),
        ({"precision": '"bf16"', "use_tf32": "0"}, "use_tf32", "0"),
        ({"precision": '"f32"'}, "use_tf32", "0"),
        ({}, "cudnn_conv_algo_search", "HEURISTIC"),
        ({"cudnn_conv_algo_search": "0"}, "cudnn_conv_algo_search", "EXHAUSTIVE"),
        ({"gpu_mem_limit": "4294967200"}, "gpu_mem_limit", "4294967200"),
        ({}, "device_id", "3"),
    ],
)
def test_provider_is_asked_for_what_the_model_says(cuda, parameters, option, value):
    assert cuda.cuda_options(config_of(**parameters), 3)[option] == value


def test_accelerator_of_tritons_own_counts_most(cuda):
    config = config_of(use_tf32="0")
    asked = [{"name": "cuda", "parameters": {"use_tf32": "1", "fuse_conv_bias": "1"}}]
    config["optimization"] = {"execution_accelerators": {"gpu_execution_accelerator": asked}}
    options = cuda.cuda_options(config, 0)
    assert (options["use_tf32"], options["fuse_conv_bias"]) == ("1", "1")


def test_tensorrt_that_is_not_installed_is_refused(cuda, monkeypatch):
    config = config_of()
    config["optimization"] = {"execution_accelerators": {"gpu_execution_accelerator": [{"name": "tensorrt"}]}}
    monkeypatch.setattr(cuda.onnxruntime, "get_available_providers", lambda: [cuda.CUDA])
    with pytest.raises(cuda.UnfitError, match=r"asks for TensorRT .*, which is not installed"):
        cuda._providers(config, 0)


def test_installation_without_the_provider_says_so(engines, add_model, tmp_path):
    path = add_model(tmp_path) / "1/model.onnx"
    with pytest.raises(
        ValueError,
        match=r"'cuda' is not for this model: ONNX Runtime 1\S+ of this installation has no CUDA provider",
    ):
        engines.choose(path, config_of(), device_id=0)


@pytest.mark.parametrize("device", [1, 3])
def test_memory_of_the_host_is_read_from_its_capsule(engines, device):
    dlpack = importlib.import_module("engines.dlpack")
    array = np.zeros((2, 3, 4), np.float32)[:, :, :]
    capsule = array.__dlpack__()
    tensor = dlpack._Tensor.from_address(dlpack._pointer_of(capsule, b"dltensor"))
    tensor.device.type, tensor.byte_offset = device, 8
    memory = dlpack.Memory(capsule)
    assert (memory.pointer, memory.on_device, memory.shape) == (array.ctypes.data + 8, False, (2, 3, 4))


def test_memory_of_a_device_is_told_with_its_number(engines):
    dlpack = importlib.import_module("engines.dlpack")
    capsule = np.zeros(5).__dlpack__()
    tensor = dlpack._Tensor.from_address(dlpack._pointer_of(capsule, b"dltensor"))
    tensor.device.type, tensor.device.id = dlpack.CUDA, 2
    memory = dlpack.Memory(capsule)
    assert (memory.on_device, memory.device_id) == (True, 2)
    tensor.device.type = 10  # ROCm
    with pytest.raises(ValueError, match="device of DLPack's type 10"):
        dlpack.Memory(capsule)


@pytest.mark.parametrize(
    ("engine", "device_id", "message"),
    [
        ("cuda", None, "engine 'cuda' does not run on the CPU"),
        ("onnxruntime", 0, "engine 'onnxruntime' does not run on the GPU"),
        ("opemvino", 0, "there is no engine 'opemvino'; there are openvino, onnxruntime, cuda"),
    ],
)
def test_engine_that_does_not_run_where_the_model_is_served_is_refused(engines, engine, device_id, message):
    with pytest.raises(ValueError, match=message):
        engines.choose("model.onnx", config_of(engine=engine), {}, device_id)


def test_environment_asks_for_an_engine_by_name(engines):
    with pytest.raises(ValueError, match="engine 'openvino' does not run on the GPU"):
        engines.choose("model.onnx", config_of(), {"CLARA_ONNX_ENGINE": "openvino"}, 0)
