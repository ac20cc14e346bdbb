"""Which voxels of a volume a model sees: the box around the body, the foreground, or what is not 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from stages.arrays import Array, array_namespace
from stages.compute.components import keep_largest_component
from stages.compute.strides import order_in_memory, parts_of, turned
from stages.model.description import ModelDescription

Box: TypeAlias = tuple[slice, slice, slice]
"""Slices, rows and columns."""

_COARSE = 4


def box_seen(view: Array, model: ModelDescription) -> Box:
    """Return the box of a volume that a model sees, its margins included.

    Parameters
    ----------
    view
        HU in the model's orientation, shape (slices, rows, columns).
    model
        What it is cropped to.
    """
    return _with_margins(_cropped(view, model), model, view.shape)


def _cropped(view: Array, model: ModelDescription) -> Box:
    if model.crop == "body":
        return _body_box(view, model.foreground_hu)
    if model.crop == "foreground":
        return _box_around(view, lambda part: part > model.foreground_hu) or _all_of(view)
    if model.crop == "nonzero":
        return _box_around(view, lambda part: part != 0) or _all_of(view)
    return _all_of(view)


def _all_of(view: Array) -> Box:
    return slice(0, view.shape[0]), slice(0, view.shape[1]), slice(0, view.shape[2])


def _body_box(view: Array, above_hu: float) -> Box:
    """Return the box around the largest bright component, found on every fourth voxel, one of them wider."""
    bright = (view[::_COARSE, ::_COARSE, ::_COARSE] > above_hu).astype(np.uint8, order="C")
    keep_largest_component(bright, [1])
    box = _box_around(bright, lambda part: part > 0)
    if box is None:
        return _all_of(view)
    z, y, x = (
        slice(max(0, (side.start - 1) * _COARSE), min(length, side.stop * _COARSE + 1))
        for side, length in zip(box, view.shape, strict=True)
    )
    return z, y, x


def _box_around(view: Array, is_wanted: Callable[[Array], Array]) -> Box | None:
    """Return the smallest box that holds all voxels that are wanted; None if there are none."""
    xp, (axes, flips) = array_namespace(view), order_in_memory(view)
    read = turned(view, axes, flips)
    found = [xp.zeros(length, bool) for length in read.shape]
    start = 0
    for part in parts_of(read):
        wanted = is_wanted(part)
        found[0][start : start + len(part)] = wanted.any(axis=(1, 2))
        found[1] |= wanted.any(axis=(0, 2))
        found[2] |= wanted.any(axis=(0, 1))
        start += len(part)
    sides = {}
    for axis, flip, along in zip(axes, flips, found, strict=True):
        places = xp.flatnonzero(along[::-1] if flip else along)
        if not places.size:
            return None
        sides[axis] = slice(int(places[0]), int(places[-1]) + 1)
    return sides[0], sides[1], sides[2]


def _with_margins(box: Box, model: ModelDescription, shape: tuple[int, ...]) -> Box:
    sides = []
    for n, (side, length) in enumerate(zip(box, shape, strict=True)):
        before, after = (
            m / 100 * (side.stop - side.start) for m in model.crop_margin_percent[2 * n : 2 * n + 2]
        )
        start = min(max(0, round(side.start - before)), length - 1)
        sides.append(slice(start, max(start + 1, min(length, round(side.stop + after)))))
    return sides[0], sides[1], sides[2]
