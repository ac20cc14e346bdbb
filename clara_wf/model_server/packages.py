"""What the embedded model server needs from the package index: pinned versions, checked by SHA-256."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from clara_wf.model_server.requirements import ELSEWHERE, ModelServerError

SERVER_REQUIREMENT = """\
nvidia-pytriton==0.7.0 \\
    --hash=sha256:21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df
"""
# The wheels for CPython 3.11, 3.12 and 3.13. NumPy 2 on every one: the backend passes tensors by DLPack,
# which crashes the server's stub under NumPy 1, as its other way corrupts data under NumPy 2.
_BOTH = """\
numpy==2.4.6 \\
    --hash=sha256:89cd468399cfd2504718f0ba50e410dca55a170b61a02ad92bb18c8a65186e93 \\
    --hash=sha256:90f9849678c75fe7afa2d348ac842c168b0a4d3d61919687216dfc547976d853 \\
    --hash=sha256:a7830bab239b79cda9c08c2da014761cafb48da6150e1da17ac06283f43b6089
openvino==2026.4.1 \\
    --hash=sha256:2d22b1da03f7caf74df30e9f6417d0ab2f637e4a38e08e1dcd294d2c37407aaf \\
    --hash=sha256:6b4375c17ddcac83a5180349e2e2bb811185c261066e2a920659892d58ef0e3b \\
    --hash=sha256:a9b637846c579d7b81b17b6585e0c7b1947574e8d13cf83d7307ce50cd2c352e
"""
BACKEND_REQUIREMENTS = f"""\
{_BOTH}onnxruntime==1.32.0 \\
    --hash=sha256:5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d \\
    --hash=sha256:99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8 \\
    --hash=sha256:02ea12a28c069ea8510093d95a7f6ff8126bfd9fc5c0d3381c03b80fb2b424ba
"""
# In place of onnxruntime, and never beside it. CUDA's libraries and cuDNN are in the versions that torch 2.11
# names, with which it was measured; cuFFT, which the wheel can use too, is left out.
GPU_REQUIREMENTS = f"""\
{_BOTH}nvidia-cublas==13.1.0.3 \\
    --hash=sha256:ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171
nvidia-cuda-nvrtc==13.0.88 \\
    --hash=sha256:ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575
nvidia-cuda-runtime==13.0.96 \\
    --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia-cudnn-cu13==9.19.0.56 \\
    --hash=sha256:d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf
nvidia-curand==10.4.0.35 \\
    --hash=sha256:1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc
onnxruntime-gpu==1.31.1 \\
    --hash=sha256:e26c475fe361b2015f45b4b824bd13f0bb20204e59b62814e6f0acd5f3d491a6 \\
    --hash=sha256:05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7 \\
    --hash=sha256:f659529e07c21ec6b6179fd1bfaf82ffb7c3dc9c0916e18f6f313f9a690891be
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


def make_python(folder: Path, requirements: str = BACKEND_REQUIREMENTS) -> None:
    """Make a Python environment with ONNX Runtime, OpenVINO and NumPy in an empty folder.

    Parameters
    ----------
    folder
        The folder.
    requirements
        What is installed: `BACKEND_REQUIREMENTS`, or `GPU_REQUIREMENTS`.

    Raises
    ------
    ModelServerError
        If this Python cannot make one, or the packages cannot be fetched.
    """
    _check_venv()
    _run([sys.executable, "-I", "-m", "venv", str(folder)], doing="make a Python environment")
    with _requirements(requirements) as path:
        _pip(folder / "bin/python", "install", "--requirement", str(path))
    _remove_unused(folder)


def link_python(folder: Path, packages: Sequence[Path]) -> None:
    """Make a Python environment in an empty folder, of packages that lie elsewhere and stay there.

    Parameters
    ----------
    folder
        The folder.
    packages
        Folders to import from, as ``site-packages`` is one; the first counts most.

    Raises
    ------
    ModelServerError
        If this Python cannot make one.
    """
    _run(
        [sys.executable, "-I", "-m", "venv", "--without-pip", str(folder)], doing="make a Python environment"
    )
    for site in folder.glob("lib/python3*/site-packages"):
        (site / "brought.pth").write_text("".join(f"{each.resolve()}\n" for each in packages))


def _remove_unused(folder: Path) -> None:
    for pattern in _UNUSED:
        for path in folder.glob(f"lib/python3*/site-packages/{pattern}"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def download_wheel(folder: Path, python: Path) -> Path:
    """Return the wheel of the server, fetched to a folder with the pip of a Python environment.

    Parameters
    ----------
    folder, python
        The folder and the interpreter.

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
    if os.strerror(errno.ENOSPC) in output:
        return (
            f"make room in the cache (CLARA_CACHE names another folder) and where temporary files lie "
            f"({tempfile.gettempdir()}; TMPDIR names another), {ELSEWHERE}"
        )
    if any(sign in output for sign in _NO_NETWORK):
        return f"check the network and pip's settings (proxy, index) and try again, {ELSEWHERE}"
    return f"try again, {ELSEWHERE}"
