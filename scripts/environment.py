"""Run Python with this project's packages: ``environment.py [--for NAME] [--found FILE] -- ARGS...``.

The first time an environment is made in the user's cache from ``requirements/NAME.txt`` (versions and
hashes are locked there); afterwards it is only looked up, and FILE says where it is. Where there is an NVIDIA
GPU it gets CuPy of the driver's CUDA as well, unless ``CLARA_GPU=off``. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from clara_wf.model_server.gpu import NvidiaGpu, find_gpu  # noqa: E402 - of this checkout
from clara_wf.workspace import cache_folder  # noqa: E402
from stages.runtime import atomic, file_lock  # noqa: E402

SUPPORTED = ((3, 11), (3, 13))
SIZES_MB = {"run": (235, 1130), "dev": (400, 1760), "cuda12": (170, 420), "cuda13": (165, 420)}
"""What is fetched, and what it takes on disk."""

_COMPLETE = ".complete"
_CUPY = ".cupy"
"""In an environment: what became of CuPy there; it is tried once, and again when this file is gone."""
_SILENCE_S = 10.0


def main(argv: list[str]) -> int:
    """Make sure of the environment and become its Python."""
    name, found, arguments = _parse(argv)
    requirements = ROOT / "requirements" / f"{name}.txt"
    try:
        python = ensure(requirements)
        ensure_cupy(python, find_gpu())
    except OSError as error:
        raise SystemExit(
            f"cannot use the folder {cache_folder(os.environ)} for the Python environment: {error.strerror}; "
            "name another one in CLARA_CACHE"
        ) from error
    if found is not None:
        _note(found, python)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.execv(python, [str(python), *arguments])  # noqa: S606 - no shell is wanted


def ensure(requirements: Path) -> Path:
    """Return the Python of the environment with these requirements; make it if it is not there."""
    if not SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        raise SystemExit(f"Python 3.11, 3.12 or 3.13 is needed, this is {sys.version.split()[0]}")
    # Of the Python itself, so that the one of an environment leads to that same environment.
    digest = hashlib.sha256(requirements.read_bytes() + sys.base_prefix.encode()).hexdigest()[:12]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache_folder(os.environ) / f"env-{requirements.stem}-py{version}-{digest}"
    python = folder / "bin" / "python"
    if not (folder / _COMPLETE).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{folder.name}.lock").open("w") as lock:
            file_lock.lock(lock.fileno())
            if not (folder / _COMPLETE).exists():
                _make(folder, python, requirements)
    return python


def ensure_cupy(python: Path, gpu: NvidiaGpu | None) -> None:
    """Install CuPy of the driver's CUDA into an environment, if it is not there and there is a GPU for it.

    Without it everything works on the CPU, so that a failure is told and no more.

    Parameters
    ----------
    python
        The Python of the environment.
    gpu
        What CuPy is for.
    """
    told = python.parent.parent / _CUPY
    if gpu is None or told.exists():
        return
    with (told.parent.parent / f"{told.parent.name}.lock").open("w") as lock:
        file_lock.lock(lock.fileno())
        if not told.exists():
            told.write_text(_add_cupy(python, gpu) + "\n", encoding="utf-8")


def _add_cupy(python: Path, gpu: NvidiaGpu) -> str:
    """Return what became of CuPy."""
    name = f"cuda{min(gpu.cuda[0], 13)}"
    requirements = ROOT / "requirements" / f"{name}.txt"
    if not requirements.exists():
        _say(f"{gpu}: CuPy needs a driver for CUDA 12 or 13; pre- and post-processing run on the CPU")
        return f"none: the driver runs CUDA {gpu.cuda[0]}"
    fetched, taken = SIZES_MB[name]
    _say(f"{gpu}: adding CuPy, once ({fetched} MB to fetch, {taken} MB on disk; CLARA_GPU=off does without)")
    try:
        _install([*_pip(python), "-r", str(requirements)], requirements)
    except SystemExit as error:
        again = f"to try again, remove {python.parent.parent / _CUPY}"
        _say(f"{error}; pre- and post-processing run on the CPU ({again})")
        return f"none: {error}"
    return name


def _make(folder: Path, python: Path, requirements: Path) -> None:
    started = time.monotonic()
    fetched, taken = SIZES_MB.get(requirements.stem, (0, 0))
    size = f" ({fetched} MB to fetch, {taken} MB on disk)" if fetched else ""
    _say(f"setting up an environment of its own, once{size}, in {folder}")
    try:
        subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(folder)], check=True, capture_output=True
        )
    except subprocess.CalledProcessError as error:
        last = (error.stdout + error.stderr).decode(errors="replace").strip().splitlines()[-1:]
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SystemExit(
            f"{sys.executable} cannot make an environment: {' '.join(last)}\n"
            f"install its venv module (Debian, Ubuntu: apt-get install python{version}-venv) and try again"
        ) from error
    _install([*_pip(python), "-r", str(requirements)], requirements)
    (folder / _COMPLETE).touch()
    _say(f"environment ready after {time.monotonic() - started:.0f} s")


def _pip(python: Path) -> list[str]:
    """Return the command that installs what is locked, and nothing else."""
    options = [
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
    ]
    return [str(python), "-m", "pip", "install", *options]


def _install(command: list[str], requirements: Path) -> None:
    """Run pip, showing how far it is; its whole output only if it fails."""
    total = sum(1 for line in requirements.read_text().splitlines() if "==" in line)
    lines: list[str] = []
    with (
        Progress(total) as progress,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        for line in process.stdout or ():
            lines.append(line)
            progress.see(line)
    if process.returncode != 0:
        sys.stderr.write("".join(lines[-30:]))
        raise SystemExit("pip could not install the packages; is the package index reachable?")


class Progress:
    """How far pip is: on a terminal one line that changes, elsewhere a line for each quarter and every 10 s.

    Parameters
    ----------
    total
        Number of packages, at most.
    """

    def __init__(self, total: int, *, silence_s: float = _SILENCE_S) -> None:
        self._total, self._silence_s = total, silence_s
        self._count = self._quarter = 0
        self._started = time.monotonic()
        self._doing = "beginning"
        self._ended = threading.Event()
        self._on_terminal = sys.stderr.isatty()
        self._ticks = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Progress:
        if not self._on_terminal:
            self._ticks.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._on_terminal:
            sys.stderr.write("\r\033[K")
        else:
            self._ticks.join()

    def see(self, line: str) -> None:
        """Take in a line of pip."""
        if line.startswith("Collecting"):
            self._count += 1
            package = line.split()[1].split("==")[0]
            self._doing = f"{self._count} of at most {self._total} packages"
            self._show(f"{self._doing}: {package}")
        elif line.startswith("Installing"):
            self._doing = "unpacking"
            self._show(self._doing, always=True)

    def _show(self, text: str, *, always: bool = False) -> None:
        if self._on_terminal:
            sys.stderr.write(f"\r\033[K  {text}")
            sys.stderr.flush()
            return
        quarter = 4 * self._count // max(self._total, 1)
        if always or quarter > self._quarter:
            self._quarter = quarter
            _say(f"  {text}")

    def _tick(self) -> None:
        while not self._ended.wait(self._silence_s):
            _say(f"  {self._doing}, after {time.monotonic() - self._started:.0f} s")


def _note(found: Path, python: Path) -> None:
    """Leave word for scripts/with-python where the environment is; without it Python is asked again."""
    with suppress(OSError):
        atomic.write(found, f"{python}\n", durable=False)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - this runs before there is anything to log with


def _parse(argv: list[str]) -> tuple[str, Path | None, list[str]]:
    name, found = "run", None
    if argv[:1] == ["--for"]:
        name, argv = argv[1], argv[2:]
    if argv[:1] == ["--found"]:
        found, argv = Path(argv[1]), argv[2:]
    if argv[:1] == ["--"]:
        argv = argv[1:]
    return name, found, argv


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
