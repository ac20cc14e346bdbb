"""The embedded model server on disk: the Triton of a wheel, and a Python for its backend.

The wheel of nvidia-pytriton holds a whole ``tritonserver`` with the Python backend. Only its server is
unpacked, never the package installed: that would tie this project to old versions of NumPy and others.
What comes from the package index is checked against the SHA-256 sums below.

::

    <cache>/triton-2.51.0-py3.X-<hash of the requirements>/
      python/                          an environment with onnxruntime and NumPy
      server/nvidia_pytriton.libs/     libraries of the server, and a link to this Python's own
      server/pytriton/tritonserver/    bin/tritonserver, backends/python, backends-<hash>
      complete                         written last

The server's binaries find their libraries by relative paths, so that depth is kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clara_wf.model_server_platform import (
    ELSEWHERE,
    ModelServerError,
    PlatformFacts,
    check_platform,
    fetch_libpython,
    find_libpython,
)

TRITON_VERSION = "2.51.0"

_SERVER_REQUIREMENT = """\
nvidia-pytriton==0.7.0 \\
    --hash=sha256:21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df
"""
# The wheels for CPython 3.11, 3.12 and 3.13. NumPy 2 on every one: the backend passes tensors by DLPack,
# which crashes the server's stub under NumPy 1, as its other way corrupts data under NumPy 2.
_BACKEND_REQUIREMENTS = """\
numpy==2.4.6 \\
    --hash=sha256:89cd468399cfd2504718f0ba50e410dca55a170b61a02ad92bb18c8a65186e93 \\
    --hash=sha256:90f9849678c75fe7afa2d348ac842c168b0a4d3d61919687216dfc547976d853 \\
    --hash=sha256:a7830bab239b79cda9c08c2da014761cafb48da6150e1da17ac06283f43b6089
onnxruntime==1.32.0 \\
    --hash=sha256:5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d \\
    --hash=sha256:99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8 \\
    --hash=sha256:02ea12a28c069ea8510093d95a7f6ff8126bfd9fc5c0d3381c03b80fb2b424ba
"""
_LAYOUT = "1"  # another number makes every installation anew

_TRITON = Path("pytriton/tritonserver")
_LIBRARIES = Path("nvidia_pytriton.libs")
_STUB = "triton_python_backend_stub"
_BUNDLED_LIBPYTHON = "libpython3-419a3a08.13.so.1.0"  # of Python 3.13, under a name of the wheel's own
_FOREIGN_SETTINGS = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_ROOT")
_NO_NETWORK = (
    "NewConnectionError",
    "Temporary failure in name resolution",
    "Name or service not known",
    "Could not find a version",
    "timed out",
)

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A complete installation of the model server.

    Attributes
    ----------
    folder
        Where it lies.
    """

    folder: Path

    @property
    def tritonserver(self) -> Path:
        """The server's program."""
        return self.folder / "server" / _TRITON / "bin/tritonserver"

    @property
    def python_bin(self) -> Path:
        """The folder that must come first in PATH: by it the server's stubs find their Python."""
        return self.folder / "python/bin"

    @property
    def is_complete(self) -> bool:
        """Whether it was made to the end, and the Python that it was made with is still there."""
        return (self.folder / "complete").is_file() and all(
            path.exists() for path in (self.python_bin / "python", _libpython_link(self.folder))
        )


def install(cache: Path, *, on_progress: Say, environ: Mapping[str, str] = os.environ) -> Installation:
    """Return the model server of this Python, installed the first time.

    Parameters
    ----------
    cache
        The folder that keeps the installation, 260 MB. Processes that install at the same time wait
        for each other; what an interrupted one left is made anew.
    on_progress
        Called with a line for the user before what takes a while.

    Raises
    ------
    ModelServerError
        If the server does not run on this machine, or its parts cannot be fetched.
    """
    installation = Installation(folder=_folder(cache))
    if installation.is_complete:
        return installation
    check_platform(PlatformFacts.of_this_machine())
    _check_venv()
    cache.mkdir(parents=True, exist_ok=True)
    with _sole_installer(installation.folder, on_progress):
        if not installation.is_complete:
            _install(installation.folder, on_progress, environ)
    return installation


def assemble_backends(installation: Installation, sources: Path) -> Path:
    """Return a folder of backends for the server: the Python backend, and those in `sources`.

    The folder is named after the contents of `sources`, so that a changed backend is always used and a
    server that runs on an older one is left alone.

    Parameters
    ----------
    sources
        ``<backend>/model.py`` for each backend that is written in Python.
    """
    triton = installation.folder / "server" / _TRITON
    models = sorted(sources.glob("*/model.py"))
    digest = hashlib.sha256(b"".join(path.parent.name.encode() + path.read_bytes() for path in models))
    folder = triton / f"backends-{digest.hexdigest()[:12]}"
    if not folder.is_dir():
        with _published(folder) as made:
            shutil.copytree(triton / "backends/python", made / "python", copy_function=os.link)
            for path in models:
                (made / path.parent.name).mkdir()
                shutil.copy(path, made / path.parent.name)
    return folder


def _folder(cache: Path) -> Path:
    pinned = _SERVER_REQUIREMENT + _BACKEND_REQUIREMENTS + _LAYOUT
    digest = hashlib.sha256(pinned.encode()).hexdigest()[:12]
    return cache.resolve() / f"triton-{TRITON_VERSION}-py{_python_version()}-{digest}"


def _install(folder: Path, say: Say, environ: Mapping[str, str]) -> None:
    """Make each part that is missing; a part appears whole or not at all."""
    started = time.monotonic()
    folder.mkdir(exist_ok=True)
    for leftover in folder.glob("*.part-*"):
        shutil.rmtree(leftover)
    libpython = _libpython(folder)
    python = folder / "python"
    if not (python / "bin/python").exists():
        shutil.rmtree(python, ignore_errors=True)
        say("installing a Python environment with onnxruntime for the model server (once, 45 MB to fetch)")
        with _published(python) as made:
            _make_python(made, environ)
    server = folder / "server"
    if not server.exists():
        say(f"installing the model server, Triton {TRITON_VERSION} (once, 55 MB to fetch)")
        with _published(server) as made:
            _make_server(made, python / "bin/python", environ)
    if libpython is not None:
        link = _libpython_link(folder)
        link.unlink(missing_ok=True)
        link.symlink_to(libpython)
    (folder / "complete").write_text("")
    say(f"installed the model server in {time.monotonic() - started:.0f} s")


def _make_python(folder: Path, environ: Mapping[str, str]) -> None:
    _run([sys.executable, "-m", "venv", str(folder)], environ, doing="make a Python environment")
    python = folder / "bin/python"
    with _requirements(_BACKEND_REQUIREMENTS) as path:
        _pip(python, "install", "--requirement", str(path), environ=environ)


def _make_server(folder: Path, python: Path, environ: Mapping[str, str]) -> None:
    wheel = _download_wheel(folder, python, environ)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if _is_needed(name)])
    wheel.unlink()
    stubs = folder / _TRITON / "python_backend_stubs"
    stub = folder / _TRITON / "backends/python" / _STUB
    shutil.move(stubs / _python_version() / _STUB, stub)
    shutil.rmtree(stubs)
    for program in (stub, folder / _TRITON / "bin/tritonserver"):
        program.chmod(0o755)


def _download_wheel(folder: Path, python: Path, environ: Mapping[str, str]) -> Path:
    with _requirements(_SERVER_REQUIREMENT) as path:
        _pip(python, "download", "--dest", str(folder), "--requirement", str(path), environ=environ)
    return next(folder.glob("*.whl"))


def _is_needed(name: str) -> bool:
    version = _python_version()
    if name.endswith(_BUNDLED_LIBPYTHON):
        return version == "3.13"
    wanted = (_LIBRARIES, _TRITON / "bin", _TRITON / "backends", _TRITON / "python_backend_stubs" / version)
    return name.startswith(tuple(f"{path}/" for path in wanted)) or "/licenses/" in name


def _libpython(folder: Path) -> Path | None:
    """Find or fetch this Python's shared library; None where the wheel's own will do."""
    name = f"libpython{_python_version()}.so.1.0"
    found = find_libpython(name)
    if found is None and _python_version() != "3.13":
        place = folder / "libpython"
        place.mkdir(exist_ok=True)
        found = find_libpython(name, folders=[path.parent for path in place.rglob(name)])
        found = found or fetch_libpython(name, place)
        if found is None:
            raise ModelServerError(
                f"the model server needs {name}, the shared library of Python {_python_version()}, and this "
                f"machine has none; install it (Debian, Ubuntu: apt-get install {name[:-7]}), {ELSEWHERE}"
            )
    return found


def _libpython_link(folder: Path) -> Path:
    version = _python_version()
    name = _BUNDLED_LIBPYTHON if version == "3.13" else f"libpython{version}.so.1.0"
    return folder / "server" / _LIBRARIES / name


def _python_version() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _check_venv() -> None:
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelServerError(
            f"the model server needs an environment of its own, and this Python has no module {missing[0]}; "
            f"install it (Debian, Ubuntu: apt-get install python{_python_version()}-venv), {ELSEWHERE}"
        )


@contextmanager
def _sole_installer(folder: Path, say: Say) -> Iterator[None]:
    """Hold the installation's lock; it is the process that holds it, so it never outlives one."""
    with folder.with_name(f"{folder.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another process that installs the model server")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _published(folder: Path) -> Iterator[Path]:
    """Give a new folder to fill, and rename it to `folder` when the block has ended well."""
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
    try:
        yield made
        made.rename(folder)
    except FileExistsError:
        pass  # another process was first
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _requirements(text: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requirements.txt"
        path.write_text(text)
        yield path


def _pip(python: Path, command: str, *arguments: str, environ: Mapping[str, str]) -> None:
    options = ["--disable-pip-version-check", "--no-input", "--no-cache-dir", "--retries=2", "--quiet"]
    checked = ["--no-deps", "--require-hashes", "--only-binary=:all:"]
    _run(
        [str(python), "-m", "pip", command, *options, *checked, *arguments],
        environ,
        doing="fetch the packages of the model server",
    )


def _run(command: list[str], environ: Mapping[str, str], *, doing: str) -> None:
    clean = {key: value for key, value in environ.items() if key not in _FOREIGN_SETTINGS}
    done = subprocess.run(
        command,
        env=clean,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
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
