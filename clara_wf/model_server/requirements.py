"""What the embedded model server needs of this machine, and what is said when it lacks it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stages.errors import InferenceError

ELSEWHERE = "or run a Triton server elsewhere and name it with --server HOST:PORT"

_PYTHONS = ((3, 11), (3, 12), (3, 13))
_OLDEST_GLIBC = (2, 35)
_LDCONFIG_LINE = re.compile(r"^\s*(\S+) \(.*x86-64.*\) => (\S+)$", re.MULTILINE)


class ModelServerError(InferenceError, RuntimeError):
    """The embedded model server could not be installed or started, or has ended."""

    retryable = False


class UnsupportedPlatformError(ModelServerError):
    """The embedded model server does not run on this machine or with this Python."""


@dataclass(frozen=True, kw_only=True)
class PlatformFacts:
    """What decides whether the server runs here.

    Attributes
    ----------
    system, machine
        As `platform.system` and `platform.machine` name them.
    glibc
        Version of the GNU C library, None with another one.
    python
        Version of the running Python: major, minor.
    python_build
        ``"CPython"``, or what is different about it.
    """

    system: str
    machine: str
    glibc: tuple[int, int] | None
    python: tuple[int, int]
    python_build: str = "CPython"

    @classmethod
    def of_this_machine(cls) -> PlatformFacts:
        """Return the facts of the running interpreter and its machine."""
        build = platform.python_implementation()
        if sysconfig.get_config_var("Py_GIL_DISABLED"):
            build = f"free-threaded {build}"
        return cls(
            system=platform.system(),
            machine=platform.machine(),
            glibc=_glibc(),
            python=sys.version_info[:2],
            python_build=build,
        )


def check_platform(facts: PlatformFacts) -> None:
    """Return if the server runs on a machine like this.

    Raises
    ------
    UnsupportedPlatformError
        If it does not, with what was found and what to do.
    """
    if (facts.system, facts.machine) != ("Linux", "x86_64"):
        raise UnsupportedPlatformError(
            f"the embedded model server needs Linux on x86_64, this is {facts.system} on {facts.machine}; "
            f"use such a machine, {ELSEWHERE}"
        )
    if facts.glibc is None or facts.glibc < _OLDEST_GLIBC:
        found = "this machine has another C library" if facts.glibc is None else _found(facts.glibc)
        raise UnsupportedPlatformError(
            f"the embedded model server needs glibc {_dotted(_OLDEST_GLIBC)} or newer, {found}; "
            f"use Ubuntu 22.04, Debian 12 or newer, {ELSEWHERE}"
        )
    if facts.python not in _PYTHONS or facts.python_build != "CPython":
        raise UnsupportedPlatformError(
            f"the embedded model server needs CPython {', '.join(map(_dotted, _PYTHONS))}, "
            f"this is {facts.python_build} {_dotted(facts.python)}; use one of those, {ELSEWHERE}"
        )


def find_libpython(name: str, *, folders: Iterable[Path] | None = None) -> Path | None:
    """Return where the shared library of this Python lies.

    Parameters
    ----------
    name
        Its file name, ``libpython3.X.so.1.0``.
    folders
        Where to look; default: where this Python was installed, then what the loader knows.
    """
    if folders is None:
        libdir = sysconfig.get_config_var("LIBDIR")
        folders = [Path(libdir)] if libdir else []
        folders = [*folders, Path(sys.base_prefix) / "lib"]
        known = _known_to_the_loader(name)
    else:
        known = []
    return next((path for path in [*(folder / name for folder in folders), *known] if path.is_file()), None)


def fetch_libpython(name: str, folder: Path) -> Path | None:
    """Fetch the library from the distribution's packages, without root, where that is possible.

    Parameters
    ----------
    name
        Its file name, ``libpython3.X.so.1.0``.
    folder
        An existing folder; the package is unpacked there.

    Returns
    -------
    Path or None
        The library; None without apt, or if it knows no such package.
    """
    package = name.removesuffix(".so.1.0")
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        return None
    if subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True).returncode:
        return None
    for archive in folder.glob(f"{package}_*.deb"):
        subprocess.run(["dpkg", "-x", archive.name, "."], cwd=folder, capture_output=True)
        archive.unlink()
    return next((path for path in folder.rglob(name) if path.is_file()), None)


def _known_to_the_loader(name: str) -> list[Path]:
    ldconfig = shutil.which("ldconfig", path=f"{os.defpath}:/sbin:/usr/sbin")
    if ldconfig is None:
        return []
    listing = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False).stdout
    return [Path(path) for library, path in _LDCONFIG_LINE.findall(listing) if library == name]


def _glibc() -> tuple[int, int] | None:
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return None
    found = re.fullmatch(r"glibc (\d+)\.(\d+).*", text)
    return (int(found[1]), int(found[2])) if found else None


def _found(glibc: tuple[int, int]) -> str:
    return f"this machine has {_dotted(glibc)}"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
