"""What `stages.compute.components` does for a mask on the device: CUDA kernels find and join its runs.

A rule looks once at the mask, and then at a bit for each voxel. The host waits once: for the number of runs,
which memory is taken for.

References
----------
J. Jaiganesh, M. Burtscher, A high-performance connected components implementation for GPUs, 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.arrays import Array, array_namespace
from stages.compute.cuda import kernels
from stages.errors import SettingsError

SOURCE = Path(__file__).parent / "cuda" / "components.cu"
_WORD = 32  # voxels
_MOST = 2**31 - 1  # what an amount may be; 31 bits count runs and voxels

Launch = Callable[[str, int, tuple[Any, ...]], None]
"""Starts a kernel, named, with at least so many threads and these arguments."""


def _on_device(name: str, threads: int, arguments: tuple[Any, ...]) -> None:
    """Start a kernel on CuPy's current stream."""
    kernels.launch(SOURCE, name, threads, arguments)


@dataclass(frozen=True, eq=False)
class _DeviceRuns:
    """The runs of a mask on the device, and which hang together over faces.

    Attributes
    ----------
    mask
        Shape (slices, rows, columns), uint8.
    bits
        Which voxels are in a run: a word of 32 bits for 32 voxels of a row, the last of a row filled up.
    up_to
        Number of runs that begin in each word or before it.
    parent
        An earlier run of the same component, for each run; at a component's first -1 - its amount.
    launch
        What starts the kernels.
    """

    mask: Array
    bits: Array
    up_to: Array
    parent: Array
    launch: Launch

    def each_word(self, kernel: str, *arguments: Any) -> None:
        """Start a kernel that has a thread for each word."""
        first = (self.bits, self.up_to, *_sizes(self.mask), self.parent)
        self.launch(kernel, self.bits.size, (*first, *arguments))

    def choose_largest(self) -> None:
        """Mark the largest component, the first of several, by an amount that no other has."""
        self.each_word("measure")
        largest = array_namespace(self.mask).zeros(1, np.uint64)
        runs = self.parent.size
        self.launch("find_largest", runs, (self.parent, np.int32(runs), largest))
        self.launch("choose_largest", 1, (self.parent, largest))

    def paint(self, value: int, *, below: int, ground_only: bool = False) -> None:
        """Set the voxels of components with less than an amount to a value."""
        numbers = map(np.int32, (below, value, ground_only))
        self.each_word("paint", *_lies(self.mask), *numbers)


def keep_largest_component(mask: Array, group: Sequence[int], *, launch: Launch = _on_device) -> None:
    """Set to 0, in place, what is labelled with one of `group` but not in their largest component.

    Parameters
    ----------
    mask
        Shape (slices, rows, columns), uint8, on the device; changed in place.
    group
        The labels, 0 to 255, that together make the components.
    launch
        Starts the kernels.

    Raises
    ------
    SettingsError
        If the mask has more voxels than 31 bits can count.
    """
    runs = _runs_of(mask, group, launch)
    if runs is not None:
        runs.choose_largest()
        runs.paint(0, below=_MOST)


def remove_small(mask: Array, label: int, minimum_voxels: float, *, launch: Launch = _on_device) -> None:
    """Set to 0, in place, each component of `label` with fewer voxels.

    Parameters
    ----------
    mask
        Shape (slices, rows, columns), uint8, on the device; changed in place.
    label
        The label, 0 to 255.
    minimum_voxels
        The smallest size that stays, voxels.
    launch
        Starts the kernels.

    Raises
    ------
    SettingsError
        If the mask has more voxels than 31 bits can count.
    """
    runs = _runs_of(mask, [label], launch)
    if runs is not None:
        runs.each_word("measure")
        runs.paint(0, below=math.ceil(min(max(minimum_voxels, 0), _MOST)))


def keep_inside(mask: Array, label: int, organ: int, *, launch: Launch = _on_device) -> None:
    """Set to 0, in place, each component of `label` that touches no voxel of `organ` over a face.

    Parameters
    ----------
    mask
        Shape (slices, rows, columns), uint8, on the device; changed in place.
    label
        The label, 0 to 255.
    organ
        The label, 0 to 255, of what surrounds it.
    launch
        Starts the kernels.

    Raises
    ------
    SettingsError
        If the mask has more voxels than 31 bits can count.
    """
    runs = _runs_of(mask, [label], launch)
    if runs is not None:
        runs.each_word("mark_touching", *_lies(mask), *_set_of([organ]))
        runs.paint(0, below=1)


def fill_holes(mask: Array, label: int, *, launch: Launch = _on_device) -> None:
    """Set to `label`, in place, the background (0) that it surrounds on all sides.

    Parameters
    ----------
    mask
        Shape (slices, rows, columns), uint8, on the device; changed in place.
    label
        The label, 0 to 255.
    launch
        Starts the kernels.

    Raises
    ------
    SettingsError
        If the mask has more voxels than 31 bits can count.
    """
    runs = _runs_of(mask, [value for value in range(256) if value != label], launch)
    if runs is not None:
        runs.each_word("mark_open")
        runs.paint(label, below=1, ground_only=True)


def _runs_of(mask: Array, values: Sequence[int], launch: Launch) -> _DeviceRuns | None:
    """Return the runs of the voxels with one of the values, joined over faces; None if there are none.

    Raises
    ------
    SettingsError
        If the mask has more voxels than 31 bits can count.
    """
    require_countable(mask.size)
    xp, words = array_namespace(mask), _words(mask.shape)
    if words == 0:
        return None
    bits, up_to = xp.empty(words, np.uint32), xp.empty(words, np.int32)
    launch("find_runs", words, (*_lies(mask), *_sizes(mask), *_set_of(values), bits, up_to))
    xp.cumsum(up_to, dtype=np.int32, out=up_to)
    count = int(up_to[-1])
    if count == 0:
        return None
    runs = _DeviceRuns(mask, bits, up_to, xp.empty(count, np.int32), launch)
    runs.each_word("begin_components")
    runs.each_word("join_runs")
    return runs


def require_countable(voxels: int) -> None:
    """Raise unless 31 bits can count a mask's voxels.

    Parameters
    ----------
    voxels
        How many voxels the mask has.

    Raises
    ------
    SettingsError
        If it has more.
    """
    if voxels >= _MOST:
        raise SettingsError(
            f"components on the device are found in less than {_MOST} voxels, the mask has {voxels}; "
            "segment on the host (--device cpu)"
        )


def scratch_bytes(shape: tuple[int, int, int], *, runs_a_row: int = 8) -> int:
    """Return what finding components takes on the device beside the mask, bytes.

    Parameters
    ----------
    shape
        Slices, rows and columns of the mask, as it lies in memory.
    runs_a_row
        How often a row goes from what is looked for to something else. Noise has more, a quarter of its
        columns in the mean; more than half of them there cannot be.
    """
    slices, rows, columns = shape
    runs = slices * rows * min(runs_a_row, -(-columns // 2))
    return 4 * (2 * _words(shape) + runs)


def _words(shape: tuple[int, ...]) -> int:
    slices, rows, columns = shape
    return slices * rows * -(-columns // _WORD)


def _lies(mask: Array) -> tuple[Any, ...]:
    return (mask, *map(np.int64, mask.strides))


def _sizes(mask: Array) -> tuple[Any, ...]:
    return tuple(map(np.int32, mask.shape))


def _set_of(values: Sequence[int]) -> NDArray[np.uint64]:
    """Return 256 bits, one for each value of a voxel."""
    member = np.zeros(256, np.bool_)
    member[list(values)] = True
    return np.packbits(member, bitorder="little").view(np.uint64)
