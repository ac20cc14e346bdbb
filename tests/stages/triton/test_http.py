"""The predictor over HTTP against a real server, and against none."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from stages import InferenceError, SettingsError
from stages.triton.client import TritonPredictor, connect
from stages.triton.http import HttpPredictor
from stages.windows.plan import WindowPlan
from stages.windows.sliding import predict_in_windows
from tests.stages.tritons import add_model, at_ports, free_ports, running

IMAGE = np.random.default_rng(1).normal(size=(24, 16, 16)).astype(np.float32)
WINDOWS = WindowPlan(shape=(8, 8, 8), classes=1, in_flight=3)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, behaviour in {"doubles": "double", "slow": "slow 30", "steady": "slow 0.05"}.items():
        add_model(folder, name, behaviour)
    add_model(folder, "half", entry="FP16", exit_="FP16")
    return folder


@pytest.fixture(scope="module")
def server(repository, tmp_path_factory):
    with running(repository, tmp_path_factory.mktemp("log") / "server.log") as server:
        yield server


@pytest.mark.triton
@pytest.mark.parametrize("model", ["doubles", "half"])
def test_scores_and_description_are_those_of_grpc(server, model):
    with HttpPredictor(server.http_url, model) as by_http, TritonPredictor(server.grpc_url, model) as by_grpc:
        by_http.wait_until_ready(5)
        assert by_http.describe() == by_grpc.describe()
        scores = predict_in_windows(IMAGE, by_http, windows=WINDOWS)
        assert np.array_equal(scores, predict_in_windows(IMAGE, by_grpc, windows=WINDOWS))


@pytest.mark.triton
@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("spleen", {}, r"'spleen' at .*HTTP 404.*unknown model"),
        ("slow", {"deadline_s": 0.4}, r"'slow' at .*did not answer within 0\.4 s.*--deadline"),
    ],
)
def test_what_goes_wrong_is_told_in_time(server, model, options, message):
    began = time.monotonic()
    with (
        HttpPredictor(server.http_url, model, **options) as predictor,
        pytest.raises(InferenceError, match=message),
    ):
        predict_in_windows(IMAGE, predictor, windows=WINDOWS)
    assert time.monotonic() - began < 5


@pytest.mark.triton
def test_what_is_open_does_not_keep_the_stage_from_ending(server):
    with HttpPredictor(server.http_url, "slow") as predictor:
        request = predictor.submit(np.zeros((1, 1, 8, 8, 8), np.float32))
        time.sleep(0.3)
        began = time.monotonic()
    with pytest.raises(InferenceError):
        request.result(5)
    assert time.monotonic() - began < 2


@pytest.mark.triton
def test_windows_of_another_shape_are_refused_with_the_servers_reason(server):
    refused = pytest.raises(InferenceError, match=r"'doubles' at .*HTTP 400.*shape")
    with HttpPredictor(server.http_url, "doubles") as predictor, refused:
        predictor(np.zeros((3, 3), np.float32))


@pytest.mark.triton
def test_restart_of_the_server_in_the_middle_is_survived(repository, tmp_path, monkeypatch):
    ports = free_ports(2)
    image = np.random.default_rng(2).normal(size=(48, 16, 16)).astype(np.float32)

    def scores_of(url):
        with HttpPredictor(url, "steady") as predictor:
            return predict_in_windows(image, predictor, windows=WINDOWS)

    with at_ports(monkeypatch, *ports), ThreadPoolExecutor(1) as pool:
        with running(repository, tmp_path / "first.log", models=["steady"]) as server:
            job = pool.submit(scores_of, server.http_url)
            time.sleep(1.0)
            assert not job.done()
        with running(repository, tmp_path / "second.log", models=["steady"]):
            assert job.result(60)[0] == pytest.approx(2 * image, abs=1e-5)


def test_server_that_is_not_there_is_given_up_when_the_patience_ends():
    (port,) = free_ports(1)
    began = time.monotonic()
    with HttpPredictor(f"127.0.0.1:{port}", "liver", patience_s=0.5) as predictor:
        with pytest.raises(InferenceError, match=r"'liver' at 127.0.0.1:\d+: .*refused"):
            predictor.describe()
        with pytest.raises(InferenceError, match=r"did not become ready within 0\.3 s"):
            predictor.wait_until_ready(0.3)
    assert time.monotonic() - began < 3


def test_transport_says_which_predictor_is_meant():
    with connect("127.0.0.1:1", "liver", transport="http") as by_http:
        assert isinstance(by_http, HttpPredictor)
    with connect("127.0.0.1:1", "liver", transport="system") as by_grpc:
        assert isinstance(by_grpc, TritonPredictor)
    with pytest.raises(SettingsError, match=r"'pigeon' is unknown; there are auto, cuda, system, grpc, http"):
        connect("127.0.0.1:1", "liver", transport="pigeon")


@pytest.mark.parametrize("url", ["triton", "http://triton:8000", ":8000"])
def test_an_address_that_is_not_host_and_port_is_refused(url):
    with pytest.raises(SettingsError, match="named as HOST:PORT"):
        HttpPredictor(url, "liver")
