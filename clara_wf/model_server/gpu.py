"""The NVIDIA GPU of this machine, as its driver describes it; run as a program it prints it as JSON.

The driver's library is asked, since CUDA itself needs it; ``nvidia-smi`` may be missing beside it. It is
asked in a process of its own, so that the one that wants to know keeps none of what the driver allocates.
Standard library only: the launcher asks before there is an environment.

References
----------
CUDA Driver API: version, initialization and device management.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SWITCH = "CLARA_GPU"
"""Environment variable that says no to the GPU, as ``CLARA_GPU=off``."""

_OFF = frozenset({"off", "no", "0", "false", "none"})
_DEV = Path("/dev")
_DEVICES = ("nvidia*", "dxg")  # the second on the Linux of Windows
_DRIVER = Path("/proc/driver/nvidia/version")
_PATIENCE_S = 30.0
_MAJOR, _MINOR = 75, 76  # attributes: compute capability


@dataclass(frozen=True, kw_only=True)
class NvidiaGpu:
    """The first GPU that CUDA programs see.

    Attributes
    ----------
    name
        Of the device, as ``NVIDIA H200``.
    memory_bytes
        Its memory.
    compute_capability
        Major, minor.
    cuda
        Newest CUDA that the driver runs: major, minor.
    driver
        The driver's own version, as ``580.95.05``; empty where it is not told.
    count
        How many GPUs there are.
    """

    name: str
    memory_bytes: int
    compute_capability: tuple[int, int]
    cuda: tuple[int, int]
    driver: str
    count: int

    def __str__(self) -> str:
        """Return a line for a person."""
        several = f"{self.count} x " if self.count > 1 else ""
        driver = f"driver {self.driver}, " if self.driver else ""
        return f"{several}{self.name}, {self.memory_bytes / 2**30:.0f} GiB, {driver}CUDA {_dotted(self.cuda)}"


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Return whether the environment leaves the GPU to be used."""
    return environ.get(SWITCH, "").strip().lower() not in _OFF


def without_gpu(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which no program finds a GPU, this project's or another."""
    return {**environ, SWITCH: "off", "CUDA_VISIBLE_DEVICES": ""}


def find_gpu(environ: Mapping[str, str] | None = None) -> NvidiaGpu | None:
    """Return the GPU of this machine; None where there is none, or none is wanted.

    Parameters
    ----------
    environ
        ``CLARA_GPU=off`` says no; ``CUDA_VISIBLE_DEVICES`` counts as for every CUDA program. Default: that of
        this process.
    """
    if not any(any(_DEV.glob(name)) for name in _DEVICES):
        return None
    command = [sys.executable, "-I", "-S", __file__]
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_PATIENCE_S)
        return _from_json(done.stdout) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired):
        return None


def unfit_reason(gpu: NvidiaGpu, *, cuda: tuple[int, int], compute_capability: tuple[int, int]) -> str | None:
    """Return why programs made for a CUDA do not run on a GPU; None if they do.

    Parameters
    ----------
    gpu
        The GPU.
    cuda
        The oldest that the driver must run: major, minor.
    compute_capability
        The oldest that they have machine code for.
    """
    if gpu.cuda[0] < cuda[0]:
        needed = {13: " (580 or newer)", 12: " (525 or newer)"}.get(cuda[0], "")
        return (
            f"{gpu.name}: its driver {gpu.driver}".rstrip()
            + f" runs CUDA {_dotted(gpu.cuda)}, CUDA {cuda[0]} needs a newer one{needed}"
        )
    if gpu.compute_capability < compute_capability:
        return (
            f"{gpu.name} has compute capability {_dotted(gpu.compute_capability)}, "
            f"{_dotted(compute_capability)} or newer is needed"
        )
    return None


def ask_driver(library: Any) -> NvidiaGpu | None:
    """Return what the driver's library says of its first device; None if it has none.

    Parameters
    ----------
    library
        ``libcuda.so.1``, loaded.
    """
    version, count, device, memory = (ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t())
    name = ctypes.create_string_buffer(256)
    if library.cuInit(0) or library.cuDriverGetVersion(ctypes.byref(version)):
        return None
    if library.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    library.cuDeviceGet(ctypes.byref(device), 0)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    return NvidiaGpu(
        name=name.value.decode(errors="replace"),
        memory_bytes=memory.value,
        compute_capability=(_attribute(library, _MAJOR, device), _attribute(library, _MINOR, device)),
        cuda=(version.value // 1000, version.value % 1000 // 10),
        driver=_driver_version(),
        count=count.value,
    )


def main(environ: Mapping[str, str]) -> int:
    """Print the GPU as JSON; return 1 if there is none, or none is wanted."""
    if not is_wanted(environ):
        return 1
    try:
        gpu = ask_driver(ctypes.CDLL("libcuda.so.1"))
    except (OSError, AttributeError):  # no library, or one that is none of NVIDIA's
        gpu = None
    if gpu is not None:
        sys.stdout.write(json.dumps(asdict(gpu)))
    return gpu is None


def _attribute(library: Any, number: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    library.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value


def _driver_version() -> str:
    try:
        found = re.search(r"\b(\d+\.\d+(\.\d+)?)\b", _DRIVER.read_text(errors="replace"))
    except OSError:
        return ""
    return found[1] if found else ""


def _from_json(text: str) -> NvidiaGpu | None:
    try:
        told = json.loads(text)
    except ValueError:
        return None
    pairs = {key: tuple(told[key]) for key in ("compute_capability", "cuda")}
    return NvidiaGpu(**{**told, **pairs})


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


if __name__ == "__main__":
    sys.exit(main(os.environ))
