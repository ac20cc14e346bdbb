"""Run Python with this project's packages: ``environment.py [--for NAME] -- ARGS...``.

The first time an environment is made in the user's cache from ``requirements/NAME.txt`` (versions and
hashes are locked there); afterwards it is only looked up. Standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ((3, 11), (3, 13))
_COMPLETE = ".complete"


def main(argv: list[str]) -> int:
    """Make sure of the environment and become its Python."""
    name, arguments = _parse(argv)
    requirements = ROOT / "requirements" / f"{name}.txt"
    python = ensure(requirements)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.execv(python, [str(python), *arguments])  # noqa: S606 - no shell is wanted


def ensure(requirements: Path) -> Path:
    """Return the Python of the environment with these requirements; make it if it is not there."""
    if not SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        raise SystemExit(f"Python 3.11, 3.12 or 3.13 is needed, this is {sys.version.split()[0]}")
    digest = hashlib.sha256(requirements.read_bytes() + sys.prefix.encode()).hexdigest()[:12]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache_folder() / f"env-{requirements.stem}-py{version}-{digest}"
    python = folder / "bin" / "python"
    if not (folder / _COMPLETE).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / _COMPLETE).exists():
                _make(folder, python, requirements)
    return python


def cache_folder() -> Path:
    """Return the folder for what can be made again: ``CLARA_CACHE``, or one in the user's cache."""
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("CLARA_CACHE") or user_cache / "clara-stages")


def _make(folder: Path, python: Path, requirements: Path) -> None:
    started = time.monotonic()
    _say(f"setting up an environment of its own, once, in {folder}")
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
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps"]
    _install([*command, "--require-hashes", "--only-binary=:all:", "-r", str(requirements)], requirements)
    (folder / _COMPLETE).touch()
    _say(f"environment ready after {time.monotonic() - started:.0f} s")


def _install(command: list[str], requirements: Path) -> None:
    """Run pip, showing how far it is; its whole output only if it fails."""
    total = sum(1 for line in requirements.read_text().splitlines() if "==" in line)
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            lines.append(line)
            if line.startswith("Collecting"):
                count = sum(1 for each in lines if each.startswith("Collecting"))
                _show(f"  {count} of at most {total}: {line.split()[1].split('==')[0]}")
            elif line.startswith("Installing"):
                _show("  unpacking")
    _show("")
    if process.returncode != 0:
        sys.stderr.write("".join(lines[-30:]))
        raise SystemExit("pip could not install the packages; is the package index reachable?")


def _show(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - this runs before there is anything to log with


def _parse(argv: list[str]) -> tuple[str, list[str]]:
    name = "run"
    if argv[:1] == ["--for"]:
        name, argv = argv[1], argv[2:]
    if argv[:1] == ["--"]:
        argv = argv[1:]
    return name, argv


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
