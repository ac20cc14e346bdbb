"""A predictor is asked about the windows of an image, and its answers are blended slab by slab.

Several questions are on their way at a time, so that the model need not wait. Answers are taken in the
order of the questions, whatever order they arrive in, so the result is always the same. What the blending
holds is one layer of windows, however long the image is.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from stages.activation import activate
from stages.arrays import Array, array_namespace
from stages.blending import Blender, Place, Reused, ScoreSlab, Whole
from stages.errors import InferenceError
from stages.window_plan import WindowPlan, from_layout, to_layout
from stages.window_source import Image, LazyImage, Question, WindowSource

__all__ = [
    "LazyImage",
    "Pending",
    "Predictor",
    "ScoreSlab",
    "Submitter",
    "WindowPlan",
    "predict_in_windows",
    "score_slabs",
]


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
    whole = Whole((windows.classes, *image.shape))
    for _ in _slabs(image, predictor, windows, whole):
        pass
    return whole.array


def score_slabs(
    image: Image, predictor: Predictor, *, windows: WindowPlan, shared_slice: bool = False
) -> Iterator[ScoreSlab]:
    """Give the scores of `predict_in_windows` in slabs, each as soon as no window can change it.

    The slabs follow each other without a gap, from the first slice of the image to its last. Their memory is
    used again: a slab holds until the next is asked for. What is open when the caller stops, or an error
    ends it, is cancelled.

    Parameters
    ----------
    shared_slice
        Whether a slab begins with the last slice of the one before it, so that one can interpolate between.
    """
    place = Reused((windows.classes, *image.shape), kept=int(shared_slice))
    return _slabs(image, predictor, windows, place)


def _slabs(image: Image, predictor: Predictor, windows: WindowPlan, place: Place) -> Iterator[ScoreSlab]:
    source = WindowSource(image, windows)
    blender: Blender | None = None
    for question, scores in _answers(source, predictor, windows):
        if blender is None:
            blender = Blender(source, windows, place, array_namespace(scores))
        yield from blender.finish_before(question.origin[0])
        blender.add(question, scores)
    assert blender is not None
    yield from blender.finish_before(source.padded_shape[0])


def _answers(
    source: WindowSource, predictor: Predictor, windows: WindowPlan
) -> Iterator[tuple[Question, Array]]:
    """Give each question with its scores (classes, slices, rows, columns), in the order of the questions."""
    waiting: deque[tuple[Sequence[Question], Pending]] = deque()
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


def _batches(source: WindowSource, windows: WindowPlan) -> Iterator[list[Question]]:
    slices, rows, columns = windows.starts(source.padded_shape)
    questions = (
        Question(origin, flip)
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
    waiting: deque[tuple[Sequence[Question], Pending]], windows: WindowPlan
) -> Iterator[tuple[Question, Array]]:
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
