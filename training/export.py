"""Writes a trained network as ONNX and checks that it still says the same."""

import copy
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from stages.runtime import atomic
from training.unet import MULTIPLE, UNet

OPSET = 17
_AXES = {0: "batch", 2: "slices", 3: "rows", 4: "columns"}


def export_onnx(model: nn.Module, path: Path) -> Path:
    """Write `model` to `path`: input "image", output "scores"; batch and spatial axes are dynamic."""
    model = copy.deepcopy(model).eval().float()
    example = torch.zeros(1, 1, 2 * MULTIPLE, 2 * MULTIPLE, 2 * MULTIPLE)
    with atomic.writing(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter is meant: it keeps the graph plain and dynamic
        torch.onnx.export(
            model,
            (example,),
            file.name,
            input_names=["image"],
            output_names=["scores"],
            dynamic_axes={"image": _AXES, "scores": _AXES},
            opset_version=OPSET,
            dynamo=False,
        )
    return path


def largest_difference(model: nn.Module, path: Path, shape: tuple[int, ...] = (2, 1, 32, 48, 64)) -> float:
    """Largest difference between the scores of the network and of the file, for one random input."""
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"image": image})
    with torch.no_grad():
        expected = model.eval().float()(torch.from_numpy(image)).numpy()
    return float(np.abs(scores - expected).max())


def export_checkpoint(checkpoint: Path, path: Path) -> float:
    """Write the network of a checkpoint to `path`; returns the largest difference found."""
    model = UNet()
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    export_onnx(model, path)
    return largest_difference(model, path)
