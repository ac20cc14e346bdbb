"""Connected components of a mask: which stay, which go, and the holes in them; exact.

Voxels are connected over faces. Everything is done in place, where the mask lives, from runs of
voxels: on the host by `stages.compute.components_host`, on the device by `stages.compute.components_device`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.arrays import Array, array_namespace
from stages.compute.strides import order_in_memory, turned


def keep_largest_component(labels: Array, group: Sequence[int]) -> None:
    """Set to 0, in place, what is labelled with one of `group` but not in their largest component.

    Of several largest ones the first as it lies in memory stays.

    Parameters
    ----------
    labels
        Shape (slices, rows, columns), uint8, any view; changed in place.
    group
        The labels, 0 to 255, that together make the components.

    Raises
    ------
    TypeError
        If the labels are not uint8.
    ValueError
        If one of `group` is not from 0 to 255.
    """
    components_for(labels).keep_largest_component(_as_it_lies(labels, *group), group)


def keep_inside(labels: Array, label: int, organ: int) -> None:
    """Set to 0, in place, each component of `label` that touches no voxel of `organ` over a face.

    Parameters
    ----------
    labels
        Shape (slices, rows, columns), uint8, any view; changed in place.
    label
        The label, 0 to 255.
    organ
        The label, 0 to 255, of what surrounds it.

    Raises
    ------
    TypeError
        If the labels are not uint8.
    ValueError
        If `label` or `organ` is not from 0 to 255.
    """
    components_for(labels).keep_inside(_as_it_lies(labels, label, organ), label, organ)


def remove_small(labels: Array, label: int, minimum_voxels: float) -> None:
    """Set to 0, in place, each component of `label` with fewer voxels.

    Parameters
    ----------
    labels
        Shape (slices, rows, columns), uint8, any view; changed in place.
    label
        The label, 0 to 255.
    minimum_voxels
        The smallest size that stays, voxels.

    Raises
    ------
    TypeError
        If the labels are not uint8.
    ValueError
        If `label` is not from 0 to 255.
    """
    components_for(labels).remove_small(_as_it_lies(labels, label), label, minimum_voxels)


def fill_holes(labels: Array, label: int) -> None:
    """Set to `label`, in place, the background (0) that it surrounds on all sides.

    Parameters
    ----------
    labels
        Shape (slices, rows, columns), uint8, any view; changed in place.
    label
        The label, 0 to 255.

    Raises
    ------
    TypeError
        If the labels are not uint8.
    ValueError
        If `label` is not from 0 to 255.
    """
    components_for(labels).fill_holes(_as_it_lies(labels, label), label)


def components_for(labels: Array) -> Any:
    """Return the module that does this where an array lives.

    Parameters
    ----------
    labels
        Labels, NumPy or CuPy.

    Raises
    ------
    TypeError
        If it is no array of labels.
    """
    if array_namespace(labels) is np:
        from stages.compute import components_host as there
    else:
        from stages.compute import components_device as there  # type: ignore[no-redef]
    return there


def _as_it_lies(labels: Array, *wanted: int) -> Array:
    """Return a view of labels as they lie in memory.

    Raises
    ------
    TypeError
        If the labels are no bytes.
    ValueError
        If a wanted one fits in no byte.
    """
    if labels.dtype != np.uint8:
        raise TypeError(f"labels are uint8, found {labels.dtype}")
    for label in wanted:
        if not 0 <= label <= 255:
            raise ValueError(f"a label is a number from 0 to 255, found {label}")
    return turned(labels, *order_in_memory(labels))
