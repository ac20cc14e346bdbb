"""What an ONNX file says of its inputs and outputs, read without its weights.

The fields are decoded here, by Protocol Buffers' own rules, although the library is installed: it parses a
message whole, so that a model of some hundred MB would be copied into memory for two of its fields, and it
takes no file above 2 GB. Here the file is mapped, and what is not asked for is skipped by its length. Nor
does the model's schema (the ``onnx`` package) have to be installed.

References
----------
ONNX, ``onnx.proto``: ModelProto, GraphProto, ValueInfoProto, TypeProto, TensorShapeProto, TensorProto.
Protocol Buffers, "Encoding": tags, variable-length integers, lengths.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stages.errors import InputError
from stages.triton.types import TensorSpec

Bytes = bytes | memoryview
_GRAPH, _INITIALIZER, _INPUT, _OUTPUT = 7, 5, 11, 12
_TENSOR_NAME, _EXTERNAL_DATA = 8, 13
_DEEPEST = 64
_MODEL, _TENSOR = "model", "tensor"
_BELOW: dict[str, dict[int, str]] = {  # by field, what of a message holds tensors
    _MODEL: {_GRAPH: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", _INITIALIZER: _TENSOR, 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
}
_TRITON_TYPES = {
    1: "FP32",
    2: "UINT8",
    3: "INT8",
    4: "UINT16",
    5: "INT16",
    6: "INT32",
    7: "INT64",
    9: "BOOL",
    10: "FP16",
    11: "FP64",
    12: "UINT32",
    13: "UINT64",
}


@dataclass(frozen=True, kw_only=True)
class OnnxTensors:
    """The tensors of an ONNX model.

    Attributes
    ----------
    inputs, outputs
        With Triton's data types; -1 where a size is free.
    weight_files
        Names of the files beside the model that hold weights.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weight_files: tuple[str, ...]


def read_tensors(path: Path) -> OnnxTensors:
    """Read the inputs and outputs of an ONNX file.

    Raises
    ------
    InputError
        If it cannot be read or is no ONNX model.
    """
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise ValueError("it is empty")
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed with its last view
            return _tensors(memoryview(content))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} is no ONNX model: {error}") from error


def _tensors(content: memoryview) -> OnnxTensors:
    graphs = [bytes_ for number, bytes_ in _fields(content) if number == _GRAPH]
    if len(graphs) != 1 or isinstance(graphs[0], int):
        raise ValueError("it has no graph")
    inputs, outputs = [], []
    weights: set[str] = set()
    files: set[str] = set()
    for tensor in _tensors_below(content, _MODEL):
        files.update(_external_files(tensor))
    for number, value in _fields(graphs[0]):
        if isinstance(value, int):
            continue
        if number == _INITIALIZER:
            weights.add(_text(value, _TENSOR_NAME))
        elif number == _INPUT:
            inputs.append(value)
        elif number == _OUTPUT:
            outputs.append(value)
    told = [_tensor(value) for value in inputs]
    return OnnxTensors(
        inputs=tuple(tensor for tensor in told if tensor.name not in weights),
        outputs=tuple(_tensor(value) for value in outputs),
        weight_files=tuple(sorted(files)),
    )


def _tensors_below(message: Bytes, kind: str, depth: int = 0) -> Iterator[Bytes]:
    """Yield every tensor of a message, wherever it stands: weights, constants, bodies of loops, functions."""
    if kind == _TENSOR:
        yield message
        return
    if depth > _DEEPEST:
        raise ValueError(f"its graphs are nested more than {_DEEPEST} deep")
    for number, value in _fields(message):
        below = _BELOW[kind].get(number)
        if below is not None and not isinstance(value, int):
            yield from _tensors_below(value, below, depth + 1)


def _tensor(value: Bytes) -> TensorSpec:
    name = _text(value, 1)
    kind = _part(_part(value, 2), 1)
    number = next((found for field, found in _fields(kind) if field == 1), 0)
    if not isinstance(number, int) or number not in _TRITON_TYPES:
        raise ValueError(f"tensor {name!r} is of type {number!r}, which Triton does not know")
    sizes = (
        next((found for field, found in _fields(each) if field == 1), -1)
        for field, each in _fields(_part(kind, 2))
        if field == 1 and not isinstance(each, int)
    )
    shape = tuple(size if isinstance(size, int) and size > 0 else -1 for size in sizes)
    return TensorSpec(name=name, datatype=_TRITON_TYPES[number], shape=shape)


def _external_files(tensor: Bytes) -> Iterator[str]:
    for number, entry in _fields(tensor):
        if number == _EXTERNAL_DATA and not isinstance(entry, int) and _text(entry, 1) == "location":
            name = _text(entry, 2)
            if PurePosixPath(name).name != name:
                raise ValueError(f"its weights lie in {name!r}; expected a file beside it")
            yield name


def _part(message: Bytes, number: int) -> Bytes:
    found = next((value for field, value in _fields(message) if field == number), b"")
    return b"" if isinstance(found, int) else found


def _text(message: Bytes, number: int) -> str:
    return bytes(_part(message, number)).decode()


def _fields(message: Bytes) -> Iterator[tuple[int, int | Bytes]]:
    """Yield number and value of each field of a message; what has a length is not copied."""
    at = 0
    while at < len(message):
        tag, at = _integer(message, at)
        number, kind = tag >> 3, tag & 7
        if number == 0 or kind not in (0, 1, 2, 5):
            raise ValueError(f"byte {at} is of no protocol buffer")
        if kind == 0:
            value, at = _integer(message, at)
            yield number, value
            continue
        length, at = _integer(message, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        if at + length > len(message):
            raise ValueError(f"it ends within a field of {length} bytes")
        yield number, message[at : at + length]
        at += length


def _integer(message: Bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError(f"byte {at} is of no protocol buffer")
