"""An ONNX graph, put together operator by operator from the weights of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.runtime.extras import require_extra

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

OPSET, IR_VERSION = 17, 9
"""Of the files: read by ONNX Runtime since 1.13, and by all engines of the model server."""

IMAGE, SCORES = "image", "scores"
WEIGHTS_FILE = "model.onnx.data"
_LARGEST_FILE = 1 << 30  # bytes; above, the weights lie beside it: no ONNX file may have 2 GiB


class OnnxGraph:
    """A graph that grows: each method adds an operator and returns the name of what comes out of it."""

    def __init__(self) -> None:
        require_extra("import")
        self._nodes: list[NodeProto] = []
        self._weights: list[TensorProto] = []
        self._bytes = 0

    def constant(self, value: NDArray[Any]) -> str:
        """Return the name of a constant.

        Parameters
        ----------
        value
            Of any shape.
        """
        from onnx import numpy_helper

        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        self._bytes += value.nbytes
        return name

    def number(self, value: float) -> str:
        """Return the name of a constant that is a single number.

        Parameters
        ----------
        value
            The number.
        """
        return self.constant(np.array(value, np.float32))

    def node(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Add an operator of ONNX with one output.

        Parameters
        ----------
        operator
            Its name in the standard.
        inputs
            Names of its inputs, "" for one that is left out.
        attributes
            As the standard has them.
        """
        from onnx import helper

        name = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def conv(
        self,
        x: str,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
        *,
        strides: Sequence[int],
        is_transposed: bool = False,
    ) -> str:
        """Add a convolution that keeps the size, but for its strides.

        Parameters
        ----------
        x
            What it is of.
        weight, bias
            As PyTorch has them: shape (out, in, kernel ...), transposed (in, out, kernel ...).
        strides
            Voxels, one number an axis.
        is_transposed
            Whether it makes the image larger; then its kernel is as large as its strides.
        """
        inputs = [x, self.constant(weight)] + ([self.constant(bias)] if bias is not None else [])
        kernel = list(weight.shape[2:])
        pads = [0 if is_transposed else (size - 1) // 2 for size in kernel]
        return self.node(
            "ConvTranspose" if is_transposed else "Conv",
            *inputs,
            kernel_shape=kernel,
            strides=list(strides),
            pads=pads + pads,
        )

    def mean(self, of: Sequence[str]) -> str:
        """Add the mean of several outputs of one shape.

        Parameters
        ----------
        of
            Their names.
        """
        return of[0] if len(of) == 1 else self.node("Mean", *of)

    def save(self, path: Path, output: str, sizes: Mapping[str, Sequence[int]]) -> None:
        """Write the graph as a model with the input ``image`` and the output ``scores``, in batches of any
        size.

        Parameters
        ----------
        path
            The file; weights that are too large for one lie beside it, in `WEIGHTS_FILE`.
        output
            Name of what comes out.
        sizes
            Of ``image`` and ``scores`` without the batch: channels, then the axes of the image.
        """
        import onnx
        from onnx import TensorProto, helper

        self._nodes.append(helper.make_node("Identity", [output], [SCORES]))
        image, scores = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *sizes[name]])
            for name in (IMAGE, SCORES)
        )
        graph = helper.make_graph(self._nodes, "model", [image], [scores], self._weights)
        model = helper.make_model(
            graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
        )
        beside = self._bytes > _LARGEST_FILE
        onnx.save(model, str(path), save_as_external_data=beside, location=WEIGHTS_FILE if beside else None)
