"""Connected components of a mask: which stay, which go, and the holes in them; exact.

Voxels are connected over faces. Everything is done in place, where the mask lives: on the host from runs
(`stages.components_host`), on the device within the box that holds them (`stages.components_device`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.arrays import Array, array_namespace
from stages.memory_layout import order_in_memory, turned


def keep_largest_component(labels: Array, group: Sequence[int]) -> None:
    """Set to 0, in place, what is labelled with one of `group` but not in their largest component.

    Of several largest ones the first as it lies in memory stays.
    """
    there, mask = _where(labels)
    there.keep_largest_component(mask, group)


def keep_inside(labels: Array, label: int, organ: int) -> None:
    """Set to 0, in place, each component of `label` that touches no voxel of `organ` over a face."""
    there, mask = _where(labels)
    there.keep_inside(mask, label, organ)


def remove_small(labels: Array, label: int, minimum_voxels: float) -> None:
    """Set to 0, in place, each component of `label` with fewer voxels."""
    there, mask = _where(labels)
    there.remove_small(mask, label, minimum_voxels)


def fill_holes(labels: Array, label: int) -> None:
    """Give to `label`, in place, the background (0) that it surrounds on all sides."""
    there, mask = _where(labels)
    there.fill_holes(mask, label)


def _where(labels: Array) -> tuple[Any, Array]:
    """Return the module for an array, and a view of the array as it lies in memory."""
    if array_namespace(labels) is np:
        from stages import components_host as there
    else:
        from stages import components_device as there  # type: ignore[no-redef]
    return there, turned(labels, *order_in_memory(labels))
