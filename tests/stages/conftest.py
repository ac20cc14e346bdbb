"""Stages as they really run: scripts started as processes, wired by the locks of one job."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import stages
from stages.model.description import ModelDescription
from stages.triton.types import ServedModel, TensorSpec
from stages.volume.geometry import reorient

ALWAYS = {"PYTHONPATH": str(Path(stages.__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1"}

HEAD = """\
import os, signal, sys, time
from pathlib import Path
import stages
from stages.arrays import device_available, to_device
from stages import *
"""
TAIL = """
if __name__ == "__main__":
    sys.exit(main(globals().get("MyStage", lambda: execute)(), sys.argv[1:], os.environ, name="my-stage"))
"""
WRITES = """
def execute(job):
    (job.output_dir / "result.txt").write_text("42")
"""


class RunningStage:
    """A stage script that was started."""

    def __init__(self, process, errors):
        self.process = process
        self.errors = errors

    def wait(self, seconds=60):
        """Return the exit code."""
        return self.process.wait(seconds)

    def ask_to_stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    @property
    def log(self):
        return self.errors.read_text()

    def until_it_says(self, text, seconds=60):
        """Wait for a text in its log."""
        end = time.monotonic() + seconds
        while text not in self.log:
            assert time.monotonic() < end, f"it did not say {text!r} within {seconds} s: {self.log}"
            time.sleep(0.005)


class JobFolder:
    """A job whose stages are scripts of a few lines; `body` defines `execute(job)` or a class MyStage."""

    def __init__(self, root):
        self.root = root
        self.locks = root / "locks"
        self.started = []
        (root / "input").mkdir()

    def start(self, body=WRITES, *arguments, name="my-stage", wait="", timeout=5, **settings):
        script = self.root / f"{name}.py"
        script.write_text(HEAD + textwrap.dedent(body) + TAIL)
        return self.start_command([sys.executable, script, *arguments], name, wait, timeout, **settings)

    def start_command(self, command, name="my-stage", wait="", timeout=5, **settings):
        clara = {
            "JOBID": "job-1",
            "STAGENAME": name,
            "INPUT": self.root / "input",
            "OUTPUT": self.output(name),
            "SOURCE": self.root / "source",
            "LOCKDIR": self.locks,
            "WAITLOCKS": wait,
            "TIMEOUT": timeout,
        }
        environ = {f"NVIDIA_CLARA_{key}": str(value) for key, value in {**clara, **settings}.items()}
        errors = self.root / f"{name}-{len(self.started)}.err"
        with errors.open("w") as stderr:
            process = subprocess.Popen(command, env={**os.environ, **environ, **ALWAYS}, stderr=stderr)
        self.started.append(process)
        return RunningStage(process, errors)

    def run(self, *args, **settings):
        """Run a stage to its end and return its exit code."""
        return self.start(*args, **settings).wait()

    def output(self, name="my-stage"):
        return self.root / name / "output"

    def publish_input(self, content=""):
        self.locks.mkdir(exist_ok=True)
        (self.locks / "input.lock").write_text(content)

    def read(self, file):
        return json.loads((self.locks / file).read_text())

    def has(self, file):
        return (self.locks / file).exists()

    def until(self, file, seconds=60):
        """Wait for a file of the lock folder."""
        path = self.locks / file
        end = time.monotonic() + seconds
        while not path.exists():
            assert time.monotonic() < end, f"{path.name} did not appear within {seconds} s"
            time.sleep(0.005)
        return path

    def end(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def job(tmp_path):
    """Return a job with an input folder but without input.lock; what it started ends with the test."""
    job = JobFolder(tmp_path)
    yield job
    job.end()


@pytest.fixture
def ready_job(job):
    """Return a job whose input is there."""
    job.publish_input()
    return job


def rotation(about_x, about_y, about_z):
    """Return a rotation matrix from angles in degrees."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad([about_x, about_y, about_z])):
        turn = np.eye(3)
        a, b = [n for n in range(3) if n != axis]
        turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = turn @ matrix
    return matrix


@pytest.fixture
def oblique():
    """Return the affine of an oblique axial volume of 2.5 x 0.5 x 0.75 mm, first voxel at (-100, 50, 7)."""
    affine = np.eye(4)
    affine[:3, :3] = rotation(10, -20, 30)[:, ::-1] * [2.5, 0.5, 0.75]
    affine[:3, 3] = -100, 50, 7
    return affine


# A model's description, and volumes with a known answer

PARAMETERS = {
    "orientation": "SPL",
    "spacing_mm": [2.0, 1.0, 1.0],
    "intensity_clip_hu": [-100, 300],
    "intensity_scale": [0, 1],
    "padding_value_hu": -1000,
    "window_shape": [8, 16, 16],
    "overlap": 0.5,
    "blending": "gaussian",
    "activation": "none",
    "channel_labels": [0, 1, 2],
    "largest_component": [1, 2],
    "inside": {"2": 1},
}


def served_model(
    parameters=PARAMETERS, *, image=(-1, 1, 8, 16, 16), scores=(-1, 3, 8, 16, 16), datatype="FP32"
):
    return ServedModel(
        name="liver",
        version="1",
        inputs=(TensorSpec(name="image", datatype="FP32", shape=image),),
        outputs=(TensorSpec(name="scores", datatype=datatype, shape=scores),),
        parameters=parameters,
    )


@pytest.fixture
def served():
    """Return what makes a served model: parameters may be left out, replaced (as text) or added."""

    def make(*, without=(), **changes):
        texts = {key: json.dumps(value) for key, value in PARAMETERS.items() if key not in without}
        tensors = {key: changes.pop(key) for key in ("image", "scores", "datatype") if key in changes}
        return served_model({**texts, **changes}, **tensors)

    return make


@pytest.fixture
def describe():
    """Return what makes a model's description, with some values replaced."""
    return lambda **changes: ModelDescription.model_validate({**PARAMETERS, **changes})


@pytest.fixture
def place():
    """Return what makes a volume of an axial array of 2 x 1 x 1 mm, turned into an orientation."""

    def make(array, orientation="SPL", spacing=(2.0, 1.0, 1.0)):
        affine = np.zeros((4, 4))
        affine[[2, 1, 0], [0, 1, 2]] = spacing
        affine[:, 3] = -30, 12, 5, 1
        turned, turned_affine = reorient(array, affine, orientation)
        return stages.Volume(
            array=turned, affine=turned_affine, origin=stages.Origin(series_instance_uid="1.2.3")
        )

    return make
