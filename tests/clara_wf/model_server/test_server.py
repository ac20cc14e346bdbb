"""The embedded model server answers as ONNX Runtime does, and says what is wrong."""

import re

import numpy as np
import onnxruntime
import psutil
import pytest
import tritonclient.grpc as grpc
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from clara_wf.model_server import server as model_server
from clara_wf.model_server.installation import install
from clara_wf.model_server.server import ModelServerError, serve

pytestmark = pytest.mark.triton

TYPES = {
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
}
MASK_TYPES = {"BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8}


@pytest.fixture(scope="module")
def repository(tmp_path_factory, add_model):
    folder = tmp_path_factory.mktemp("models")
    add_model(folder)
    add_model(folder, "batched", max_batch_size=4)
    for name, onnx_type in TYPES.items():
        add_model(folder, name.lower(), data_type=name, onnx_type=onnx_type)
    for name, onnx_type in MASK_TYPES.items():
        node = helper.make_node("Not" if name == "BOOL" else "Identity", ["x"], ["y"])
        add_model(folder, name.lower(), data_type=name, onnx_type=onnx_type, nodes=[node])
    add_model(folder, "three", k=[1, 2, 3])
    return folder


@pytest.fixture(scope="module")
def server(repository, triton_cache, tmp_path_factory):
    log = tmp_path_factory.mktemp("logs") / "server.log"
    with serve(repository, cache=triton_cache, log=log, on_progress=print) as server:
        yield server


@pytest.fixture
def ask(server):
    client = grpc.InferenceServerClient(server.grpc_url)

    def ask(array, model="line", data_type="FP32"):
        tensor = grpc.InferInput("x", list(array.shape), data_type)
        tensor.set_data_from_numpy(array)
        return client.infer(model, [tensor]).as_numpy("y")

    yield ask
    client.close()


def test_model_of_the_repository_answers(ask):
    assert ask(np.float32([[[0, 1, -2.5]]])).tolist() == [[[1, 3, -4]]]


def test_answer_is_that_of_onnxruntime_in_this_process(ask, repository):
    x = np.random.default_rng(0).normal(size=(3, 1, 50_000)).astype(np.float32)
    session = onnxruntime.InferenceSession(repository / "line/1/model.onnx")
    np.testing.assert_array_equal(ask(x), session.run(None, {"x": x})[0])


@pytest.mark.parametrize("shape", [(1, 1, 7), (4, 1, 3)])
def test_shape_is_kept(ask, shape):
    assert ask(np.zeros(shape, np.float32)).shape == shape


def test_requests_bring_their_own_batch(ask):
    assert ask(np.float32([[[1]], [[2]], [[3]]]), "batched").ravel().tolist() == [3, 5, 7]


def test_batch_above_the_limit_is_refused(ask):
    with pytest.raises(InferenceServerException, match="batch-size must be <= 4") as refusal:
        ask(np.zeros((5, 1, 1), np.float32), "batched")
    assert "INVALID_ARGUMENT" in refusal.value.status()


@pytest.mark.parametrize("data_type", TYPES)
def test_data_type_is_served(ask, data_type):
    x = np.array([[[3, 100]]], triton_to_np_dtype(data_type))
    answer = ask(x, data_type.lower(), data_type)
    assert answer.dtype == x.dtype
    assert answer.tolist() == [[[7, 201]]]


def test_masks_are_served(ask):
    assert ask(np.uint8([[[0, 1, 255]]]), "uint8", "UINT8").tolist() == [[[0, 1, 255]]]
    assert ask(np.array([[[True, False]]]), "bool", "BOOL").tolist() == [[[False, True]]]


def test_wrong_shape_is_refused_by_the_server(ask):
    with pytest.raises(InferenceServerException, match=r"Expected \[-1,1,-1\], got \[1,2,3\]") as refusal:
        ask(np.zeros((1, 2, 3), np.float32))
    assert "INVALID_ARGUMENT" in refusal.value.status()


def test_failure_of_the_model_is_told_with_its_text_and_the_model_goes_on(ask):
    with pytest.raises(InferenceServerException, match=r"broadcast an axis .* 3 by 4") as refusal:
        ask(np.zeros((1, 1, 4), np.float32), "three")
    assert "INVALID_ARGUMENT" in refusal.value.status()
    assert ask(np.zeros((1, 1, 3), np.float32), "three").ravel().tolist() == [1, 2, 3]


def test_parameters_of_the_configuration_reach_the_client(server):
    with grpc.InferenceServerClient(server.grpc_url) as client:
        config = client.get_model_config("line").config
    assert config.parameters["intra_op_thread_count"].string_value == "1"


def test_only_what_is_asked_for_is_served(repository, triton_cache, tmp_path):
    with (
        serve(
            repository, models=["line"], cache=triton_cache, log=tmp_path / "log", on_progress=print
        ) as server,
        grpc.InferenceServerClient(server.grpc_url) as client,
    ):
        assert client.is_model_ready("line")
        assert not client.is_model_ready("batched")


def test_folders_may_have_names_that_a_shell_would_take_apart(add_model, triton_cache, tmp_path):
    repository = tmp_path / "my models; $(touch x)"
    add_model(repository)
    installed = install(triton_cache, on_progress=print).folder
    (tmp_path / "the cache").mkdir()
    (tmp_path / "the cache" / installed.name).symlink_to(installed)
    with (
        serve(
            repository, cache=tmp_path / "the cache", log=tmp_path / "the log", on_progress=print
        ) as server,
        grpc.InferenceServerClient(server.grpc_url) as client,
    ):
        assert client.is_model_ready("line")


def refusal_of(repository, cache, log, **options):
    with (
        pytest.raises(ModelServerError) as refusal,
        serve(repository, cache=cache, log=log, on_progress=print, **options),
    ):
        pass
    assert refusal.value.exit_code == 6
    return str(refusal.value)


def test_broken_model_is_named_with_the_reason(add_model, triton_cache, tmp_path):
    (add_model(tmp_path, "broken") / "1/model.onnx").write_bytes(b"garbage")
    message = refusal_of(tmp_path, triton_cache, tmp_path / "log")
    assert "could not load model 'broken'" in message
    assert "Protobuf parsing failed" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("right", "wrong", "reason"),
    [
        ('name: "y"', 'name: "z"', "output 'z' is TYPE_FP32 in config.pbtxt and missing in the model"),
        ("TYPE_FP32", "TYPE_INT16", r"input 'x' is TYPE_INT16 in config.pbtxt and of type tensor\(float\)"),
        ("TYPE_FP32", "TYPE_STRING", "input 'x' is TYPE_STRING, which this server does not support"),
        ("onnxruntime", "tensorrt", "unable to find backend library for backend 'tensorrt'"),
        (
            "max_batch_size",
            "max_bach_size",
            "no field named \"max_bach_size\".*Poll failed for model directory 'line'",
        ),
    ],
)
def test_configuration_that_does_not_fit_is_refused(add_model, triton_cache, tmp_path, right, wrong, reason):
    config = add_model(tmp_path, "line") / "config.pbtxt"
    config.write_text(config.read_text().replace(right, wrong))
    assert re.search(reason, refusal_of(tmp_path, triton_cache, tmp_path / "log"))


def test_model_that_is_not_there_is_refused_before_anything_starts(repository, tmp_path):
    message = refusal_of(repository, tmp_path / "cache", tmp_path / "log", models=["lung"])
    assert message.startswith(f"no model 'lung' in {repository}; it has batched, ")
    assert "put one there" in refusal_of(tmp_path, tmp_path / "cache", tmp_path / "log")
    assert not (tmp_path / "cache").exists()


def test_a_machine_that_does_not_reach_itself_is_told_at_once(monkeypatch):
    model_server._require_loopback()
    monkeypatch.setattr(model_server, "_LOOPBACK", "192.0.2.1")  # of no machine
    with pytest.raises(ModelServerError, match=r"192\.0\.2\.1 does not answer \(.+\); bring the loopback"):
        model_server._require_loopback()


def test_server_that_dies_is_noticed(add_model, triton_cache, tmp_path):
    add_model(tmp_path)
    with serve(tmp_path, cache=triton_cache, log=tmp_path / "log", on_progress=print) as server:
        server.check()
        (guard,) = [
            child for child in psutil.Process().children() if str(tmp_path) in " ".join(child.cmdline())
        ]
        (program,) = guard.children()
        program.kill()
        guard.wait(5)
        with pytest.raises(ModelServerError, match="ended by itself, exit code -9"):
            server.check()
