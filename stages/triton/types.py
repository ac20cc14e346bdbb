"""What a Triton server says of a model: its tensors, their types, its parameters.

A server says it as JSON; over gRPC the same messages are turned into JSON first, which writes 64-bit numbers
as texts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.errors import InferenceError
from stages.volume.origin import Algorithm

_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A tensor of a model.

    Attributes
    ----------
    name
        As in the model's ``config.pbtxt``.
    datatype
        Triton's name of it, such as ``FP32``.
    shape
        Size of each axis, the batch axis included; -1 where it is free.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    @classmethod
    def from_json(cls, tensor: Mapping[str, Any]) -> TensorSpec:
        """Return a tensor from a server's JSON.

        Parameters
        ----------
        tensor
            Object with ``name``, ``datatype`` and ``shape``.
        """
        shape = tuple(int(size) for size in tensor.get("shape", ()))
        return cls(name=tensor["name"], datatype=tensor["datatype"], shape=shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's type of its values.

        Raises
        ------
        InferenceError
            If they are no numbers that NumPy knows.
        """
        dtype = _DTYPES.get(self.datatype)
        if dtype is None:
            raise InferenceError(
                f"tensor {self.name!r} is {self.datatype}, expected one of {', '.join(_DTYPES)}"
            )
        found: np.dtype[Any] = np.dtype(dtype)
        return found


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What the server says of a model.

    Attributes
    ----------
    name, version
        The model, and the version that answers.
    inputs, outputs
        Its tensors, the batch axis included.
    parameters
        The ``parameters`` of its ``config.pbtxt``, as text.
    max_batch_size
        The largest batch; 0 for a model without a batch axis of Triton's own.
    """

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: Mapping[str, str]
    max_batch_size: int = 0

    @classmethod
    def from_json(cls, name: str, metadata: Mapping[str, Any], config: Mapping[str, Any]) -> ServedModel:
        """Return a model from a server's JSON.

        Parameters
        ----------
        name
            Of the model.
        metadata
            The server's answer about the model's tensors.
        config
            The server's answer about the model's configuration.

        Raises
        ------
        InferenceError
            If the model has not exactly one input and one output.
        """
        versions = metadata.get("versions") or [""]
        model = cls(
            name=name,
            version=versions[-1],
            inputs=tuple(map(TensorSpec.from_json, metadata.get("inputs", ()))),
            outputs=tuple(map(TensorSpec.from_json, metadata.get("outputs", ()))),
            parameters={
                key: each.get("string_value", "") for key, each in config.get("parameters", {}).items()
            },
            max_batch_size=int(config.get("max_batch_size", 0)),
        )
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            names = [tensor.name for tensor in (*model.inputs, *model.outputs)]
            raise InferenceError(f"model {name!r} needs one input and one output tensor, it has {names}")
        return model

    @property
    def algorithm(self) -> Algorithm:
        """The model as a mask's description names it, with the hash of what is said of it here.

        The hash of its weights is what its parameter ``weights_sha256`` (JSON) says, if there is one.
        """
        said = repr((self.name, self.version, self.inputs, self.outputs, sorted(self.parameters.items())))
        return Algorithm(
            name=self.name,
            version=self.version,
            weights_sha256=self.parameters.get("weights_sha256", "").strip('"'),
            configuration_sha256=hashlib.sha256(said.encode()).hexdigest(),
        )

    def output_bytes(self, shape: Sequence[int]) -> int:
        """Return the size of the output for an input, bytes, where both have as many voxels; 0 if unknown.

        Parameters
        ----------
        shape
            Of the input, in the layout of the model's input tensor.
        """
        entry, exit_ = self.inputs[0], self.outputs[0]
        if not len(exit_.shape) == len(entry.shape) == len(shape):
            return 0
        axes = zip(exit_.shape, entry.shape, shape, strict=True)
        sizes = [size if of_output == of_input == -1 else of_output for of_output, of_input, size in axes]
        return math.prod(sizes) * exit_.dtype.itemsize if min(sizes) > 0 else 0
