"""Chooses how sure the model must be of a tumour: `python -m training.calibrate CHECKPOINT OUTPUT.onnx`.

The balanced loss makes a network too ready to see tumours. One constant is added to the tumour's
score, the one that gives the best mean Dice on validation phantoms, and becomes part of the model.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.volume.overlap import dice
from training.export import export_onnx, largest_difference
from training.train import validation_windows
from training.unet import UNet

logger = logging.getLogger(__name__)

SHIFTS = (0.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0)


def best_shift(model: torch.nn.Module, windows: Sequence[Any], shifts: Sequence[float] = SHIFTS) -> float:
    """Return the shift with the best mean Dice of tumours over the windows that hold one."""
    results: list[list[float]] = [[] for _ in shifts]
    for image, truth in windows:
        if not (truth == 2).any():
            continue
        with torch.no_grad():
            scores = model(image)[0].numpy()
        for shift, found in zip(shifts, results, strict=True):
            moved = scores + np.array([0, 0, shift], np.float32)[:, None, None, None]
            found.append(dice(moved.argmax(0) == 2, truth == 2))
    means = [float(np.mean(found)) for found in results]
    logger.info("tumour Dice by shift: %s", {s: round(m, 3) for s, m in zip(shifts, means, strict=True)})
    return shifts[int(np.argmax(means))]


def main() -> None:
    """Read the command line, choose, and export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--phantoms", type=int, default=40)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = UNet().eval()
    model.load_state_dict(torch.load(arguments.checkpoint, weights_only=True))
    shift = best_shift(model, validation_windows(arguments.phantoms))
    with torch.no_grad():
        model.head[-1].bias[2] += shift
    export_onnx(model, arguments.output)
    logger.info("shift %.1f; ONNX differs by %.1e", shift, largest_difference(model, arguments.output))


if __name__ == "__main__":
    main()
