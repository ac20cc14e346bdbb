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
class Window:
    """A window of the padded image, and the axes along which it is mirrored for the model.

    Attributes
    ----------
    number
        How many windows come before it.
    origin
        Its first slice, row and column.
    flip
        The axes: 0 slices, 1 rows, 2 columns.
    """

    number: int
    origin: Triple
    flip: tuple[int, ...]


def layers(batch: Sequence[Window]) -> list[Sequence[Window]]:
    """Return windows that follow each other in groups that begin at the same slice.

    Parameters
    ----------
    batch
        Windows, in the order of `WindowSource.in_order`.
    """
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
    """The image with its padding on the host, one layer of windows at a time.

    Parameters
    ----------
    image
        Shape (slices, rows, columns).
    windows
        How it is cut.

    Attributes
    ----------
    padded_shape
        Slices, rows and columns of the image with its padding.
    """

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

    def in_order(self) -> Iterator[Window]:
        """Yield all windows, mirrored ones included, in the order in which the model gets them."""
        slices, rows, columns = self._windows.starts(self.padded_shape)
        found = itertools.product(slices, rows, columns, self._windows.flips)
        return (Window(n, (z, y, x), flip) for n, (z, y, x, flip) in enumerate(found))

    def cut(self, batch: Sequence[Window]) -> Array:
        """Return the voxels of windows, mirrored where they are (batch, channels, slices, rows, columns).

        Parameters
        ----------
        batch
            The windows; none begins at an earlier slice than one that was cut before.
        """
        if len(batch) == 1:
            return self._voxels(batch[0])[None]
        return np.stack([self._voxels(each) for each in batch])

    def write(self, batch: Sequence[Window], out: Array) -> None:
        """Write the voxels of windows, mirrored where they are.

        Parameters
        ----------
        batch
            As for `cut`.
        out
            Shape (batch, channels, slices, rows, columns), any view; values are cast to its type.
        """
        for into, window in zip(out, batch, strict=True):
            np.copyto(into, self._voxels(window), casting="same_kind")

    def _voxels(self, window: Window) -> Array:
        """Return the voxels of a window: one channel, or the slices of a stack as channels of one slice."""
        origin, shape = window.origin, self._windows.shape
        part = tuple(slice(o, o + w) for o, w in zip(origin[1:], shape[1:], strict=True))
        voxels = self._layer_at(origin[0])[(slice(None), *part)]
        if window.flip:
            voxels = np.flip(voxels, window.flip)
        return voxels[:, None] if self._windows.slice_stack > 1 else voxels[None]

    def _layer_at(self, start: int) -> Array:
        if self._layer is None or self._layer[0] != start:
            self._layer = None
            reach, slices = self._windows.reach, self._image.shape[0]
            begin, end = start - reach, start + self._windows.shape[0] + reach
            layer = self._image[max(0, begin) : min(end, slices)]
            widths = [(max(0, -begin), max(0, end - slices)), *self._widths[1:]] if reach else self._widths
            if any(before or after for before, after in widths):
                layer = _padded(layer, widths, self._windows)
            self._layer = start, layer
        return self._layer[1]


def _padded(layer: Array, widths: Sequence[tuple[int, int]], windows: WindowPlan) -> Array:
    if windows.padding_mode == "constant":
        return np.pad(layer, widths, constant_values=windows.padding)
    return np.pad(layer, widths, mode="edge" if windows.padding_mode == "replicate" else "reflect")
