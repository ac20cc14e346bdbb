"""CUDA kernels of this package's sources, compiled when one is first needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

_THREADS = 256


def launch(source: Path, name: str, threads: int, arguments: Sequence[Any]) -> None:
    """Start a kernel on CuPy's current stream.

    Parameters
    ----------
    source
        The ``.cu`` file.
    name
        The kernel.
    threads
        How many there are at least, in one dimension; with none, nothing is started.
    arguments
        Arrays of the device, and NumPy scalars of exactly the kernel's types.
    """
    if threads:
        _kernel(source, name)((-(-threads // _THREADS),), (_THREADS,), tuple(arguments))


@cache
def _kernel(source: Path, name: str) -> Any:
    return _module(source).get_function(name)


@cache
def _module(source: Path) -> Any:
    import cupy

    return cupy.RawModule(code=source.read_text(encoding="utf-8"), options=("--std=c++14",))
