"""What goes wrong between a stage and a real Triton: told in a message, in time, and no trace left."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import stages
from stages import InferenceError
from stages.arrays import device_available
from stages.memory.shared import Region
from stages.triton.client import TritonPredictor
from stages.windows.plan import WindowPlan
from stages.windows.sliding import predict_in_windows
from tests.stages.tritons import REGIONS, abandoned, add_model, at_ports, free_ports, regions_of, running

pytestmark = [pytest.mark.triton, REGIONS]

IMAGE = np.random.default_rng(1).normal(size=(24, 16, 16)).astype(np.float32)
WINDOWS = WindowPlan(shape=(8, 8, 8), classes=1, in_flight=3)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    add_model(folder, "doubles")
    add_model(folder, "half", entry="FP16", exit_="FP16")
    for name, behaviour in {
        "slow": "slow 30",
        "steady": "slow 0.05",
        "lazy": "slow 0.5",
        "nan": "nan",
        "shape": "shape",
        "memory": "memory",
        "dies": "dies",
    }.items():
        add_model(folder, name, behaviour)
    return folder


@pytest.fixture(scope="module")
def url(repository, tmp_path_factory):
    """Return the address of a server that all tests share."""
    with running(repository, tmp_path_factory.mktemp("log") / "server.log") as server:
        yield server.grpc_url


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert regions_of(os.getpid()) == set()
    assert abandoned() == set()


def scores_of(url, model, *, image=IMAGE, windows=WINDOWS, **options):
    with TritonPredictor(url, model, **options) as predictor:
        return predict_in_windows(image, predictor, windows=windows)


@pytest.mark.parametrize(
    ("transport", "told"),
    [
        ("auto", "system shared memory"),
        ("system", "system shared memory"),
        ("grpc", "gRPC messages"),
    ],
)
def test_windows_travel_by_what_works_and_it_is_logged(url, caplog, transport, told):
    caplog.set_level(logging.INFO)
    scores = scores_of(url, "doubles", transport=transport)
    assert scores[0] == pytest.approx(2 * IMAGE, abs=1e-5)
    assert [r.getMessage() for r in caplog.records if "travel" in r.message] == [f"windows travel by {told}"]


@pytest.mark.parametrize("transport", ["system", "grpc"])
def test_every_transport_and_number_in_flight_gives_the_same_bits(url, transport):
    once = scores_of(url, "doubles", windows=WindowPlan(shape=(8, 8, 8), classes=1, in_flight=1))
    many = WindowPlan(shape=(8, 8, 8), classes=1, in_flight=7)
    assert np.array_equal(scores_of(url, "doubles", transport=transport, windows=many), once)


def test_batches_go_together_and_come_back_apart(url):
    plan = WindowPlan(shape=(8, 8, 8), classes=1, batch=4, in_flight=2)
    assert scores_of(url, "doubles", windows=plan)[0] == pytest.approx(2 * IMAGE, abs=1e-5)


def test_half_precision_tensors_are_filled_and_read(url):
    scores = scores_of(url, "half")
    assert scores.dtype == np.float32
    assert scores[0] == pytest.approx(2 * IMAGE.astype(np.float16).astype(np.float32), abs=5e-3)


def test_regions_are_used_again(url, monkeypatch):
    made = []
    original = Region.__init__
    monkeypatch.setattr(Region, "__init__", lambda self, *a, **k: made.append(1) or original(self, *a, **k))
    scores_of(url, "doubles", image=np.zeros((64, 16, 16), np.float32))
    # one to try, then one in flight each before the size of the answers is known, and once after
    assert len(made) <= 1 + 2 * WINDOWS.in_flight


@pytest.mark.skipif(device_available(), reason="there is a CUDA device")
def test_cuda_shared_memory_is_refused_by_name_where_there_is_none(url):
    with pytest.raises(InferenceError, match="cannot be reached by CUDA shared memory") as told:
        scores_of(url, "doubles", transport="cuda")
    assert told.value.exit_code == 6


@pytest.mark.skipif(not device_available(), reason="CuPy sees no CUDA device")
def test_windows_of_the_host_travel_by_memory_of_the_device_and_come_back(url):
    assert np.array_equal(scores_of(url, "doubles", transport="cuda"), scores_of(url, "doubles"))


def test_shared_memory_that_is_full_is_told_and_messages_take_over(url, caplog, monkeypatch):
    caplog.set_level(logging.INFO)

    def full(descriptor, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert scores_of(url, "doubles")[0] == pytest.approx(2 * IMAGE, abs=1e-5)
    log = caplog.text
    assert "no system shared memory: [Errno 28] No space left on device" in log
    assert "windows travel by gRPC messages" in log


def test_shared_memory_that_fills_up_in_the_middle_is_survived(url, caplog, monkeypatch):
    original, given = os.posix_fallocate, []

    def twice(descriptor, offset, size):
        given.append(size)
        if len(given) > 2:
            raise OSError(28, "No space left on device")
        original(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", twice)
    assert scores_of(url, "doubles")[0] == pytest.approx(2 * IMAGE, abs=1e-5)
    assert "no more system shared memory" in caplog.text


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nan", "scores hold values that are not finite"),
        ("shape", r"answered \(1, 1, 8, 8, 7\), expected \(1, 1, 8, 8, 8\)"),
        ("memory", r"model 'memory' at .*out of memory"),
        ("missing", "model 'missing' at .*(not found|unknown model|no model of this name)"),
    ],
)
def test_what_a_model_does_wrong_is_told_at_once(url, model, message):
    began = time.monotonic()
    with pytest.raises(InferenceError, match=message) as told:
        scores_of(url, model)
    assert told.value.exit_code == 6
    assert time.monotonic() - began < 5


def test_slow_model_is_given_up_at_the_deadline_and_told_so(url, repository):
    began = time.monotonic()
    with pytest.raises(InferenceError, match=r"'slow' at .*DEADLINE_EXCEEDED.*--deadline") as told:
        scores_of(url, "slow", deadline_s=0.5, windows=WindowPlan(shape=(8, 8, 8), classes=1, in_flight=1))
    assert time.monotonic() - began < 3
    assert told.value.exit_code == 6
    until((repository / "slow/1/cancelled").exists)  # the server does not go on with it


def test_each_window_in_flight_has_the_deadline_to_itself(url):
    image = IMAGE[:8, :8]
    # 3 windows of 0.5 s each behind each other at a server that takes one at a time: the last after 1.5 s
    plan = WindowPlan(shape=(8, 8, 8), classes=1, in_flight=3)
    assert scores_of(url, "lazy", image=image, windows=plan, deadline_s=1.2).shape == (1, 8, 8, 16)


def test_model_whose_process_dies_is_told(url):
    began = time.monotonic()
    with pytest.raises(InferenceError, match=r"'dies' at "):
        scores_of(url, "dies", patience_s=2, deadline_s=5)
    assert time.monotonic() - began < 30


def test_half_copied_model_folder_is_told_with_the_servers_reason(tmp_path, repository):
    shutil.copytree(repository / "doubles", tmp_path / "models/doubles")
    shutil.copytree(repository / "doubles", tmp_path / "models/other")
    (tmp_path / "models/doubles/1/model.onnx").write_bytes(b"half")
    with running(tmp_path / "models", tmp_path / "log", models=["other"]) as server:
        import tritonclient.grpc as protocol

        refused = pytest.raises(protocol.InferenceServerException)
        with protocol.InferenceServerClient(server.grpc_url) as client, refused:
            client.load_model("doubles")
        with (
            TritonPredictor(server.grpc_url, "doubles") as predictor,
            pytest.raises(
                InferenceError, match=r"'doubles' at .*did not become ready within 1 s: UNAVAILABLE: .*onnx"
            ) as told,
        ):
            predictor.wait_until_ready(1)
        assert told.value.exit_code == 6


def test_model_that_is_unloaded_in_the_middle_is_named(tmp_path, repository):
    import tritonclient.grpc as protocol

    with running(repository, tmp_path / "log", models=["steady"]) as server, ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        running_job = pool.submit(scores_of, server.grpc_url, "steady", image=np.zeros((400, 16, 16)))
        time.sleep(0.7)
        with protocol.InferenceServerClient(server.grpc_url) as client:
            client.unload_model("steady")
        with pytest.raises(
            InferenceError, match=r"'steady' at .* is not loaded .*(UNLOADING|unloaded).*load it again"
        ):
            running_job.result(20)
        assert time.monotonic() - began < 15


@pytest.mark.parametrize("transport", ["system", "grpc"])
def test_restart_of_the_server_in_the_middle_is_survived(tmp_path, repository, monkeypatch, transport):
    ports = free_ports(2)
    image = np.random.default_rng(2).normal(size=(48, 16, 16)).astype(np.float32)
    with at_ports(monkeypatch, *ports), ThreadPoolExecutor(1) as pool:
        with running(repository, tmp_path / "first.log", models=["steady"]) as server:
            job = pool.submit(scores_of, server.grpc_url, "steady", image=image, transport=transport)
            time.sleep(1.0)
            assert not job.done()
        time.sleep(0.5)  # nobody listens
        with running(repository, tmp_path / "second.log", models=["steady"]):
            assert job.result(60)[0] == pytest.approx(2 * image, abs=1e-5)


def test_server_that_does_not_come_back_is_given_up_when_the_patience_ends(tmp_path, repository):
    with ThreadPoolExecutor(1) as pool:
        with running(repository, tmp_path / "log", models=["steady"]) as server:
            image = np.zeros((400, 16, 16), np.float32)
            job = pool.submit(scores_of, server.grpc_url, "steady", image=image, patience_s=1.5)
            time.sleep(0.7)
        ended = time.monotonic()
        with pytest.raises(InferenceError, match=r"'steady' at .*UNAVAILABLE"):
            job.result(20)
        assert time.monotonic() - ended < 6


SCRIPT = """
import os, sys, numpy as np
from stages.windows.plan import WindowPlan
from stages.windows.sliding import predict_in_windows
from stages.lifecycle.signals import StopSignals
from stages.triton.client import TritonPredictor
from stages import StageError

class Telling(TritonPredictor):
    def submit_into(self, *windows, **options):
        request = super().submit_into(*windows, **options)
        print("asked", flush=True)
        return request

with StopSignals():
    try:
        with Telling(sys.argv[1], sys.argv[2]) as predictor:
            plan = WindowPlan(shape=(8, 8, 8), classes=1, in_flight=3)
            predict_in_windows(np.zeros((24, 16, 16), np.float32), predictor, windows=plan)
    except StageError as error:
        print(error)
        sys.exit(9)
"""


def stage(url, model):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, url, model],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(stages.__file__).parents[1],
    )
    for _ in range(3):
        assert process.stdout.readline() == "asked\n"
    return process


def test_sigterm_cancels_what_is_open_and_frees_the_regions(url, repository):
    cancelled = repository / "slow/1/cancelled"
    cancelled.unlink(missing_ok=True)
    with stage(url, "slow") as process:
        assert len(regions_of(process.pid)) == 3
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(10) == 9
        assert time.monotonic() - began < 4
        assert "stopped by SIGTERM" in process.stdout.read()
    until(cancelled.exists)


def test_regions_of_a_stage_that_was_killed_are_swept_by_the_next(url):
    with stage(url, "slow") as process:
        left = regions_of(process.pid)
        process.kill()
    assert len(left) == 3
    assert left <= abandoned()
    assert scores_of(url, "doubles").shape == (1, *IMAGE.shape)


def test_server_survives_a_stage_that_was_killed_in_the_middle(url):
    with stage(url, "steady") as process:
        process.kill()
    assert scores_of(url, "doubles")[0] == pytest.approx(2 * IMAGE, abs=1e-5)


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
