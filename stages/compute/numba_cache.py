"""Functions that Numba compiles; import this only where one is needed, since Numba takes half a second.

What was compiled is kept beside the source, or, where this package is installed, in the user's folder for
caches. Where that cannot be written, as in an image, it is taken from the folder ``clara-compiled`` of the
Python environment, if there is one (a copy is used, since Numba must be able to write there), and compiled
anew otherwise.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from llvmlite import binding
from numba import types
from numba.misc.appdirs import AppDirs

from stages.runtime import atomic

Function = TypeVar("Function", bound=Callable[..., Any])
_INSTALLED = {"site-packages", "dist-packages"}
_AVX2 = "x86-64-v3"


def compiled(*signatures: object) -> Callable[[Function], Function]:
    """Return a decorator that compiles a function when its module is imported, to run without Python's lock.

    Parameters
    ----------
    signatures
        Numba's types of what the function takes and returns, one for each use.
    """

    def compile_(function: Function) -> Function:
        options = {"nogil": True, "error_model": "numpy"}
        try:
            return cast(Function, numba.njit([*signatures], cache=True, **options)(function))
        except RuntimeError:  # there is no folder for what was compiled
            return cast(Function, numba.njit([*signatures], **options)(function))

    return compile_


def read_only(kind: types.Type, dimensions: int, layout: str = "A") -> types.Array:
    """Return the type of an array that is read and never written; one that may be written fits as well.

    Parameters
    ----------
    kind
        Type of an element.
    dimensions
        Number of axes.
    layout
        How it lies in memory: ``"C"`` for in order, ``"A"`` for any way.
    """
    return types.Array(kind, dimensions, layout, readonly=True)


def _aim_at_many_processors() -> None:
    """Compile for all processors with AVX2, so that what one machine compiled serves another."""
    with suppress(RuntimeError):  # where LLVM cannot tell, for this processor
        features = binding.get_host_cpu_features()
        if platform.machine() == "x86_64" and features.get("avx2") and features.get("fma"):
            numba.config.CPU_NAME, numba.config.CPU_FEATURES = _AVX2, ""


def _copy_what_an_image_holds() -> None:
    """Have Numba work in a copy of what was compiled when the image was built."""
    held = Path(sys.prefix) / "clara-compiled"
    if numba.config.CACHE_DIR or not held.is_dir():
        return
    folder = Path(tempfile.gettempdir()) / f"clara-compiled-{os.getuid()}"
    if not folder.exists():
        with atomic.new_folder(folder) as made:
            shutil.copytree(held, made, dirs_exist_ok=True)
    if folder.stat().st_uid == os.getuid():
        numba.config.CACHE_DIR = str(folder)


def _keep_out_of_an_installation() -> None:
    """Keep Numba from writing beside the source where this package is installed."""
    if not numba.config.CACHE_DIR and not _INSTALLED.isdisjoint(Path(__file__).parts):
        numba.config.CACHE_DIR = AppDirs(appname="numba", appauthor=False).user_cache_dir


_aim_at_many_processors()
_copy_what_an_image_holds()
_keep_out_of_an_installation()
