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

import numpy as np

from stages.arrays import Array, array_namespace
from stages.errors import InferenceError
from stages.windows.blending import Blender, HostBlender, Place, Reused, ScoreSlab, Whole
from stages.windows.plan import WindowPlan, from_layout, to_layout
from stages.windows.source import Image, LazyImage, Question, WindowSource, layers

__all__ = [
    "BufferSubmitter",
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


@runtime_checkable
class BufferSubmitter(Protocol):
    """A predictor into whose own memory windows are written, so that they are not copied again."""

    def submit_into(
        self, shape: tuple[int, ...], write: Callable[[Array], None], *, on_device: bool
    ) -> Pending:
        """Have windows written into an array of a shape, on the host or the device, and ask about them."""


Predictor: TypeAlias = Callable[[Array], Array] | Submitter | BufferSubmitter
"""Takes windows, returns the model's answer: at once (any function) or later (`submit`, `submit_into`).

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
    place = Reused((windows.classes, *image.shape), most=windows.shape[0], kept=int(shared_slice))
    return _slabs(image, predictor, windows, place)


def _slabs(image: Image, predictor: Predictor, windows: WindowPlan, place: Place) -> Iterator[ScoreSlab]:
    source = _source(image, windows)
    blender: Blender | None = None
    for batch, answer in _answers(source, predictor, windows):
        if blender is None:
            blender = _blender(source, windows, place, answer)
        done = 0
        for layer in layers(batch):
            yield from blender.finish_before(layer[0].origin[0])
            blender.add(layer, answer[done : done + len(layer)])
            done += len(layer)
        del answer  # before the next is there
    assert blender is not None
    yield from blender.finish_before(source.padded_shape[0])
    blender.check()


def _source(image: Image, windows: WindowPlan) -> WindowSource:
    layer = image[0 : min(image.shape[0], windows.shape[0])]
    if (xp := array_namespace(layer)) is np:
        return WindowSource(image, windows)
    from stages.windows.device import DeviceSource

    return DeviceSource(image, windows, xp)


def _blender(source: WindowSource, windows: WindowPlan, place: Place, answer: Array) -> Blender:
    if (xp := array_namespace(answer)) is np:
        return HostBlender(source, windows, place)
    from stages.windows.device import DeviceBlender

    return DeviceBlender(source, windows, place, xp)


def _answers(
    source: WindowSource, predictor: Predictor, windows: WindowPlan
) -> Iterator[tuple[Sequence[Question], Array]]:
    """Give each batch with its answer (batch, channels, slices, rows, columns), in order."""
    waiting: deque[tuple[Sequence[Question], Pending]] = deque()
    ask = _asking(predictor, source, windows)
    try:
        for batch in _batches(source, windows):
            if len(waiting) == windows.in_flight:
                yield from _next(waiting, windows)
            waiting.append((batch, ask(batch)))
        while waiting:
            yield from _next(waiting, windows)
    finally:
        for _, pending in waiting:
            pending.cancel()


def _batches(source: WindowSource, windows: WindowPlan) -> Iterator[list[Question]]:
    questions = source.questions()
    while batch := list(itertools.islice(questions, windows.batch)):
        yield batch


def _asking(
    predictor: Predictor, source: WindowSource, windows: WindowPlan
) -> Callable[[Sequence[Question]], Pending]:
    """Return what asks about a batch of windows."""
    if isinstance(predictor, BufferSubmitter):
        submit_into = predictor.submit_into
        return lambda batch: submit_into(
            windows.input_shape(len(batch)),
            lambda out: source.write(batch, from_layout(out, windows.input_layout)),
            on_device=source.on_device,
        )
    submit = predictor.submit if isinstance(predictor, Submitter) else _at_once(predictor)
    return lambda batch: submit(to_layout(source.cut(batch), windows.input_layout))


def _at_once(predictor: Callable[[Array], Array]) -> Callable[[Array], Pending]:
    return lambda windows: _Answered(predictor(windows))


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
) -> Iterator[tuple[Sequence[Question], Array]]:
    batch, pending = waiting[0]
    answer = pending.result()
    waiting.popleft()
    yield batch, _checked(answer, len(batch), windows)
    if release := getattr(pending, "release", None):  # the memory of the answer may be used again
        release()


def _checked(answer: Array, count: int, windows: WindowPlan) -> Array:
    answer = from_layout(answer, windows.output_layout)
    channels = 1 if windows.activation == "labels" else windows.classes
    if answer.shape != (count, channels, *windows.shape):
        raise InferenceError(
            f"the model answered {answer.shape}, expected {(count, channels, *windows.shape)}"
        )
    return answer
