"""A predictor is asked about the windows of an image, and its answers are blended slab by slab.

Several questions are on their way at a time, so that the model need not wait. Answers are taken in the
order of the questions, whatever order they arrive in, so the result is always the same. What the blending
holds is one layer of windows, however long the image is.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from stages.activation import activate
from stages.arrays import Array, array_namespace
from stages.errors import InferenceError
from stages.window_plan import (
    Triple,
    WindowPlan,
    constant_weights,
    from_layout,
    gaussian_weights,
    to_layout,
    window_starts,
)

__all__ = [
    "LazyImage",
    "Pending",
    "Predictor",
    "ScoreSlab",
    "Submitter",
    "WindowPlan",
    "constant_weights",
    "gaussian_weights",
    "predict_in_windows",
    "score_slabs",
    "window_starts",
]

_CHUNK_BYTES = 256 * 1024  # what the blending works on at a time; fits a core's cache


class Pending(Protocol):
    """An answer that is on its way; a `concurrent.futures.Future` is one."""

    def result(self) -> Array:
        """Wait for the answer."""

    def cancel(self) -> object:
        """Give up the question, if it is still open."""


@runtime_checkable
class Submitter(Protocol):
    """A predictor that takes a question and gives the answer later."""

    def submit(self, windows: Array) -> Pending:
        """Ask about windows in the layout of the model's input tensor."""


Predictor: TypeAlias = Callable[[Array], Array] | Submitter
"""Takes windows, returns the model's answer: at once (any function) or later (`submit`).

Windows and answers have the plan's layouts: usually (batch, channels, slices, rows, columns).
"""


@dataclass(frozen=True)
class ScoreSlab:
    """Some slices of the scores.

    Attributes
    ----------
    start
        The first slice.
    scores
        Shape (classes, slices, rows, columns), float32.
    """

    start: int
    scores: Array


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


def predict_in_windows(image: Image, predictor: Predictor, *, windows: WindowPlan) -> Array:
    """Ask a predictor about each window of an image and blend the answers.

    Parameters
    ----------
    image
        Shape (slices, rows, columns), float32 or float16. Where it is smaller than a window it is padded
        evenly on both sides, and the result cropped again.

    Returns
    -------
    Array
        Scores (classes, slices, rows, columns), float32, where the image lives.

    Raises
    ------
    InferenceError
        If the predictor answers with another shape, or with values that are no numbers.
    """
    whole = _Whole((windows.classes, *image.shape))
    for _ in _slabs(image, predictor, windows, whole):
        pass
    return whole.array


def score_slabs(image: Image, predictor: Predictor, *, windows: WindowPlan) -> Iterator[ScoreSlab]:
    """Give the scores of `predict_in_windows` in slabs, each as soon as no window can change it.

    The slabs follow each other without a gap, from the first slice of the image to its last. Their memory is
    used again: a slab holds until the next is asked for. What is open when the caller stops, or an error
    ends it, is cancelled.
    """
    return _slabs(image, predictor, windows, _Reused((windows.classes, *image.shape)))


def _slabs(
    image: Image, predictor: Predictor, windows: WindowPlan, place: _Whole | _Reused
) -> Iterator[ScoreSlab]:
    source = _Source(image, windows)
    blender: _Blender | None = None
    for question, scores in _answers(source, predictor, windows):
        if blender is None:
            blender = _Blender(source, windows, place, array_namespace(scores))
        yield from blender.finish_before(question.origin[0])
        blender.add(question, scores)
    assert blender is not None
    yield from blender.finish_before(source.padded_shape[0])


class _Whole:
    """The place of all scores."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self.array: Array = None

    def __call__(self, start: int, stop: int, xp: Any) -> Array:
        if self.array is None:
            self.array = xp.empty(self._shape, dtype=np.float32)
        return self.array[:, start:stop]


class _Reused:
    """A place for the scores of one slab after the other."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._array: Array = None

    def __call__(self, start: int, stop: int, xp: Any) -> Array:
        count = stop - start
        if self._array is None or self._array.shape[1] < count:
            self._array = xp.empty((self._shape[0], count, *self._shape[2:]), dtype=np.float32)
        return self._array[:, :count]


@dataclass(frozen=True)
class _Question:
    origin: Triple
    flip: tuple[int, ...]


class _Source:
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

    def cut(self, question: _Question) -> Array:
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


def _answers(source: _Source, predictor: Predictor, windows: WindowPlan) -> Iterator[tuple[_Question, Array]]:
    """Give each question with its scores (classes, slices, rows, columns), in the order of the questions."""
    waiting: deque[tuple[Sequence[_Question], Pending]] = deque()
    try:
        for batch in _batches(source, windows):
            if len(waiting) == windows.in_flight:
                yield from _next(waiting, windows)
            waiting.append((batch, _ask(predictor, [source.cut(each) for each in batch], windows)))
        while waiting:
            yield from _next(waiting, windows)
    finally:
        for _, pending in waiting:
            pending.cancel()


def _batches(source: _Source, windows: WindowPlan) -> Iterator[list[_Question]]:
    slices, rows, columns = windows.starts(source.padded_shape)
    questions = (
        _Question(origin, flip)
        for origin in itertools.product(slices, rows, columns)
        for flip in windows.flips
    )
    while batch := list(itertools.islice(questions, windows.batch)):
        yield batch


def _ask(predictor: Predictor, cut: Sequence[Array], windows: WindowPlan) -> Pending:
    stacked = cut[0][None, None] if len(cut) == 1 else array_namespace(cut[0]).stack(cut)[:, None]
    asked = to_layout(stacked, windows.input_layout)
    if isinstance(predictor, Submitter):
        return predictor.submit(asked)
    return _Answered(predictor(asked))


class _Answered:
    """The answer of a predictor that gives it at once."""

    def __init__(self, answer: Array) -> None:
        self._answer = answer

    def result(self) -> Array:
        return self._answer

    def cancel(self) -> None:
        pass


def _next(
    waiting: deque[tuple[Sequence[_Question], Pending]], windows: WindowPlan
) -> Iterator[tuple[_Question, Array]]:
    batch, pending = waiting[0]
    answer = pending.result()
    waiting.popleft()
    scores = _scores(answer, len(batch), windows)
    yield from zip(batch, scores, strict=True)
    if release := getattr(pending, "release", None):  # the memory of the answer may be used again
        release()


def _scores(answer: Array, count: int, windows: WindowPlan) -> Array:
    answer = from_layout(answer, windows.output_layout)
    channels = 1 if windows.activation == "labels" else windows.classes
    if answer.shape != (count, channels, *windows.shape):
        raise InferenceError(
            f"the model answered {answer.shape}, expected {(count, channels, *windows.shape)}"
        )
    return activate(answer, windows.activation, windows.classes)


class _Blender:
    """The weighted sum of the answers in one layer of windows; slice n lies at n modulo its length."""

    def __init__(self, source: _Source, windows: WindowPlan, place: _Whole | _Reused, xp: Any) -> None:
        self._place = place
        self._source = source
        self._windows = windows
        self._xp = xp
        self._weights = xp.asarray(windows.weights())
        self._starts, rows, columns = windows.starts(source.padded_shape)
        plane = source.padded_shape[1:]
        self._sums = xp.zeros((windows.classes, windows.shape[0], *plane), dtype=np.float32)
        self._layer_weight = xp.zeros((windows.shape[0], *plane), dtype=np.float32)
        for y, x in itertools.product(rows, columns):
            part = slice(y, y + windows.shape[1]), slice(x, x + windows.shape[2])
            self._layer_weight[(slice(None), *part)] += len(windows.flips) * self._weights
        self._finished = 0

    def add(self, question: _Question, scores: Array) -> None:
        """Add the scores of one window."""
        if question.flip:
            scores = self._xp.flip(scores, [1 + axis for axis in question.flip])
        (z, y, x), (_, rows, columns) = question.origin, self._windows.shape
        sums = self._sums[:, :, y : y + rows, x : x + columns]
        for ring, part in _ring(z, self._windows.shape[0], self._windows.shape[0]):
            _add_weighted(sums[:, ring], scores[:, part], self._weights[part])

    def finish_before(self, stop: int) -> Iterator[ScoreSlab]:
        """Give what lies before a slice, where no window begins any more."""
        depth = self._windows.shape[0]
        while self._finished < stop:
            start, self._finished = self._finished, min(stop, self._finished + depth)
            slab = self._divided(start, self._finished)
            for ring, _ in _ring(start, self._finished - start, depth):
                self._sums[:, ring] = 0
            if slab.scores.size:
                _check_finite(slab.scores)
                yield slab

    def _divided(self, start: int, stop: int) -> ScoreSlab:
        """Return the scores of those slices that are not padding."""
        inside, rows, columns = self._source.inner
        first, last = max(start, inside.start), max(start, min(stop, inside.stop))
        last = max(first, last)
        scores = self._place(first - inside.start, last - inside.start, self._xp)
        total = self._total(first, last)[:, rows, columns]
        for ring, part in _ring(first, last - first, self._windows.shape[0]):
            self._xp.divide(self._sums[:, ring, rows, columns], total[part], out=scores[:, part])
        return ScoreSlab(first - inside.start, scores)

    def _total(self, start: int, stop: int) -> Array:
        """Return the sum of the weights of all windows over some slices."""
        depth = self._windows.shape[0]
        total = self._xp.zeros((stop - start, *self._layer_weight.shape[1:]), dtype=np.float32)
        for origin in self._starts:
            first, last = max(start, origin), min(stop, origin + depth)
            if first < last:
                total[first - start : last - start] += self._layer_weight[first - origin : last - origin]
        return total


def _ring(start: int, count: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Give where slices lie in a ring, and which of them, in at most two parts; `count` is up to `size`."""
    begin = start % size
    first = min(count, size - begin)
    if first > 0:
        yield slice(begin, begin + first), slice(0, first)
    if count > first:
        yield slice(0, count - first), slice(first, count)


def _add_weighted(sums: Array, scores: Array, weights: Array) -> None:
    """Add scores times weights to sums, in pieces that stay in the cache."""
    if array_namespace(sums) is not np:
        sums += scores * weights
        return
    slice_bytes = scores[:, :1].size * 4
    step = max(1, _CHUNK_BYTES // slice_bytes)
    for z in range(0, scores.shape[1], step):
        sums[:, z : z + step] += scores[:, z : z + step] * weights[z : z + step]


def _check_finite(scores: Array) -> None:
    """Refuse scores that are no numbers; minimum and maximum find them without another array."""
    if not (np.isfinite(float(scores.min())) and np.isfinite(float(scores.max()))):
        raise InferenceError("the model's scores hold values that are not finite; its output is no result")
