"""The CUDA sources: they compile, and what they say is what the host does.

Without a device their text is compiled for the host, where a loop takes the place of the threads.
"""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import stages
from stages.compute.intensity import Intensity
from stages.compute.resample import axis_samples, labels_from_scores, resample_linear
from stages.volume.geometry import Grid
from tests.stages.cuda_host import HostKernels

SOURCES = sorted((Path(stages.__file__).parent / "compute" / "cuda").glob("*.cu"))
ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_cuda_source_compiles(tmp_path, source, architecture):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("there is no nvcc")
    made = tmp_path / "kernel.ptx"
    options = ["-ptx", "-std=c++14", f"-arch={architecture}", "-Werror", "all-warnings"]
    done = subprocess.run([nvcc, *options, "-o", made, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = source.read_text()
    by_macro = len(re.findall(r"^(?:RESAMPLE|ROWS|CUT|ADD)\(", text, re.MULTILINE))
    in_macros = text.count("__global__ void name(")
    assert made.read_text().count(".entry") == text.count("__global__ void ") - in_macros + by_macro


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    source = next(source for source in SOURCES if source.name == "resample.cu")
    return HostKernels(
        source, tmp_path_factory.mktemp("kernels"), names=("resample_int16", "resample_float32")
    )


def run(kernels, name, arguments, voxels):
    kernels.launch(name, (-(-voxels // 32),), (32,), arguments)


def steps(array):
    return [stride // array.itemsize for stride in array.strides]


def arrays_of(samples):
    return [array for axis in samples for array in axis.arrays]


SOURCE = Grid((5, 6, 7), np.diag([2.0, 1.0, 1.5, 1.0]))
TARGET = Grid((7, 11, 6), np.array([[1.7, 0, 0, -1], [0, -0.5, 0, 5.2], [0, 0, 1.9, 0.4], [0, 0, 0, 1.0]]))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_device_resamples_as_the_host_does(kernels, dtype):
    whole = np.random.default_rng(1).integers(-1000, 2000, (7, 6, 5)).astype(dtype)
    array = whole.transpose(2, 1, 0)[::-1, :, ::-1]
    samples, out = axis_samples(SOURCE, TARGET), np.empty(TARGET.shape, np.float32)
    intensity = Intensity(-160, 240, zero=40, scale=1 / 400, offset=0.5)
    arguments = [array, *steps(array), *arrays_of(samples), *intensity.numbers, out, *out.shape]
    run(kernels, f"resample_{np.dtype(dtype)}", arguments, out.size)
    assert np.abs(out - resample_linear(array, SOURCE, TARGET, intensity=intensity)).max() < 1e-5
    assert out.std() > 0.1


@pytest.mark.parametrize("threshold", [None, 0.6])
def test_device_labels_as_the_host_does(kernels, threshold):
    scores = np.random.default_rng(2).random((3, *SOURCE.shape), dtype=np.float32)
    samples = axis_samples(SOURCE, TARGET)
    out = np.full(TARGET.shape, 99, np.uint8)[:, ::-1]
    limit = float("nan") if threshold is None else threshold
    values = np.array([4, 1, 2, 0], np.uint8)
    run(
        kernels,
        "label",
        [
            scores,
            np.int32(3),
            limit,
            *steps(scores),
            *arrays_of(samples),
            values,
            out,
            *steps(out),
            *out.shape,
        ],
        out.size,
    )
    expected = labels_from_scores(scores, SOURCE, TARGET, labels=(4, 1, 2), threshold=threshold)
    assert np.array_equal(out, expected)
    assert len(np.unique(out)) > 2
