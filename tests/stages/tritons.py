"""Real Triton servers for tests, with models that behave in known ways."""

import os
from contextlib import contextmanager, suppress
from pathlib import Path

import onnx
import pytest

from clara_wf.model_server import server as model_server
from clara_wf.model_server.server import UnsupportedPlatformError, serve
from clara_wf.workspace import Places
from tests.ports import free_port

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "clara-windows-"

# Of the files that look for abandoned regions, or kill stages that leave some: one worker runs them all.
REGIONS = pytest.mark.xdist_group("regions of shared memory")

CONFIG = """
backend: "{backend}"
max_batch_size: 0
input [ {{ name: "image" data_type: TYPE_{entry} dims: [ -1, 1, -1, -1, -1 ] }} ]
output [ {{ name: "scores" data_type: TYPE_{exit_} dims: [ -1, 1, -1, -1, -1 ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
parameters [ {{ key: "behaviour" value: {{ string_value: "{behaviour}" }} }} ]
"""

# Doubles its windows, in the way that its parameter says.
BEHAVING = """
import json, os, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.behaviour, _, self.value = parameters["behaviour"]["string_value"].partition(" ")
        self.count = 0

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        image = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "image")).copy()
        self.count += 1
        scores = 2 * image
        if self.behaviour == "slow":
            end = time.monotonic() + float(self.value)
            while time.monotonic() < end and not request.is_cancelled():
                time.sleep(0.01)
            if request.is_cancelled():
                open(os.path.join(os.path.dirname(__file__), "cancelled"), "w").close()
        elif self.behaviour == "ramp":  # by value and by place in the window, so that every weight counts
            scores = np.tanh(image) * np.linspace(0.5, 1, image.shape[-1], dtype=image.dtype)
        elif self.behaviour == "nan":
            scores[0, 0, 0, 0, 0] = np.nan
        elif self.behaviour == "shape":
            scores = scores[..., 1:]
        elif self.behaviour == "memory":
            try:
                np.ones(2**60, np.float32)
            except MemoryError as error:
                return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"out of memory: {error}"))
        elif self.behaviour == "dies" and self.count == 3:
            os._exit(137)
        scores = np.ascontiguousarray(scores)
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("scores", scores.__dlpack__())])
"""


def add_model(repository, name, behaviour="double", *, entry="FP32", exit_="FP32"):
    """Put a model into a repository; one that only doubles is ONNX."""
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    backend = "onnxruntime" if behaviour == "double" else "python"
    config = CONFIG.format(backend=backend, entry=entry, exit_=exit_, behaviour=behaviour)
    (repository / name / "config.pbtxt").write_text(config)
    if backend == "python":
        (folder / "model.py").write_text(BEHAVING)
    else:
        onnx.save(doubling_model(entry, exit_), folder / "model.onnx")


def doubling_model(entry="FP32", exit_="FP32"):
    types = {"FP32": onnx.TensorProto.FLOAT, "FP16": onnx.TensorProto.FLOAT16}
    shape = ["batch", 1, "slices", "rows", "columns"]
    image = onnx.helper.make_tensor_value_info("image", types[entry], shape)
    scores = onnx.helper.make_tensor_value_info("scores", types[exit_], shape)
    cast = onnx.helper.make_node("Cast", ["image"], ["cast"], to=types[exit_])
    add = onnx.helper.make_node("Add", ["cast", "cast"], ["scores"])
    graph = onnx.helper.make_graph([cast, add], "doubling", [image], [scores])
    return onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)])


@contextmanager
def running(repository, log, *, models=None):
    """Serve a repository until the block ends; skip the test where the server does not run."""
    try:
        with serve(
            repository,
            models=models,
            cache=Places.here(os.environ).cache,
            log=log,
            on_progress=print,
        ) as server:
            yield server
    except UnsupportedPlatformError as error:
        pytest.skip(str(error))


@contextmanager
def at_ports(monkeypatch, *ports):
    """Let servers start at given ports of the loopback interface."""
    with monkeypatch.context() as patch:
        patch.setattr(model_server, "_free_ports", lambda count: list(ports[:count]))
        yield


def free_ports(count):
    return [free_port() for _ in range(count)]


def regions_of(process):
    """Return the names of the regions that a process holds."""
    held = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):  # just closed
            held.add(Path(os.readlink(descriptor)))
    return {path.name for path in held if path.match(f"{SHARED_MEMORY}/{PREFIX}*") and path.exists()}


def abandoned():
    """Return the names of the regions that no process holds and that are still there."""
    left = {path.name for path in SHARED_MEMORY.glob(f"{PREFIX}*")}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):  # gone
                left -= regions_of(folder.name)
    return {name for name in left if (SHARED_MEMORY / name).exists()}
