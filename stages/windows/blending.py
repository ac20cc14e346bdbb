"""The outputs for overlapping windows become the scores of an image, one layer of windows at a time."""

from __future__ import annotations

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import numpy as np

from stages.arrays import Array
from stages.errors import InferenceError
from stages.windows.activation import activate
from stages.windows.plan import WindowPlan
from stages.windows.source import Window, WindowSource


@dataclass(frozen=True)
class ScoreSlab:
    """Some slices of the scores.

    Attributes
    ----------
    start
        The first slice.
    scores
        Shape (classes, slices, rows, columns), float32.
    kept
        How many of the slices the slab before it had too.
    """

    start: int
    scores: Array
    kept: int = 0


class ScoreMemory(Protocol):
    """Memory that finished scores go to."""

    def __call__(self, start: int, stop: int, xp: Any) -> tuple[int, Array]:
        """Return how many slices lie before some slices in an array, and the array.

        Parameters
        ----------
        start, stop
            The first slice, and the one behind the last.
        xp
            NumPy or CuPy, where the array is made.
        """


class WholeScores:
    """Memory for all scores.

    Parameters
    ----------
    shape
        Classes, slices, rows, columns.

    Attributes
    ----------
    array
        The scores, float32; None before the first.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self.array: Array = None

    def __call__(self, start: int, stop: int, xp: Any) -> tuple[int, Array]:
        """Return the part of the whole."""
        if self.array is None:
            self.array = xp.empty(self._shape, dtype=np.float32)
        return 0, self.array[:, start:stop]


class ReusedSlab:
    """Memory for one slab after the other.

    Parameters
    ----------
    shape
        Of all scores: classes, slices, rows, columns.
    most
        How many new slices a slab has at most.
    kept
        How many slices of a slab lie before the next one too, 0 or 1.
    """

    def __init__(self, shape: tuple[int, ...], *, most: int, kept: int = 0) -> None:
        self._shape = shape[0], min(most, shape[1]) + kept, *shape[2:]
        self._kept = kept
        self._array: Array = None
        self._filled = 0

    def __call__(self, start: int, stop: int, xp: Any) -> tuple[int, Array]:
        """Return the memory of the slab before, with what is kept of it."""
        kept = self._kept if start else 0
        needed = kept + stop - start
        if self._array is None:
            self._array = xp.empty(self._shape, dtype=np.float32)
        if kept:
            self._array[:, 0] = self._array[:, self._filled - 1]
        self._filled = needed
        return kept, self._array[:, :needed]


class Blender(ABC):
    """What the outputs for one layer of windows add up to; slice n lies at n modulo its length.

    Parameters
    ----------
    source
        The image, with its padding.
    windows
        How it is cut.
    memory
        Where finished scores go.
    """

    def __init__(self, source: WindowSource, windows: WindowPlan, memory: ScoreMemory) -> None:
        self._memory = memory
        self._source = source
        self._windows = windows
        self._finished = 0

    @abstractmethod
    def add(self, batch: Sequence[Window], output: Array) -> None:
        """Add the model's output for some windows, all of which begin at the same slice.

        Parameters
        ----------
        batch
            The windows.
        output
            Shape (windows, channels, slices, rows, columns).

        Raises
        ------
        InferenceError
            If it holds labels that no class has.
        """

    def finish_before(self, stop: int) -> Iterator[ScoreSlab]:
        """Yield the scores before a slice, where no window begins any more.

        Parameters
        ----------
        stop
            The slice, of the image with its padding.
        """
        while self._finished < stop:
            start, self._finished = self._finished, min(stop, self._finished + self._windows.shape[0])
            slab = self._finish(start, self._finished)
            if slab is not None:
                self._activate(slab)
                yield slab

    def _activate(self, slab: ScoreSlab) -> None:
        """Make what was blended scores, if that was not done to each window; slice by slice in place."""
        activation = self._windows.activation
        if activation == self._windows.window_activation:
            return
        for n in range(slab.kept, slab.scores.shape[1]):
            slab.scores[:, n] = activate(slab.scores[None, :, n], activation, self._windows.classes)[0]

    @abstractmethod
    def check(self) -> None:
        """Raise an error if an output was no result and none was raised for it yet; called at the end.

        Raises
        ------
        InferenceError
            If scores are not finite, or labels are none of a class.
        """

    @abstractmethod
    def _finish(self, start: int, stop: int) -> ScoreSlab | None:
        """Return the scores of some slices, if they are not padding, and make their sums 0."""

    def _scores_of(self, start: int, stop: int, xp: Any) -> tuple[int, int, int, Array] | None:
        """Return which of some slices are not padding, how many are kept before them, and where all go."""
        inside = self._source.inner[0]
        first, last = max(start, inside.start), min(stop, inside.stop)
        if first >= last:
            return None
        return first, last, *self._memory(first - inside.start, last - inside.start, xp)

    def _raise_not_finite(self) -> NoReturn:
        raise InferenceError("the model's scores hold values that are not finite; its output is no result")


class HostBlender(Blender):
    """The weighted sum of the outputs on the host.

    Parameters
    ----------
    source, windows, memory
        As for `Blender`.
    """

    def __init__(self, source: WindowSource, windows: WindowPlan, memory: ScoreMemory) -> None:
        super().__init__(source, windows, memory)
        self._weights = windows.weights()
        self._starts, rows, columns = windows.starts(source.padded_shape)
        plane = source.padded_shape[1:]
        self._sums = np.zeros((windows.classes, windows.shape[0], *plane), dtype=np.float32)
        self._layer_weight = np.zeros((windows.shape[0], *plane), dtype=np.float32)
        for y, x in itertools.product(rows, columns):
            part = slice(y, y + windows.shape[1]), slice(x, x + windows.shape[2])
            self._layer_weight[(slice(None), *part)] += len(windows.flips) * self._weights

    def add(self, batch: Sequence[Window], output: Array) -> None:
        """Add the model's output for some windows, all of which begin at the same slice.

        Parameters
        ----------
        batch, output
            As for `Blender.add`.
        """
        scores = activate(output, self._windows.window_activation, self._windows.classes)
        for window, of_one in zip(batch, scores, strict=True):
            self._add(window, of_one)

    def check(self) -> None:
        """Do nothing: the host looks at each slab."""

    def _add(self, window: Window, scores: Array) -> None:
        if window.flip:
            scores = np.flip(scores, tuple(1 + axis for axis in window.flip))
        (z, y, x), (_, rows, columns) = window.origin, self._windows.shape
        sums = self._sums[:, :, y : y + rows, x : x + columns]
        for ring, part in _ring(z, self._windows.shape[0], self._windows.shape[0]):
            _add_weighted(sums[:, ring], scores[:, part], self._weights[part])

    def _finish(self, start: int, stop: int) -> ScoreSlab | None:
        slab = self._divided(start, stop)
        for ring, _ in _ring(start, stop - start, self._windows.shape[0]):
            self._sums[:, ring] = 0
        return slab

    def _divided(self, start: int, stop: int) -> ScoreSlab | None:
        found = self._scores_of(start, stop, np)
        if found is None:
            return None
        first, last, kept, scores = found
        inside, rows, columns = self._source.inner
        total = self._total(first, last)[:, rows, columns]
        for ring, part in _ring(first, last - first, self._windows.shape[0]):
            if not _divide(self._sums[:, ring, rows, columns], total[part], scores[:, kept:][:, part]):
                self._raise_not_finite()
        return ScoreSlab(first - inside.start - kept, scores, kept)

    def _total(self, start: int, stop: int) -> Array:
        """Return the sum of the weights of all windows over some slices."""
        depth = self._windows.shape[0]
        total = np.zeros((stop - start, *self._layer_weight.shape[1:]), dtype=np.float32)
        for origin in self._starts:
            first, last = max(start, origin), min(stop, origin + depth)
            if first < last:
                total[first - start : last - start] += self._layer_weight[first - origin : last - origin]
        return total


def _ring(start: int, count: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Yield where slices lie in a ring, and which of them, in at most two parts; `count` is up to `size`."""
    begin = start % size
    first = min(count, size - begin)
    if first > 0:
        yield slice(begin, begin + first), slice(0, first)
    if count > first:
        yield slice(0, count - first), slice(first, count)


def _add_weighted(sums: Array, scores: Array, weights: Array) -> None:
    if _compiled() is not None:
        _compiled().add_weighted(sums, scores, weights)
    else:
        for n in range(scores.shape[1]):  # a slice at a time stays in the cache
            sums[:, n] += scores[:, n] * weights[n]


def _divide(sums: Array, weights: Array, out: Array) -> bool:
    """Divide sums by weights, and return whether all results are finite."""
    if _compiled() is not None:
        return bool(_compiled().divide(sums, weights, out))
    np.divide(sums, weights, out=out)
    return bool(np.isfinite(out.min()) & np.isfinite(out.max()))


@functools.cache
def _compiled() -> Any:
    """Return the compiled loops; None beside a model, in whose environment Numba is not."""
    try:
        from stages.compute import blending_host
    except ImportError:
        return None
    return blending_host
