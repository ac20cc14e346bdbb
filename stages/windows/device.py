"""Windows on the CUDA device: cut in one launch a batch, blended in another, with nothing waited for.

The kernels run on CuPy's current stream. The output of a model lies complete in the memory that is shared
with the server when its message arrives: it waits for its own stream before it responds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from stages.arrays import Array, to_host
from stages.compute.cuda import kernels
from stages.errors import InferenceError
from stages.windows.blending import Blender, ScoreMemory, ScoreSlab
from stages.windows.plan import WindowPlan
from stages.windows.source import Image, Window, WindowSource, layers

SOURCE = Path(__file__).parents[1] / "compute" / "cuda" / "windows.cu"
_ACTIVATIONS = {"none": 0, "softmax": 1, "sigmoid": 2, "labels": 3}
_PADDINGS = {"constant": 0, "replicate": 1, "reflect": 2}
_OUTPUTS = ("float32", "float16", "uint8", "int32", "int64")

Launch: TypeAlias = Callable[[str, int, Sequence[Any]], None]
"""Runs a kernel by its name: how many threads, and its arguments."""


def launch(name: str, threads: int, arguments: Sequence[Any]) -> None:
    """Start a kernel on CuPy's current stream.

    Parameters
    ----------
    name, threads, arguments
        As for `stages.compute.cuda.kernels.launch`.
    """
    kernels.launch(SOURCE, name, threads, arguments)


class DeviceSource(WindowSource):
    """An image on the device, whole or one layer of windows at a time, and what cuts windows from it.

    Parameters
    ----------
    image, windows
        As for `stages.windows.source.WindowSource`.
    xp
        CuPy; NumPy where `run` emulates the device.
    run
        Runs the kernels.
    """

    def __init__(self, image: Image, windows: WindowPlan, xp: Any, *, run: Launch = launch) -> None:
        super().__init__(image, windows)
        self._xp = xp
        self._run = run
        self._dtype = getattr(image, "dtype", np.float32)
        self._held = 0
        self._layer_slices: Array = None
        if isinstance(image, xp.ndarray):
            self._layer_slices, self._held = xp.ascontiguousarray(image, dtype=np.float32), image.shape[0]

    @property
    def on_device(self) -> bool:
        """Whether windows are cut on the CUDA device."""
        return True

    @cached_property
    def table(self) -> Array:
        """Slice, row, column and mirrored axes (bits) of each window of the image, int32, in their order."""
        return table_of(self, self._xp)

    def cut(self, batch: Sequence[Window]) -> Array:
        """Return the voxels of windows, mirrored where they are (batch, channels, slices, rows, columns).

        Parameters
        ----------
        batch
            As for `WindowSource.cut`.
        """
        shape = len(batch), self._windows.slice_stack, *self._windows.shape
        out = self._xp.empty(shape, dtype=self._dtype)
        self.write(batch, out)
        return out

    def write(self, batch: Sequence[Window], out: Array) -> None:
        """Write the voxels of windows, mirrored where they are.

        Parameters
        ----------
        batch, out
            As for `WindowSource.write`.
        """
        if out.dtype not in (np.float32, np.float16):
            made = self._xp.empty(out.shape, dtype=np.float32)
            self.write(batch, made)
            out[...] = made
            return
        done = 0
        for layer in layers(batch):
            self._hold(layer[0].origin[0])
            self._launch_cut(layer, out[done : done + len(layer)])
            done += len(layer)

    def _launch_cut(self, layer: Sequence[Window], out: Array) -> None:
        slices, rows, columns = self._image.shape
        count = out.size
        first = layer[0].number
        before, (depth, height, width) = self._before, self._windows.shape
        window_step, channel_step, *steps = _steps(out)
        if self._windows.slice_stack > 1:  # its slices, of which the middle one is the window's
            depth, steps[0] = self._windows.slice_stack, channel_step
            before = [self._windows.reach, *before[1:]]
        self._run(
            f"cut_{out.dtype}",
            count,
            (
                self._layer_slices,
                np.int32(self._layer_slices.shape[0]),
                *_integers(slices, rows, columns, *before),
                np.float32(self._windows.padding),
                np.int32(_PADDINGS[self._windows.padding_mode]),
                self.table[first : first + len(layer)],
                *_integers(depth, height, width),
                out,
                window_step,
                *steps,
                np.uint32(count),
            ),
        )

    def _hold(self, start: int) -> None:
        """Have the image's slices of one layer in a ring of as many; what is new is made."""
        reach, slices = self._windows.reach, self._image.shape[0]
        start = max(0, start - self._before[0])
        stop = min(slices, start + self._windows.shape[0] + reach)
        start = max(start - reach, self._held)
        if start >= stop:
            return
        made = self._xp.ascontiguousarray(self._image[start:stop], dtype=np.float32)
        self._held = stop
        if self._layer_slices is None and made.shape[0] == self._image.shape[0]:
            self._layer_slices = made  # all of it
            return
        if self._layer_slices is None:
            longest = min(slices, self._windows.shape[0] + 2 * reach)
            self._layer_slices = self._xp.empty((longest, *made.shape[1:]), dtype=np.float32)
        ring = self._layer_slices.shape[0]
        begin = start % ring
        split = min(ring - begin, stop - start)
        self._layer_slices[begin : begin + split] = made[:split]
        if split < stop - start:
            self._layer_slices[: stop - start - split] = made[split:]


class DeviceBlender(Blender):
    """The weighted sums of the outputs in one layer of windows, and of their weights, on the device.

    Parameters
    ----------
    source, windows, memory
        As for `stages.windows.blending.Blender`.
    xp, run
        As for `DeviceSource`.
    """

    def __init__(
        self, source: WindowSource, windows: WindowPlan, memory: ScoreMemory, xp: Any, *, run: Launch = launch
    ) -> None:
        super().__init__(source, windows, memory)
        self._xp = xp
        self._run = run
        self._table = source.table if isinstance(source, DeviceSource) else table_of(source, xp)
        self._weights = self._xp.asarray(windows.weights())
        shape = windows.classes + 1, windows.shape[0], *source.padded_shape[1:]
        self._sums = self._xp.zeros(shape, dtype=np.float32)
        self._faults = self._xp.zeros(3, dtype=np.int32)

    def add(self, batch: Sequence[Window], output: Array) -> None:
        """Add the model's output for some windows, all of which begin at the same slice.

        Parameters
        ----------
        batch, output
            As for `stages.windows.blending.Blender.add`.
        """
        if str(output.dtype) not in _OUTPUTS:
            output = output.astype(np.float32)
        _, height, width = self._windows.shape
        ys, xs = ([each.origin[axis] for each in batch] for axis in (1, 2))
        box = min(ys), min(xs), max(ys) - min(ys) + height, max(xs) - min(xs) + width
        first = batch[0].number
        self._run(
            f"add_{output.dtype}",
            self._windows.shape[0] * box[2] * box[3],
            (
                output,
                *_steps(output),
                self._table[first : first + len(batch)],
                np.int32(len(batch)),
                self._weights,
                *_integers(*self._windows.shape, self._windows.classes),
                np.int32(_ACTIVATIONS[self._windows.window_activation]),
                self._sums,
                *_integers(*self._sums.shape[2:], *box),
                self._faults,
            ),
        )

    def check(self) -> None:
        """Wait for the device, and raise an error if an output was no result.

        Raises
        ------
        InferenceError
            If scores are not finite, or labels are none of a class.
        """
        not_finite, no_label, label = to_host(self._faults).tolist()
        if no_label:
            raise InferenceError(
                f"the model answered with a label of {label}, expected 0 to {self._windows.classes - 1}"
            )
        if not_finite:
            self._raise_not_finite()

    def _finish(self, start: int, stop: int) -> ScoreSlab | None:
        found = self._scores_of(start, stop, self._xp)
        (first, last, kept, scores) = found or (start, start, 0, self._sums)
        _, rows, columns = self._source.inner
        plane = self._sums.shape[2:]
        class_step, slice_step, row_step, _ = _steps(scores)
        self._run(
            "divide",
            (stop - start) * plane[0] * plane[1],
            (
                self._sums,
                *_integers(self._windows.classes, *self._sums.shape[1:]),
                *_integers(start, stop - start, first, last, rows.start, columns.start),
                *_integers(rows.stop - rows.start, columns.stop - columns.start),
                scores[:, kept:],
                class_step,
                slice_step,
                row_step,
                self._faults,
            ),
        )
        return ScoreSlab(first - self._source.inner[0].start - kept, scores, kept) if found else None


def table_of(source: WindowSource, xp: Any) -> Array:
    """Return slice, row, column and mirrored axes (bits) of each window of an image, int32, in order.

    Parameters
    ----------
    source
        The image, with its padding.
    xp
        CuPy, or NumPy where the device is emulated.
    """
    rows = [(*each.origin, sum(1 << axis for axis in each.flip)) for each in source.in_order()]
    return xp.asarray(np.array(rows, dtype=np.int32))


def _steps(array: Array) -> list[np.int64]:
    return [np.int64(stride // array.itemsize) for stride in array.strides]


def _integers(*numbers: int) -> list[np.int32]:
    return [np.int32(number) for number in numbers]
