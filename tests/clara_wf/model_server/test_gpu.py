"""What the driver says of the GPU, by a driver of the test's own."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from clara_wf.model_server import gpu
from clara_wf.model_server.gpu import NvidiaGpu, ask_driver, find_gpu, is_wanted, unfit_reason, without_gpu
from clara_wf.run import doctor
from clara_wf.run.doctor import examine_gpu

H200 = NvidiaGpu(
    name="NVIDIA H200",
    memory_bytes=141 << 30,
    compute_capability=(9, 0),
    cuda=(13, 0),
    driver="580.95.05",
    count=1,
)


class Driver:
    """``libcuda`` of a machine with one H200."""

    def __init__(self, *, count=1, init=0, version=13000):
        self._count, self._init, self._version = count, init, version

    def cuInit(self, flags):  # noqa: N802 - of the driver's API
        return self._init

    def cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = self._version
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
    assert ask_driver(Driver(version=12040)).cuda == (12, 4)


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
    found = replace(H200, cuda=cuda, compute_capability=capability)
    told = unfit_reason(found, cuda=(13, 0), compute_capability=(7, 5))
    if lack is None:
        assert told is None
    else:
        assert re.search(lack, told)


def examined(monkeypatch, found, *, cupy=None, usable=False, cache):
    module = None if cupy is None else SimpleNamespace(__version__=cupy)
    monkeypatch.setattr(doctor, "find_spec", lambda name: module)
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(doctor, "device_available", lambda: usable)
    return {each.what: (each.verdict, each.found, each.advice) for each in examine_gpu(found, cache=cache)}


def test_doctor_without_a_gpu_says_what_one_needs(monkeypatch, tmp_path):
    told = examined(monkeypatch, None, cache=tmp_path)
    assert list(told) == ["GPU"]
    assert told["GPU"][:2] == ("missing", "none seen")
    (off,) = examine_gpu(None, cache=tmp_path, wanted=False)
    assert (off.verdict, off.found) == ("ok", "not asked for (CLARA_GPU)")


def test_doctor_with_a_gpu_shows_all_that_uses_it(monkeypatch, tmp_path):
    told = examined(monkeypatch, H200, cupy="14.2.0", usable=True, cache=tmp_path)
    assert told["GPU"][:2] == ("ok", str(H200))
    assert told["CuPy"][:2] == ("ok", "14.2.0")
    assert told["model on the GPU"][:2] == ("ok", "can be; the first test installs it (1.3 GB to fetch)")


@pytest.mark.parametrize(
    ("cuda", "cupy", "found", "extra"),
    [
        ((13, 0), None, "not installed", "[cuda13]"),
        ((12, 4), None, "not installed", "[cuda12]"),
        ((13, 0), "14.2.0", "14.2.0, which cannot use the GPU", "[cuda13]"),
    ],
)
def test_doctor_says_which_cupy_is_missing(monkeypatch, tmp_path, cuda, cupy, found, extra):
    told = examined(monkeypatch, replace(H200, cuda=cuda), cupy=cupy, cache=tmp_path)
    assert told["CuPy"][:2] == ("missing", found)
    assert extra in told["CuPy"][2]


def test_doctor_says_why_the_model_is_computed_on_the_cpu(monkeypatch, tmp_path):
    told = examined(monkeypatch, replace(H200, cuda=(12, 4)), cache=tmp_path)
    assert told["model on the GPU"][0] == "missing"
    assert "runs CUDA 12.4" in told["model on the GPU"][1]


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
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(gpu, "_DEV", tmp_path)
    monkeypatch.setattr(gpu, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(gpu.sys, "executable", str(program))
    assert find_gpu({"PATH": os.defpath}) is None


def test_environment_without_a_gpu_hides_it_from_every_program():
    environ = without_gpu({"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0,1"})
    assert environ == {"PATH": "/bin", "CLARA_GPU": "off", "CUDA_VISIBLE_DEVICES": ""}
