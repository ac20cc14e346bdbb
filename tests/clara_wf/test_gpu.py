"""What the driver says of the GPU, by a driver of the test's own."""

import json
import os
import subprocess
import sys

import pytest

from clara_wf import gpu
from clara_wf.gpu import Gpu, ask_driver, find_gpu, is_wanted, lack_of

H200 = Gpu(
    name="NVIDIA H200",
    memory_bytes=141 << 30,
    compute_capability=(9, 0),
    cuda=(13, 0),
    driver="580.95.05",
    count=1,
)


class Driver:
    """``libcuda`` of a machine with one H200."""

    def __init__(self, *, count=1, init=0):
        self._count, self._init = count, init

    def cuInit(self, flags):  # noqa: N802 - of the driver's API
        return self._init

    def cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = 13000
        return 0

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self._count
        return 0

    def cuDeviceGet(self, device, ordinal):  # noqa: N802
        return 0

    def cuDeviceGetName(self, name, size, device):  # noqa: N802
        name.value = b"NVIDIA H200"
        return 0

    def cuDeviceTotalMem_v2(self, memory, device):  # noqa: N802
        memory._obj.value = 141 << 30
        return 0

    def cuDeviceGetAttribute(self, value, number, device):  # noqa: N802
        value._obj.value = {75: 9, 76: 0}[number]
        return 0


def test_first_device_is_described(monkeypatch):
    monkeypatch.setattr(gpu, "_driver_version", lambda: "580.95.05")
    assert ask_driver(Driver()) == H200
    assert str(H200) == "NVIDIA H200, 141 GiB, driver 580.95.05, CUDA 13.0"
    assert str(ask_driver(Driver(count=8))).startswith("8 x NVIDIA H200, ")


@pytest.mark.parametrize("driver", [Driver(count=0), Driver(init=100), Driver(init=999)])
def test_driver_without_a_device_has_no_gpu(driver):
    assert ask_driver(driver) is None


@pytest.mark.parametrize("value", ["off", "OFF", "no", "0", "false", " none "])
def test_environment_says_no(value):
    assert not is_wanted({"CLARA_GPU": value})
    assert gpu.main({"CLARA_GPU": value}) == 1


@pytest.mark.parametrize("environ", [{}, {"CLARA_GPU": ""}, {"CLARA_GPU": "on"}, {"CLARA_GPU": "auto"}])
def test_environment_that_does_not_say_no_leaves_the_gpu(environ):
    assert is_wanted(environ)


@pytest.mark.parametrize(
    ("cuda", "capability", "lack"),
    [
        ((13, 0), (9, 0), None),
        ((13, 2), (12, 0), None),
        (
            (12, 4),
            (9, 0),
            r"NVIDIA H200: its driver 580\S+ runs CUDA 12.4, CUDA 13 needs a newer one \(580 or newer\)",
        ),
        ((13, 0), (7, 0), r"compute capability 7.0, 7.5 or newer is needed"),
    ],
)
def test_gpu_that_does_not_do_is_told_with_what_is_needed(cuda, capability, lack):
    found = Gpu(**{**H200.__dict__, "cuda": cuda, "compute_capability": capability})
    told = lack_of(found, cuda=(13, 0), compute_capability=(7, 5))
    if lack is None:
        assert told is None
    else:
        assert pytest.importorskip("re").search(lack, told)


def test_program_prints_what_can_be_read_back(monkeypatch, capsys):
    monkeypatch.setattr(gpu.ctypes, "CDLL", lambda name: Driver())
    assert gpu.main({}) == 0
    told = capsys.readouterr().out
    assert json.loads(told)["name"] == "NVIDIA H200"
    assert gpu._from_json(told).cuda == (13, 0)


@pytest.mark.parametrize("library", ["libc.so.6", "no such library.so"])
def test_library_that_is_none_of_the_drivers_is_no_gpu(monkeypatch, library):
    load = gpu.ctypes.CDLL
    monkeypatch.setattr(gpu.ctypes, "CDLL", lambda name: load(library))
    assert gpu.main({}) == 1


def test_program_ends_without_a_trace_where_there_is_no_gpu():
    done = subprocess.run(
        [sys.executable, "-I", "-S", gpu.__file__],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


@pytest.mark.parametrize("answer", ["exit 1", "echo nonsense", "sleep 5"])
def test_driver_that_does_not_answer_is_no_gpu(monkeypatch, tmp_path, answer):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setattr(gpu, "_DEVICES", (tmp_path,))
    monkeypatch.setattr(gpu, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(gpu.sys, "executable", str(program))
    assert find_gpu({"PATH": os.defpath}) is None
