"""The image that windows are cut from: whole, or made slab by slab while it is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from stages.arrays import Array, array_namespace
from stages.window_plan import Triple, WindowPlan


@dataclass(frozen=True)
class Question:
    """A window of the padded image, and the axes along which it is asked about mirrored."""

    origin: Triple
    flip: tuple[int, ...]


class LazyImage:
    """An image that is made slab by slab, from its first slice to its last, when it is asked for.

    Parameters
    ----------
    shape
        Slices, rows and columns.
    make
        Returns the slices from one to before another.
    """

    def __init__(self, shape: Triple, make: Callable[[int, int], Array]) -> None:
        self.shape = shape
        self._make = make
        self._start = 0
        self._held: Array | None = None

    def __getitem__(self, slices: slice) -> Array:
        start, stop, _ = slices.indices(self.shape[0])
        held = self._held
        kept = 0 if held is None or start < self._start else max(0, self._start + held.shape[0] - start)
        kept = min(kept, stop - start)
        if kept == 0 or held is None:
            self._held = None
            self._held = self._make(start, stop)
        elif kept < stop - start:
            offset = start - self._start
            new = self._make(start + kept, stop)
            self._held = array_namespace(new).concatenate([held[offset : offset + kept], new])
        else:
            return held[start - self._start : stop - self._start]
        self._start = start
        return self._held


Image: TypeAlias = Array | LazyImage
"""Shape (slices, rows, columns)."""


class WindowSource:
    """The image with its padding, one layer of windows at a time."""

    def __init__(self, image: Image, windows: WindowPlan) -> None:
        self._image = image
        self._windows = windows
        self.padded_shape = windows.padded_shape(image.shape)
        missing = [padded - size for padded, size in zip(self.padded_shape, image.shape, strict=True)]
        self._before = [m // 2 for m in missing]
        self._widths = [(before, m - before) for before, m in zip(self._before, missing, strict=True)]
        self._layer: tuple[int, Array] | None = None

    @property
    def inner(self) -> tuple[slice, slice, slice]:
        """Where the image lies within its padding."""
        slices, rows, columns = (
            slice(before, before + size) for before, size in zip(self._before, self._image.shape, strict=True)
        )
        return slices, rows, columns

    def cut(self, question: Question) -> Array:
        """Return a window as it is asked about."""
        origin, shape = question.origin, self._windows.shape
        place = tuple(slice(o, o + w) for o, w in zip(origin[1:], shape[1:], strict=True))
        window = self._layer_at(origin[0])[(slice(None), *place)]
        return array_namespace(window).flip(window, question.flip) if question.flip else window

    def _layer_at(self, start: int) -> Array:
        if self._layer is None or self._layer[0] != start:
            self._layer = None
            layer = self._image[start : start + self._windows.shape[0]]
            if any(after for _, after in self._widths):
                layer = array_namespace(layer).pad(layer, self._widths, constant_values=self._windows.padding)
            self._layer = start, layer
        return self._layer[1]
