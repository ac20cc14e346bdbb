"""The image that windows are cut from: whole, or made slab by slab while it is needed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from stages.arrays import Array, array_namespace
from stages.windows.plan import Triple, WindowPlan


@dataclass(frozen=True)
class Question:
    """A window of the padded image, and the axes along which it is asked about mirrored.

    Attributes
    ----------
    number
        How many windows come before it.
    origin
        Its first slice, row and column.
    flip
        The axes.
    """

    number: int
    origin: Triple
    flip: tuple[int, ...]


def layers(batch: Sequence[Question]) -> list[Sequence[Question]]:
    """Return windows that follow each other, apart where another slice begins."""
    return [list(layer) for _, layer in itertools.groupby(batch, lambda each: each.origin[0])]


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
    """The image with its padding on the host, one layer of windows at a time."""

    def __init__(self, image: Image, windows: WindowPlan) -> None:
        self._image = image
        self._windows = windows
        self.padded_shape = windows.padded_shape(image.shape)
        missing = [padded - size for padded, size in zip(self.padded_shape, image.shape, strict=True)]
        self._before = [m // 2 for m in missing]
        self._widths = [(before, m - before) for before, m in zip(self._before, missing, strict=True)]
        self._layer: tuple[int, Array] | None = None

    @property
    def on_device(self) -> bool:
        """Whether windows are cut on the CUDA device."""
        return False

    @property
    def inner(self) -> tuple[slice, slice, slice]:
        """Where the image lies within its padding."""
        slices, rows, columns = (
            slice(before, before + size) for before, size in zip(self._before, self._image.shape, strict=True)
        )
        return slices, rows, columns

    def questions(self) -> Iterator[Question]:
        """Give all windows, mirrored ones included, in the order in which they are asked about."""
        slices, rows, columns = self._windows.starts(self.padded_shape)
        asked = itertools.product(slices, rows, columns, self._windows.flips)
        return (Question(n, (z, y, x), flip) for n, (z, y, x, flip) in enumerate(asked))

    def cut(self, batch: Sequence[Question]) -> Array:
        """Return windows as they are asked about (batch, 1, slices, rows, columns)."""
        if len(batch) == 1:
            return self._window(batch[0])[None, None]
        return np.stack([self._window(each) for each in batch])[:, None]

    def write(self, batch: Sequence[Question], out: Array) -> None:
        """Write windows as they are asked about.

        Parameters
        ----------
        out
            Shape (batch, 1, slices, rows, columns), any view; values are cast to its type.
        """
        for into, question in zip(out, batch, strict=True):
            np.copyto(into[0], self._window(question), casting="same_kind")

    def _window(self, question: Question) -> Array:
        origin, shape = question.origin, self._windows.shape
        place = tuple(slice(o, o + w) for o, w in zip(origin[1:], shape[1:], strict=True))
        window = self._layer_at(origin[0])[(slice(None), *place)]
        return np.flip(window, question.flip) if question.flip else window

    def _layer_at(self, start: int) -> Array:
        if self._layer is None or self._layer[0] != start:
            self._layer = None
            layer = self._image[start : start + self._windows.shape[0]]
            if any(after for _, after in self._widths):
                layer = np.pad(layer, self._widths, constant_values=self._windows.padding)
            self._layer = start, layer
        return self._layer[1]
