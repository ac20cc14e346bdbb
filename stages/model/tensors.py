"""What a model's tensors say: types, order of the axes, which sizes are fixed.

A model has one input and one output. With a batch axis first, axes are ``[batch, channels, slices, rows,
columns]`` or, channels last, ``[batch, slices, rows, columns, channels]``; a model of slices has no axis of
slices. The output may leave out its channels where it is labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stages.errors import InferenceError
from stages.triton.types import ServedModel, TensorSpec

_FLOATS = ("FP32", "FP16")
_INDICES = ("UINT8", "INT8", "INT16", "UINT16", "INT32", "INT64")
_SPATIAL = {3: "zyx", 2: "yx"}
_REQUEST_VOXELS = 2**21  # more make no processor faster
_REQUEST_VOXELS_ON_DEVICE = 2**24
_ANY_BATCH = 64

Sizes = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class ModelTensors:
    """The input and the output of a model.

    Attributes
    ----------
    model
        Its name, for messages.
    input_layout, output_layout
        Order of the axes: b batch, c channels, z slices, y rows, x columns.
    input_type, output_type
        Triton's data types, such as ``FP32``.
    fixed
        Slices, rows and columns of a window; -1 where the tensors leave it open; a model of slices has 1.
    largest_batch
        How many windows one request may have.
    input_channels
        How many channels a window has: the slices of a stack.
    """

    model: str
    input_layout: str
    output_layout: str
    input_type: str
    output_type: str
    fixed: Sizes
    largest_batch: int = 1
    input_channels: int = 1

    @classmethod
    def from_server(
        cls, served: ServedModel, *, channels: int, as_labels: bool, slice_stack: int = 1
    ) -> ModelTensors:
        """Return what the tensors of a served model say.

        Parameters
        ----------
        served
            What the server says of the model.
        channels
            Number of channels that the description gives labels to.
        as_labels
            Whether the output is the index of a channel.
        slice_stack
            How many slices are the channels of a window.

        Raises
        ------
        InferenceError
            If the stage cannot feed such a model, or it contradicts the description.
        """
        image, scores = served.inputs[0], served.outputs[0]
        _require_type(served.name, image, _FLOATS)
        _require_type(served.name, scores, (*_FLOATS, *_INDICES) if as_labels else _FLOATS)
        spatial = _SPATIAL.get(len(image.shape) - 2)
        if spatial is None:
            raise InferenceError(
                f"model {served.name!r}: tensor {image.name!r} is {list(image.shape)}; expected a batch, one "
                f"channel, and slices, rows, columns (or rows and columns alone)"
            )
        if slice_stack > 1 and "z" in spatial:
            raise InferenceError(
                f"model {served.name!r}: parameter slice_stack is {slice_stack}, but tensor {image.name!r} "
                f"{list(image.shape)} has slices of its own; expected rows and columns alone"
            )
        seen = "one channel, the CT" if slice_stack == 1 else f"{slice_stack} channels, as slice_stack says"
        input_layout = _layout(served.name, image, spatial, slice_stack, seen)
        wanted = 1 if as_labels else channels
        output_layout = (
            f"b{spatial}"
            if as_labels and len(scores.shape) == len(spatial) + 1
            else _layout(
                served.name, scores, spatial, wanted, _expected(channels, as_labels), like=input_layout
            )
        )
        sizes = [
            _agreed(
                served, image.shape[input_layout.index(axis)], scores.shape[output_layout.index(axis)], axis
            )
            if axis in spatial
            else 1
            for axis in "zyx"
        ]
        return cls(
            model=served.name,
            input_layout=input_layout,
            output_layout=output_layout,
            input_type=image.datatype,
            output_type=scores.datatype,
            fixed=(sizes[0], sizes[1], sizes[2]),
            largest_batch=_largest_batch(served),
            input_channels=slice_stack,
        )

    def batch(self, window: Sizes, *, on_device: bool = False) -> int:
        """Return how many windows of a shape go in one request.

        Parameters
        ----------
        window
            Slices, rows and columns of one.
        on_device
            Whether they lie on a GPU, where large ones too go together.
        """
        voxels = _REQUEST_VOXELS_ON_DEVICE if on_device else _REQUEST_VOXELS
        return max(1, min(self.largest_batch, voxels // math.prod(window)))

    def input_shape(self, count: int, window: Sizes) -> tuple[int, ...]:
        """Return the shape of the input tensor.

        Parameters
        ----------
        count
            How many windows.
        window
            Slices, rows and columns of one.
        """
        sizes = dict(zip("bczyx", (count, self.input_channels, *window), strict=True))
        return tuple(sizes[axis] for axis in self.input_layout)

    def window(self, wanted: Sizes | None, size: Sizes | None) -> Sizes:
        """Return the shape of a window: what is wanted where the tensors allow it, else what they say.

        Parameters
        ----------
        wanted
            Slices, rows and columns that the description asks for; None where it leaves them to the tensors.
        size
            Slices, rows and columns that every volume is brought to; None without.

        Raises
        ------
        InferenceError
            If the description and the tensors contradict each other, or neither says it.
        """
        described = wanted or size
        found = [
            fixed if fixed > 0 else (described[n] if described else -1) for n, fixed in enumerate(self.fixed)
        ]
        if -1 in found:
            raise InferenceError(
                f"the config.pbtxt of model {self.model!r}: parameter window_shape is missing, and the input "
                f"tensor leaves slices, rows, columns open: {list(self.fixed)}"
            )
        window = (found[0], found[1], found[2])
        if wanted is not None and wanted != window:
            raise InferenceError(
                f"model {self.model!r}: parameter window_shape is {list(wanted)}, but the tensors are made "
                f"for windows of {list(self.fixed)} (-1: any)"
            )
        return window


def _largest_batch(served: ServedModel) -> int:
    if served.max_batch_size:
        return served.max_batch_size
    for tensor in (served.inputs[0], served.outputs[0]):
        if tensor.shape[0] not in (-1, 1):
            raise InferenceError(
                f"model {served.name!r}: tensor {tensor.name!r} is {list(tensor.shape)}, for exactly "
                f"{tensor.shape[0]} windows at a time; expected 1, or a free batch (-1)"
            )
    return min(_ANY_BATCH if tensor.shape[0] == -1 else 1 for tensor in (served.inputs[0], served.outputs[0]))


def _require_type(model: str, tensor: TensorSpec, allowed: tuple[str, ...]) -> None:
    if tensor.datatype not in allowed:
        raise InferenceError(
            f"model {model!r}: tensor {tensor.name!r} is {tensor.datatype} {list(tensor.shape)}; "
            f"expected {' or '.join(allowed)}"
        )


def _layout(
    model: str, tensor: TensorSpec, spatial: str, channels: int, expected: str, *, like: str | None = None
) -> str:
    """Return the layout of a tensor: its channels first or last, by their number."""
    shape, layouts = tensor.shape, (f"bc{spatial}", f"b{spatial}c")
    fitting = []
    for layout in layouts if len(shape) == len(spatial) + 2 else ():
        found = shape[layout.index("c")]
        if found == channels or (found == -1 and like in (None, layout)):
            fitting.append(layout)
    certain = [layout for layout in fitting if shape[layout.index("c")] == channels]
    chosen = certain if len(certain) == 1 else fitting
    if like in chosen:
        return str(like)
    if len(chosen) == 1 or (chosen and like is None and len(certain) != 2):
        return chosen[0]
    raise InferenceError(
        f"model {model!r}: tensor {tensor.name!r} is {tensor.datatype} {list(shape)}; expected "
        f"{expected}, first or last of the axes after the batch"
        + ("; both would fit: state the sizes in config.pbtxt" if chosen else "")
    )


def _expected(channels: int, as_labels: bool) -> str:
    if as_labels:
        return "one channel of labels (activation 'labels')"
    return f"{channels} channels, as many as channel_labels has"


def _agreed(served: ServedModel, of_input: int, of_output: int, axis: str) -> int:
    name = {"z": "slices", "y": "rows", "x": "columns"}[axis]
    if of_input > 0 and of_output > 0 and of_input != of_output:
        raise InferenceError(
            f"model {served.name!r}: its input has {of_input} {name}, its output {of_output}; expected "
            f"scores for every voxel of a window"
        )
    return max(of_input, of_output)
