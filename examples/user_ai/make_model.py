"""Make models/body_fat/1/model.onnx: a network whose weights are known from radiology, not from training.

Fat has -190 to -30 HU. The network takes the mean over 3 x 3 x 3 voxels and scores how far it lies within.
Needs the package onnx.

References
----------
Yoshizumi et al., Abdominal fat: standardized technique for measurement at CT, Radiology 1999.
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LOW_HU, HIGH_HU = -190, -30
HU_PER_LOGIT = 10


def make_model() -> onnx.ModelProto:
    """Return the network: CT in HU -> one logit a voxel."""
    numbers = {"middle": (LOW_HU + HIGH_HU) / 2, "half": (HIGH_HU - LOW_HU) / 2, "scale": 1 / HU_PER_LOGIT}
    nodes = [
        helper.make_node("AveragePool", ["image"], ["mean"], kernel_shape=[3] * 3, pads=[1] * 6),
        helper.make_node("Sub", ["mean", "middle"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["distance"]),
        helper.make_node("Sub", ["half", "distance"], ["within"]),
        helper.make_node("Mul", ["within", "scale"], ["scores"]),
    ]
    tensors = [
        helper.make_tensor_value_info(
            name, TensorProto.FLOAT, ["batch", 1, f"{name}_slices", f"{name}_rows", f"{name}_columns"]
        )
        for name in ("image", "scores")
    ]
    weights = [numpy_helper.from_array(np.float32(value), name) for name, value in numbers.items()]
    graph = helper.make_graph(nodes, "body_fat", tensors[:1], tensors[1:], weights)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])


if __name__ == "__main__":
    onnx.save(make_model(), sys.argv[1])
