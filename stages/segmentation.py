"""Preprocess, infer, postprocess: the three calls in order, and nothing more."""

from __future__ import annotations

import logging
import time

from stages.model import ModelDescription
from stages.model_tensors import ModelTensors
from stages.postprocess import postprocess
from stages.preprocess import ModelInput, preprocess
from stages.sliding_window import Predictor, predict_in_windows
from stages.volume import Volume
from stages.window_plan import CANONICAL, WindowPlan

logger = logging.getLogger(__name__)


def segment(
    volume: Volume, predictor: Predictor, *, model: ModelDescription, tensors: ModelTensors | None = None
) -> Volume:
    """Return the mask of a CT volume: uint8 labels on the volume's own grid.

    Parameters
    ----------
    volume
        Int16 HU, on the host or on the device; the work is done where it lives.
    predictor
        Takes windows (batch, 1, slices, rows, columns), float32, and returns class scores of the
        same batch and size; usually a `stages.triton.TritonPredictor`.
    model
        How the volume becomes the model's input, and its output a mask.
    tensors
        How the model wants its windows; by default (batch, channels, slices, rows, columns), float32.

    Raises
    ------
    InferenceError
        If the predictor does not answer, or answers with another shape.
    """
    clock = time.monotonic()
    prepared = preprocess(volume, model)
    preprocessed = time.monotonic()
    windows = window_plan(prepared, model, tensors)
    scores = predict_in_windows(prepared.image, predictor, windows=windows)
    inferred = time.monotonic()
    mask = postprocess(scores, prepared, volume, model)
    logger.info(
        "preprocess %.2f s, infer %.2f s on %s voxels, postprocess %.2f s",
        preprocessed - clock,
        inferred - preprocessed,
        " x ".join(map(str, prepared.grid.shape)),
        time.monotonic() - inferred,
    )
    return mask


def window_plan(
    prepared: ModelInput, model: ModelDescription, tensors: ModelTensors | None = None
) -> WindowPlan:
    """Return how an image is cut into windows for a model."""
    return WindowPlan(
        shape=model.window_shape or prepared.grid.shape,
        classes=len(model.channel_labels),
        overlap=model.overlap,
        blending=model.blending,
        padding=prepared.padding,
        activation=model.activation,
        mirror_axes=model.mirror_axes,
        input_layout=tensors.input_layout if tensors else CANONICAL,
        output_layout=tensors.output_layout if tensors else CANONICAL,
    )
