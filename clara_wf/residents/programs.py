"""Which stages can stay, and which of their jobs may share a process."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.lifecycle.settings import PREFIX

__all__ = ["Program", "is_driven", "pool_name"]

_DRIVERS = ("stages", "stages.lifecycle", "stages.lifecycle.driver")
_MATTER = (
    *("CLARA_", "PYTHON", "NUMBA_", "OMP_", "OPENBLAS_", "MKL_", "CUDA_", "CUPY_", "NVIDIA_", "LD_"),
    *("MALLOC_", "LC_"),
)
_MATTER_EACH = frozenset({"PATH", "HOME", "LANG", "TZ"})


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is kept ready.

    Attributes
    ----------
    stage
        Its name.
    command
        The program by its path, and its arguments.
    environ
        Its environment, without what is of one job.
    at_once
        How many jobs work at the same time.
    """

    stage: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    at_once: int = 1


def is_driven(command: Sequence[str]) -> bool:
    """Return whether a command runs a Python program that uses `stages.main`, which knows of orders.

    Any other would begin its work when it is started to be kept, without a job.

    Parameters
    ----------
    command
        The program by its path, and its arguments.
    """
    program, *rest = command
    if not Path(program).name.startswith("python") or not rest:
        return False
    if rest[0] == "-m":
        return len(rest) > 1 and rest[1] != "stages" and _uses_driver(_file_of(rest[1]))
    return rest[0].endswith(".py") and _uses_driver(Path(rest[0]))


def _file_of(module: str) -> Path | None:
    for name in (f"{module}.__main__", module):
        try:
            found = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            continue
        if found is not None and found.origin:
            return Path(found.origin)
    return None


def _uses_driver(file: Path | None) -> bool:
    try:
        return file is not None and any(map(_is_driver, ast.walk(ast.parse(file.read_bytes()))))
    except (OSError, SyntaxError, ValueError):
        return False


def _is_driver(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module in _DRIVERS and any(each.name == "main" for each in node.names)
    return isinstance(node, ast.Attribute) and node.attr == "main" and ast.unparse(node.value) in _DRIVERS


def pool_name(program: Program) -> str:
    """Return the name of the folder of orders for jobs that may share a process.

    They are those of the same command whose environments agree in all that is looked at when modules are
    imported; where a file is named from the current folder, that counts too.

    Parameters
    ----------
    program
        The program.
    """
    lasting = {
        key: value
        for key, value in sorted(program.environ.items())
        if key in _MATTER_EACH or (key.startswith(_MATTER) and not key.startswith(PREFIX))
    }
    is_relative = any(not Path(part).is_absolute() and Path(part).is_file() for part in program.command)
    same = json.dumps([list(program.command), lasting, os.getcwd() if is_relative else ""])
    return f"{program.stage}-{hashlib.sha256(same.encode()).hexdigest()[:12]}"
