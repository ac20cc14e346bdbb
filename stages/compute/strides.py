"""How an array lies in memory, so that a loop can go through it in order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from stages.arrays import Array

Axes = tuple[int, int, int]


def order_in_memory(array: Array) -> tuple[Axes, tuple[bool, bool, bool]]:
    """Return how a volume is read as it lies: ``transpose(axes)``, then the flagged axes reversed.

    Parameters
    ----------
    array
        Three axes, any strides.
    """
    strides = [stride if size > 1 else 0 for stride, size in zip(array.strides, array.shape, strict=True)]
    axes = sorted(range(3), key=lambda axis: (-abs(strides[axis]), axis))
    flips = [strides[axis] < 0 for axis in axes]
    return (axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2])


def parts_of(array: Array, *, voxels: int = 2**22) -> Iterator[Array]:
    """Yield a volume some slices at a time, so that what is made of them takes little memory.

    Parameters
    ----------
    array
        Shape (slices, rows, columns).
    voxels
        The most that a part has, unless one slice has more.
    """
    slices = max(1, voxels // max(1, math.prod(array.shape[1:])))
    for start in range(0, array.shape[0], slices):
        yield array[start : start + slices]


def turned(array: Array, axes: Axes, flips: Sequence[bool]) -> Array:
    """Return a view of a volume with its axes in another order and the flagged of them reversed.

    Parameters
    ----------
    array
        Three axes, any strides.
    axes
        The axes in their new order.
    flips
        For each new axis, whether it is reversed.
    """
    return array.transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def rows_in_order(array: Array) -> bool:
    """Return whether neighbours along the last axis are neighbours in memory, and no stride is negative.

    Parameters
    ----------
    array
        Of one axis or more.
    """
    *others, (columns, step) = zip(array.shape, array.strides, strict=True)
    last = columns < 2 or step == array.itemsize
    return last and all(size < 2 or (stride >= 0 and stride % array.itemsize == 0) for size, stride in others)


def flat(array: Array, *, writeable: bool = False) -> tuple[Array, tuple[int, ...]]:
    """Return the memory that an array lies in, one-dimensional, and the steps along its axes but the last.

    Parameters
    ----------
    array
        Any array of which `rows_in_order` is true.
    writeable
        Whether the memory may be written to through what is returned.

    Returns
    -------
    memory, steps
        A view from the first element to the last, and for each axis but the last how many elements its
        next index is away.

    Raises
    ------
    ValueError
        If the rows do not lie in order.
    """
    if not rows_in_order(array):
        raise ValueError(f"rows of an array with strides {array.strides} do not lie in order")
    steps = tuple(stride // array.itemsize for stride in array.strides[:-1])
    length = sum((size - 1) * step for size, step in zip(array.shape, steps, strict=False)) + array.shape[-1]
    lies_in = np.lib.stride_tricks.as_strided(array, (length,), (array.itemsize,), writeable=writeable)
    return lies_in, steps
