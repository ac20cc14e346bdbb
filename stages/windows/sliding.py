"""A predictor gets the windows of an image, and its outputs are blended slab by slab.

Several requests are on their way at a time, so that the model need not wait. Outputs are taken in the order
of the requests, whatever order they arrive in, so the result is always the same. What the blending holds is
one layer of windows, however long the image is.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from stages.arrays import Array, array_namespace
from stages.errors import InferenceError
from stages.windows.blending import Blender, HostBlender, ReusedSlab, ScoreMemory, ScoreSlab, WholeScores
from stages.windows.plan import WindowPlan, from_layout, to_layout
from stages.windows.source import Image, Window, WindowSource, layers


class Pending(Protocol):
    """An output that is on its way; a `concurrent.futures.Future` is one."""

    def result(self) -> Array:
        """Wait for the output and return it."""

    def cancel(self) -> object:
        """Cancel the request, if it is still open."""


@runtime_checkable
class Submitter(Protocol):
    """A predictor that takes windows and returns their output later."""

    def submit(self, windows: Array) -> Pending:
        """Send windows to the model, and return at once.

        Parameters
        ----------
        windows
            In the layout of the model's input tensor.
        """


@runtime_checkable
class BufferSubmitter(Protocol):
    """A predictor into whose own memory windows are written, so that they are not copied again."""

    def submit_into(
        self, shape: tuple[int, ...], write: Callable[[Array], None], *, on_device: bool
    ) -> Pending:
        """Have windows written into memory that the model reads, send them, and return at once.

        Parameters
        ----------
        shape
            Of the windows, in the layout of the model's input tensor.
        write
            Writes them into an array of this shape.
        on_device
            Whether it writes to the CUDA device, else to the host.
        """


Predictor: TypeAlias = Callable[[Array], Array] | Submitter | BufferSubmitter
"""Takes windows, returns the model's output: at once (any function) or later (`submit`, `submit_into`).

Windows and outputs have the plan's layouts: usually (batch, channels, slices, rows, columns).
"""


def predict_in_windows(image: Image, predictor: Predictor, *, windows: WindowPlan) -> Array:
    """Return the scores of an image: a predictor's outputs for each of its windows, blended.

    Parameters
    ----------
    image
        Shape (slices, rows, columns), float32 or float16. Where it is smaller than a window it is padded
        evenly on both sides, and the result cropped again.
    predictor
        Gets the windows.
    windows
        How the image is cut into windows.

    Returns
    -------
    Array
        Scores (classes, slices, rows, columns), float32, where the image lives.

    Raises
    ------
    InferenceError
        If the predictor returns another shape, or values that are no numbers.
    """
    whole = WholeScores((windows.classes, *image.shape))
    for _ in _slabs(image, predictor, windows, whole):
        pass
    return whole.array


def score_slabs(
    image: Image, predictor: Predictor, *, windows: WindowPlan, shared_slice: bool = False
) -> Iterator[ScoreSlab]:
    """Yield the scores of `predict_in_windows` in slabs, each as soon as no window can change it.

    The slabs follow each other without a gap, from the first slice of the image to its last. Their memory is
    used again: a slab holds until the next is asked for. What is open when the caller stops, or an error
    ends it, is cancelled.

    Parameters
    ----------
    image, predictor, windows
        As for `predict_in_windows`.
    shared_slice
        Whether a slab begins with the last slice of the one before it, so that one can interpolate between.
    """
    memory = ReusedSlab((windows.classes, *image.shape), most=windows.shape[0], kept=int(shared_slice))
    return _slabs(image, predictor, windows, memory)


def _slabs(
    image: Image, predictor: Predictor, windows: WindowPlan, memory: ScoreMemory
) -> Iterator[ScoreSlab]:
    source = _source(image, windows)
    blender: Blender | None = None
    for batch, output in _outputs(source, predictor, windows):
        if blender is None:
            blender = _blender(source, windows, memory, output)
        done = 0
        for layer in layers(batch):
            yield from blender.finish_before(layer[0].origin[0])
            blender.add(layer, output[done : done + len(layer)])
            done += len(layer)
        del output  # before the next is there
    assert blender is not None
    yield from blender.finish_before(source.padded_shape[0])
    blender.check()


def _source(image: Image, windows: WindowPlan) -> WindowSource:
    layer = image[0 : min(image.shape[0], windows.shape[0])]
    if (xp := array_namespace(layer)) is np:
        return WindowSource(image, windows)
    from stages.windows.device import DeviceSource

    return DeviceSource(image, windows, xp)


def _blender(source: WindowSource, windows: WindowPlan, memory: ScoreMemory, output: Array) -> Blender:
    if (xp := array_namespace(output)) is np:
        return HostBlender(source, windows, memory)
    from stages.windows.device import DeviceBlender

    return DeviceBlender(source, windows, memory, xp)


def _outputs(
    source: WindowSource, predictor: Predictor, windows: WindowPlan
) -> Iterator[tuple[Sequence[Window], Array]]:
    """Yield each batch with its output (batch, channels, slices, rows, columns), in order."""
    waiting: deque[tuple[Sequence[Window], Pending]] = deque()
    submit_batch = _submitting(predictor, source, windows)
    try:
        for batch in _batches(source, windows):
            if len(waiting) == windows.in_flight:
                yield from _next(waiting, windows)
            waiting.append((batch, submit_batch(batch)))
        while waiting:
            yield from _next(waiting, windows)
    finally:
        for _, pending in waiting:
            pending.cancel()


def _batches(source: WindowSource, windows: WindowPlan) -> Iterator[list[Window]]:
    left = source.in_order()
    while batch := list(itertools.islice(left, windows.batch)):
        yield batch


def _submitting(
    predictor: Predictor, source: WindowSource, windows: WindowPlan
) -> Callable[[Sequence[Window]], Pending]:
    """Return what sends a batch of windows to the predictor."""
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
    return lambda windows: _Done(predictor(windows))


class _Done:
    """The output of a predictor that returns it at once."""

    def __init__(self, output: Array) -> None:
        self._output = output

    def result(self) -> Array:
        return self._output

    def cancel(self) -> None:
        pass


def _next(
    waiting: deque[tuple[Sequence[Window], Pending]], windows: WindowPlan
) -> Iterator[tuple[Sequence[Window], Array]]:
    batch, pending = waiting[0]
    output = pending.result()
    waiting.popleft()
    yield batch, _checked(output, len(batch), windows)
    if release := getattr(pending, "release", None):  # the memory of the output may be used again
        release()


def _checked(output: Array, count: int, windows: WindowPlan) -> Array:
    output = from_layout(output, windows.output_layout)
    channels = 1 if windows.activation == "labels" else windows.classes
    if output.shape != (count, channels, *windows.shape):
        raise InferenceError(
            f"the model answered {output.shape}, expected {(count, channels, *windows.shape)}"
        )
    return output
