"""What of a model's folder a server would run as a program, found without running it."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clara_wf.models.config_references import run_by_config
from clara_wf.models.plain_files import entries
from stages.errors import printable
from stages.lifecycle.model_record import DESCRIPTION

_CHUNK = 1 << 20
_LIBRARIES = (".so", ".dll", ".dylib", ".pyd")
_PROGRAMS = (".py", ".pyc", ".pyo", ".pyw", ".sh", ".whl", ".egg")
_PICKLES = (".pkl", ".pickle", ".joblib", ".ckpt", ".dill")
_TORCH = (".pt", ".pth", ".pt2", ".bin")
_BUNDLES = (".json", ".yaml", ".yml")
_NAMES_CODE = re.compile(rb"_target_|[\"':\s]\$(?!schema|ref|id|defs|comment)[A-Za-z_@(\[]")
_PICKLED = re.compile(rb"\x80[\x02-\x05]")


@dataclass(frozen=True, kw_only=True)
class RunnableFile:
    """Something of a model that a server would run.

    Attributes
    ----------
    path
        In the model's folder.
    size
        Bytes.
    sha256
        Hexadecimal.
    why
        It would run.
    """

    path: str
    size: int
    sha256: str
    why: str

    def __str__(self) -> str:
        return f"{printable(self.path)}, {self.size} bytes, SHA-256 {self.sha256}: {self.why}"


def code_in(folder: Path) -> list[RunnableFile]:
    """Return what a server would run of a model's folder, by path; a link counts, since it is another's file.

    Raises
    ------
    InputError
        If its configuration cannot be read.
    """
    backend, named = run_by_config(folder)
    found = []
    for path in entries(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink():
            why = f"a symbolic link to {printable(os.readlink(path))}"
        elif name == DESCRIPTION:
            why = backend
        elif path.name in named:
            why = f"{DESCRIPTION} names it as a library"
        else:
            why = _why_it_runs(path)
        if why:
            found.append(_code(path, name, why))
    return found


def _code(path: Path, name: str, why: str) -> RunnableFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return RunnableFile(path=name, size=path.stat().st_size, sha256=digest, why=why)


def _why_it_runs(path: Path) -> str:
    """Return why a server, or what loads the model, would run a file; "" if it would not."""
    suffixes, last = path.suffixes, path.suffix.lower()
    with path.open("rb") as file:
        begin = file.read(8)
        if begin.startswith(b"\x7fELF") or any(each in _LIBRARIES for each in suffixes):
            return "a library, which is loaded into the server"
        if begin.startswith(b"#!") or last in _PROGRAMS:
            return "a program, which a backend runs"
        if last in _TORCH or last in _PICKLES or _PICKLED.match(begin):
            return _why_unpickled(path, file, begin)
        if last in _BUNDLES:
            return _why_bundle(file)
        if begin.startswith(b"PK\x03\x04") and _has_entry(file, ".py", ".pyc", ".so", ".pkl"):
            return "an archive with programs or pickles in it"
    return ""


def _why_unpickled(path: Path, file: BinaryIO, begin: bytes) -> str:
    if begin.startswith(b"PK\x03\x04") and path.suffix.lower() in _TORCH:
        is_script = _has_entry(file, "/constants.pkl") and _has_entry(file, ".py")
        return "" if is_script else "a pickle of PyTorch and no TorchScript: loading it runs what it says"
    if begin.startswith(b"PK\x03\x04") or _PICKLED.match(begin) or path.suffix.lower() in _PICKLES:
        return "a pickle: loading it runs what it says"
    if path.suffix.lower() == ".pth":
        return "no TorchScript, though its name says so; Python runs the lines of such a file"
    return ""


def _has_entry(file: BinaryIO, *ends: str) -> bool:
    with suppress(zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return any(name.endswith(ends) for name in zipfile.ZipFile(file).namelist())
    return True  # nobody knows


def _why_bundle(file: BinaryIO) -> str:
    file.seek(0)
    before = b""
    while chunk := file.read(_CHUNK):
        if _NAMES_CODE.search(before + chunk):
            return "a configuration that names functions (_target_, $...), which a bundle's loader calls"
        before = chunk[-16:]
    return ""
