"""CUDA kernels compiled for the host: loops take the place of the threads, in any order that is asked for.

The source may use ``blockIdx``, ``blockDim``, ``gridDim``, ``threadIdx`` (x, y, z) and the atomic functions
below; not shared memory, barriers or what a warp's threads tell each other. Whoever is about to compare and
swap is overtaken by the next threads first, so that what was read before may no longer be true.
"""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

_PRELUDE = """
#include <cmath>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <utility>
using std::isfinite;
#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
struct Place { unsigned x, y, z; };
static Place blockIdx, blockDim, gridDim, threadIdx;
static std::function<void()> next_thread;
static void be_overtaken() {
    static int waiting = 0;
    if (!next_thread || waiting == 16) return;
    Place block = blockIdx, thread = threadIdx;
    ++waiting;
    next_thread();
    --waiting;
    blockIdx = block;
    threadIdx = thread;
}
template <typename T> static T replaced(T *at, T value) { T old = *at; *at = value; return old; }
template <typename T, typename U> static T atomicAdd(T *at, U value) { return replaced<T>(at, *at + value); }
template <typename T, typename U> static T atomicOr(T *at, U value) { return replaced<T>(at, *at | value); }
template <typename T, typename U> static T atomicExch(T *at, U value) { return replaced<T>(at, value); }
template <typename T, typename U> static T atomicMin(T *at, U value) {
    return replaced<T>(at, *at < (T)value ? *at : (T)value);
}
template <typename T, typename U> static T atomicMax(T *at, U value) {
    return replaced<T>(at, *at > (T)value ? *at : (T)value);
}
template <typename T, typename U> static T atomicCAS(T *at, U expected, U value) {
    be_overtaken();
    return replaced<T>(at, *at == (T)expected ? (T)value : *at);
}
template <typename T> static T __ldg(const T *at) { return *at; }
static int __popc(unsigned bits) { return __builtin_popcount(bits); }
static int __ffs(int bits) { return __builtin_ffs(bits); }
template <typename... A, size_t... I>
static void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*(std::remove_cv_t<std::remove_reference_t<A>> *)arguments[I]...);
}
template <typename... A>
static void launch(void (*kernel)(A...), const unsigned *grid, const unsigned *block, const uint64_t *order,
                   uint64_t count, void **arguments) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    uint64_t threads = (uint64_t)block[0] * block[1] * block[2], i = 0;
    next_thread = [&] {
        if (i == count) return;
        uint64_t n = order ? order[i] : i, b = n / threads, t = n % threads;
        ++i;
        blockIdx = {(unsigned)(b % grid[0]), (unsigned)(b / grid[0] % grid[1]),
                    (unsigned)(b / grid[0] / grid[1])};
        threadIdx = {(unsigned)(t % block[0]), (unsigned)(t / block[0] % block[1]),
                     (unsigned)(t / block[0] / block[1])};
        call(kernel, arguments, std::index_sequence_for<A...>{});
    };
    while (i < count) next_thread();
    next_thread = nullptr;
}
#include "SOURCE"
"""
_LAUNCHER = """
extern "C" void launch_NAME(const unsigned *grid, const unsigned *block, const uint64_t *order,
                            uint64_t count, void **arguments) {
    launch(NAME, grid, block, order, count, arguments);
}
"""
_KERNEL = re.compile(r'extern "C" __global__ void(?: __launch_bounds__\([^)]*\))? (\w+)\(')


class HostKernels:
    """The kernels of one CUDA source.

    Parameters
    ----------
    source
        The ``.cu`` file.
    folder
        Where what is compiled goes.
    names
        Kernels that a macro of the source declares, whose names are thus not to be found in it.
    """

    def __init__(self, source: Path, folder: Path, *, names=()):
        compiler = shutil.which("g++")
        if compiler is None:
            pytest.skip("there is no g++")
        text = source.read_text(encoding="utf-8")
        kernels = [name for name in _KERNEL.findall(text) if name != "name"] + list(names)
        code, library = folder / f"{source.stem}.cpp", folder / f"{source.stem}.so"
        launchers = "".join(_LAUNCHER.replace("NAME", name) for name in kernels)
        code.write_text(_PRELUDE.replace("SOURCE", str(source)) + launchers)
        flags = ["-O2", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=off"]
        subprocess.run([compiler, *flags, "-o", library, code], check=True)
        self._library = ctypes.CDLL(library)

    def launch(self, name, grid, block, arguments, *, order=None):
        """Run a kernel over a grid of blocks, as CUDA would.

        Parameters
        ----------
        grid, block
            One to three sizes: x, y, z.
        arguments
            Arrays, or NumPy scalars of exactly the kernel's types (`float` is float32, `int` a 64-bit one).
        order
            None for one thread after the other, "reversed", or a generator for a random order: what comes out
            must not depend on it.
        """
        sizes = [(ctypes.c_uint * 3)(*(*size, 1, 1)[:3]) for size in (grid, block)]
        count = int(np.prod([*sizes[0], *sizes[1]], dtype=np.int64))
        turned = None
        if order is not None:
            turned = np.arange(count, dtype=np.uint64)[::-1].copy()
            if order != "reversed":
                order.shuffle(turned)
        kept = [_cell(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * len(kept))(*(ctypes.addressof(cell) for cell in kept))
        at = None if turned is None else ctypes.c_void_p(turned.ctypes.data)
        getattr(self._library, f"launch_{name}")(*sizes, at, ctypes.c_uint64(count), pointers)


def _cell(argument):
    if isinstance(argument, np.ndarray):
        return ctypes.c_void_p(argument.ctypes.data)
    if isinstance(argument, np.generic):
        return np.ctypeslib.as_ctypes_type(argument.dtype)(argument.item())
    return ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_longlong(argument)
