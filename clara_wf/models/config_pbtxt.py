"""A model's ``config.pbtxt``: what it says before a server reads it, and one to begin with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from clara_wf.models.onnx_tensors import OnnxTensors
from stages.errors import InferenceError, InputError
from stages.model.description import ModelDescription
from stages.runtime import job_files
from stages.triton.types import ServedModel, TensorSpec

CONFIG = "config.pbtxt"
_NAME = re.compile(r'^name\s*:\s*"[^"]*"[ \t]*\n?', re.MULTILINE)
_LARGEST_BATCH = 4
_LARGEST = 4 << 20  # bytes

_EXAMPLES: tuple[tuple[str, Any, str], ...] = (
    ("orientation", "SPL", "patient directions in which slice, row and column index grow"),
    ("spacing_mm", [3.0, 3.0, 3.0], 'of slices, rows, columns; or "native"; or give a size instead'),
    ("intensity_clip_hu", [-160, 240], "HU outside are clipped"),
    (
        "intensity_scale",
        [0, 1],
        'what the clip bounds become; "none" for HU; or give intensity_zscore instead',
    ),
    ("padding_value_hu", -1000, "what lies outside the volume"),
    ("activation", "softmax", 'or "sigmoid", "none", "labels"'),
)
_NAMELESS_RGB = ((221, 130, 101), (255, 205, 60), (110, 170, 230), (150, 200, 90))
_MOST_CHANNELS = 30


def config_for(name: str, tensors: OnnxTensors) -> str:
    """Return a configuration for an ONNX model that says all but what only its author knows.

    Parameters
    ----------
    name
        The model's name.
    tensors
        What its inputs and outputs are.
    """
    batch = all(tensor.shape[:1] == (-1,) for tensor in (*tensors.inputs, *tensors.outputs))
    lines = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {_LARGEST_BATCH if batch else 0}",
        *(_tensor("input", each, batch=batch) for each in tensors.inputs),
        *(_tensor("output", each, batch=batch) for each in tensors.outputs),
        "",
        "# What the stage must know to use the model. Put in your model's values, take away the marks (#),",
        f"# then run: clara-wf models check {name} --record",
        "# Every parameter, also the optional ones: docs/reference/model.md",
    ]
    if any(-1 in tensor.shape[1 + batch :] for tensor in tensors.inputs):
        shape = [64, 96, 96] if len(tensors.inputs[0].shape) > 4 else [1, 256, 256]
        window = [("window_shape", shape, "slices, rows and columns of a window")]
    else:
        window = []
    for key, value, meaning in (*_EXAMPLES, *_label_examples(tensors, batch=batch), *window):
        lines += [f"# {meaning}", f"# {parameter_line(key, value)}"]
    return "\n".join(lines) + "\n"


def _label_examples(tensors: OnnxTensors, *, batch: bool) -> tuple[tuple[str, Any, str], ...]:
    """Return what to say of the labels, as many as the output has channels if that can be seen."""
    channels = max(tensors.outputs[0].shape[batch : batch + 1] if tensors.outputs else (), default=0)
    labels = range(1, channels if 1 < channels <= _MOST_CHANNELS else 3)
    return (
        ("channel_labels", [0, *labels], "label of each output channel, background first, null for none"),
        (
            "label_meanings",
            {str(label): _meaning_to_fill(label) for label in labels},
            "what each label means: its name, its code in SNOMED CT, its colour; docs/reference/labels.md",
        ),
    )


def _meaning_to_fill(label: int) -> dict[str, Any]:
    """Return a meaning that says nothing false, for its author to put the right one in its place."""
    code = {"value": "91723000", "meaning": "Anatomical structure"}
    return {"name": f"Label {label}", "type": code, "rgb": _NAMELESS_RGB[label % len(_NAMELESS_RGB)]}


def parameter_line(key: str, value: object) -> str:
    """Return the line of a parameter, its value as JSON.

    Parameters
    ----------
    key, value
        The parameter's name and what JSON can hold.
    """
    return f'parameters: {{ key: "{key}" value: {{ string_value: {json.dumps(json.dumps(value))} }} }}'


def _tensor(kind: str, tensor: TensorSpec, *, batch: bool) -> str:
    dims = ", ".join(map(str, tensor.shape[batch:]))
    return f'{kind} [ {{ name: "{tensor.name}" data_type: TYPE_{tensor.datatype} dims: [ {dims} ] }} ]'


def with_name(config: str, name: str) -> str:
    """Return a configuration that names its model so; Triton wants the name of the folder.

    Parameters
    ----------
    config, name
        The text of the configuration and the model's name.
    """
    return f'name: "{name}"\n' + _NAME.sub("", config, count=1)


def read_config(folder: Path) -> ServedModel:
    """Return what a server would say of a model, from its configuration alone.

    Raises
    ------
    InputError
        If there is none, or it cannot be read.
    """
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    path = folder / CONFIG
    try:
        content = job_files.read(path, most_bytes=_LARGEST, follow=True)
        if content is None:
            raise InputError(f"cannot read {path}: there is none")
        text = content.decode("utf-8")
        _refuse_byte_order_mark(text, path)
        config = text_format.Parse(text, model_config_pb2.ModelConfig())
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is no configuration of Triton: {error}") from error
    batch = (-1,) if config.max_batch_size > 0 else ()
    return ServedModel(
        name=folder.name,
        version="",
        inputs=tuple(_spec(each, batch, model_config_pb2) for each in config.input),
        outputs=tuple(_spec(each, batch, model_config_pb2) for each in config.output),
        parameters={key: value.string_value for key, value in config.parameters.items()},
        max_batch_size=config.max_batch_size,
    )


def _refuse_byte_order_mark(text: str, path: Path) -> None:
    if text.startswith("\ufeff"):
        raise InputError(
            f"{path} begins with a byte order mark (EF BB BF), which Triton does not read; save it as UTF-8 "
            f"without one"
        )


def _spec(tensor: Any, batch: tuple[int, ...], protocol: Any) -> TensorSpec:
    datatype = protocol.DataType.Name(tensor.data_type).removeprefix("TYPE_")
    return TensorSpec(name=tensor.name, datatype=datatype, shape=(*batch, *tensor.dims))


def lack_of(folder: Path) -> str | None:
    """Return why a model of a repository cannot be used as it lies there; None if it is complete."""
    versions = [path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()]
    if not versions:
        return f"a version: a folder {folder / '1'} with the model in it"
    newest = max(versions, key=lambda path: int(path.name))
    if not any(path.is_file() for path in newest.rglob("*")):
        return f"its model: {newest} is empty"
    try:
        return problem_of(folder)
    except InputError as error:
        return str(error)


def problem_of(folder: Path) -> str | None:
    """Return what is wrong with, or missing in, a model's description; None if it is complete.

    Raises
    ------
    InputError
        If there is no configuration, or it cannot be read.
    """
    served = read_config(folder)
    if len(served.inputs) != 1 or len(served.outputs) != 1:
        return f"model {served.name!r} needs one input and one output tensor in {CONFIG}"
    try:
        ModelDescription.from_server(served)
    except InferenceError as error:
        return str(error)
    return None


def nameless_in(folder: Path) -> tuple[int, ...]:
    """Return the labels of a complete model that nobody gave a meaning to."""
    return ModelDescription.from_server(read_config(folder)).nameless
