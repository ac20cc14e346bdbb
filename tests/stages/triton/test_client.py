"""The predictor against a server that speaks the protocol, and against none."""

import socket
import time
from concurrent import futures
from contextlib import contextmanager

import grpc
import numpy as np
import onnx
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from stages import InferenceError, SettingsError
from stages.triton.client import TritonPredictor
from stages.triton.types import ServedModel, TensorSpec
from tests.stages.tritons import doubling_model, running

SHAPE = [-1, 1, 2, 3, 4]
WINDOWS = np.arange(24, dtype=np.float32).reshape(1, 1, 2, 3, 4)


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A server of one model that doubles its windows, after refusing the first calls with `refusals`."""

    def __init__(self, *, ready=True, outputs=("scores",), refusals=(), delay_s=0.0):
        self.ready = ready
        self.outputs = outputs
        self.refusals = list(refusals)
        self.delay_s = delay_s
        self.calls = 0

    def ModelReady(self, request, context):  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=self.ready)

    def ModelMetadata(self, request, context):  # noqa: N802
        if request.name != "liver":
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name}")
        answer = service_pb2.ModelMetadataResponse(name="liver", versions=["1", "3"])
        answer.inputs.add(name="image", datatype="FP32", shape=SHAPE)
        for name in self.outputs:
            answer.outputs.add(name=name, datatype="FP32", shape=SHAPE)
        return answer

    def ModelConfig(self, request, context):  # noqa: N802
        answer = service_pb2.ModelConfigResponse()
        answer.config.parameters["orientation"].string_value = '"SPL"'
        return answer

    def ModelInfer(self, request, context):  # noqa: N802
        self.calls += 1
        time.sleep(self.delay_s)
        if self.refusals:
            context.abort(self.refusals.pop(0), "not now")
        (image,) = request.inputs
        windows = np.frombuffer(request.raw_input_contents[0], np.float32)
        answer = service_pb2.ModelInferResponse(model_name="liver", model_version="3")
        answer.outputs.add(name=request.outputs[0].name, datatype="FP32", shape=image.shape)
        answer.raw_output_contents.append((2 * windows).tobytes())
        return answer


@contextmanager
def predictor_of(servicer, model="liver", **options):
    server = grpc.server(futures.ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with TritonPredictor(f"127.0.0.1:{port}", model, **options) as predictor:
            yield predictor
    finally:
        server.stop(0).wait()


@pytest.fixture
def nobody():
    """Return an address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def silent():
    """Return an address that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_server_tells_the_model_its_tensors_and_parameters():
    with predictor_of(FakeTriton()) as predictor:
        predictor.wait_until_ready(2)
        served = predictor.describe()
    assert (served.name, served.version) == ("liver", "3")
    assert served.inputs == (TensorSpec(name="image", datatype="FP32", shape=(-1, 1, 2, 3, 4)),)
    assert served.outputs == (TensorSpec(name="scores", datatype="FP32", shape=(-1, 1, 2, 3, 4)),)
    assert served.parameters == {"orientation": '"SPL"'}


def test_windows_go_and_scores_come_back():
    with predictor_of(FakeTriton()) as predictor:
        scores = predictor(WINDOWS)
    assert scores.dtype == np.float32
    assert np.array_equal(scores, 2 * WINDOWS)


def test_part_of_a_larger_image_is_sent_in_its_own_order():
    image = np.random.default_rng(5).random((1, 1, 4, 6, 8), dtype=np.float32)
    with predictor_of(FakeTriton()) as predictor:
        scores = predictor(image[..., 1:3, 2:5, ::2])
    assert np.array_equal(scores, 2 * image[..., 1:3, 2:5, ::2])


def test_server_that_is_unavailable_for_a_moment_is_asked_again():
    servicer = FakeTriton(refusals=[grpc.StatusCode.UNAVAILABLE] * 2)
    with predictor_of(servicer) as predictor:
        assert np.array_equal(predictor(WINDOWS), 2 * WINDOWS)
    assert servicer.calls == 3


def test_server_that_stays_unavailable_is_given_up_when_the_patience_ends():
    servicer = FakeTriton(refusals=[grpc.StatusCode.UNAVAILABLE] * 99)
    began = time.monotonic()
    with predictor_of(servicer, patience_s=1) as predictor:
        with pytest.raises(InferenceError, match="UNAVAILABLE: not now"):
            predictor(WINDOWS)
        assert 0.9 < time.monotonic() - began < 2
    # at once, after 0.1, 0.2, 0.4 s, and a last time when the second is over
    assert servicer.calls == 5


def test_refusal_of_the_windows_is_not_asked_again():
    servicer = FakeTriton(refusals=[grpc.StatusCode.INVALID_ARGUMENT])
    with predictor_of(servicer) as predictor, pytest.raises(InferenceError, match=r"'liver' at .*not now"):
        predictor(WINDOWS)
    assert servicer.calls == 1


def test_answer_that_takes_too_long_is_given_up_at_the_deadline():
    began = time.monotonic()
    with predictor_of(FakeTriton(delay_s=1), deadline_s=0.3) as predictor:
        with pytest.raises(InferenceError, match=r"DEADLINE_EXCEEDED|Deadline"):
            predictor(WINDOWS)
        assert time.monotonic() - began < 0.9


def test_unknown_model_is_refused_by_name():
    unknown = pytest.raises(InferenceError, match=r"model 'spleen' at .*unknown model spleen")
    with predictor_of(FakeTriton(), model="spleen") as predictor, unknown:
        predictor.describe()


def test_model_of_several_outputs_is_refused_and_they_are_named():
    refused = pytest.raises(InferenceError, match=r"it has \['image', 'scores', 'features'\]")
    with predictor_of(FakeTriton(outputs=("scores", "features"))) as predictor, refused:
        predictor.describe()


def test_model_that_does_not_become_ready_is_refused_in_time():
    began = time.monotonic()
    with predictor_of(FakeTriton(ready=False)) as predictor:
        with pytest.raises(InferenceError, match=r"'liver' at .* did not become ready within 0\.4 s"):
            predictor.wait_until_ready(0.4)
        assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("server", ["nobody", "silent"])
def test_missing_server_is_told_by_url_and_model_within_the_timeout(request, server):
    url = request.getfixturevalue(server)
    began = time.monotonic()
    with TritonPredictor(url, "liver") as predictor, pytest.raises(InferenceError) as told:
        predictor.wait_until_ready(0.5)
    assert f"model 'liver' at {url} did not become ready within 0.5 s" in str(told.value)
    assert time.monotonic() - began < 1.5
    assert told.value.exit_code == 6


# A real server

CONFIG = """
backend: "onnxruntime"
max_batch_size: 0
input [ { name: "image" data_type: TYPE_FP32 dims: [ -1, 1, 2, 3, 4 ] } ]
output [ { name: "scores" data_type: TYPE_FP32 dims: [ -1, 1, 2, 3, 4 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
parameters [ { key: "orientation" value: { string_value: '"SPL"' } } ]
"""


@pytest.fixture(scope="module")
def real_triton(tmp_path_factory):
    """Return the address of a Triton that serves the same model as `FakeTriton`."""
    repository = tmp_path_factory.mktemp("models")
    (repository / "liver" / "1").mkdir(parents=True)
    (repository / "liver" / "config.pbtxt").write_text(CONFIG)
    onnx.save(doubling_model(), repository / "liver" / "1" / "model.onnx")
    with running(repository, tmp_path_factory.mktemp("log") / "server.log") as server:
        yield server.grpc_url


@pytest.mark.triton
def test_real_server_answers_like_the_one_above(real_triton):
    with TritonPredictor(real_triton, "liver") as predictor:
        predictor.wait_until_ready(5)
        served = predictor.describe()
        scores = predictor(np.concatenate([WINDOWS, -WINDOWS]))
    with predictor_of(FakeTriton()) as fake:
        expected = fake.describe()
    assert (served.inputs, served.outputs) == (expected.inputs, expected.outputs)
    assert served.parameters.items() >= expected.parameters.items()
    assert np.array_equal(scores, np.concatenate([2 * WINDOWS, -2 * WINDOWS]))


@pytest.mark.parametrize("url", ["triton", "http://triton:8000", "triton:", "tri ton:8001", ":8001"])
def test_an_address_that_is_not_host_and_port_is_refused(url):
    with pytest.raises(SettingsError, match="named as HOST:PORT"):
        TritonPredictor(url, "liver")


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_a_server_on_this_machine_is_reached_without_the_proxy_of_the_network(monkeypatch, variable):
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with predictor_of(FakeTriton()) as predictor:
        assert predictor.describe().name == "liver"


@pytest.mark.triton
def test_real_server_refuses_windows_of_another_shape(real_triton):
    refused = pytest.raises(InferenceError, match=r"'liver' at .*INVALID_ARGUMENT.*shape")
    with TritonPredictor(real_triton, "liver") as predictor, refused:
        predictor(np.zeros((1, 1, 5, 5, 5), np.float32))


@pytest.mark.triton
def test_real_server_does_not_know_another_model(real_triton):
    unknown = pytest.raises(InferenceError, match=r"'spleen' at .* did not become ready")
    with TritonPredictor(real_triton, "spleen") as predictor, unknown:
        predictor.wait_until_ready(0.3)


@pytest.mark.parametrize(
    ("entry", "exit_", "expected"),
    [
        ((-1, 1, -1, -1, -1), (-1, 3, -1, -1, -1), 2 * 3 * 4 * 5 * 6 * 4),
        ((-1, 1, 4, 5, 6), (-1, 3, 4, 5, 6), 2 * 3 * 4 * 5 * 6 * 4),
        ((-1, 1, -1, -1, -1), (-1, -1, -1, -1), 0),  # labels without channels: which axis is which?
        ((-1, 1, 4, 5, 6), (-1, 3, -1, -1, -1), 0),
    ],
)
def test_room_for_the_first_answer_is_told_by_the_tensors_or_not_at_all(entry, exit_, expected):
    image = TensorSpec(name="image", datatype="FP32", shape=entry)
    scores = TensorSpec(name="scores", datatype="FP32", shape=exit_)
    served = ServedModel(name="m", version="1", inputs=(image,), outputs=(scores,), parameters={})
    assert served.output_bytes((2, 1, 4, 5, 6)) == expected
