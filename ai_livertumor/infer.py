"""Preprocessed image + predictor -> class scores on the model's grid."""

from __future__ import annotations

import numpy as np

from ai_livertumor.model import ModelDescription
from ai_livertumor.preprocess import normalise
from stages.activation import softmax
from stages.arrays import Array
from stages.sliding_window import Predictor, WindowPlan, predict_in_windows

__all__ = ["infer", "softmax", "window_plan"]


def infer(image: Array, predictor: Predictor, model: ModelDescription) -> Array:
    """Return the scores (classes, slices, rows, columns) of an image, between 0 and 1, float32.

    Raises
    ------
    InferenceError
        If the predictor does not answer, or answers with another shape.
    """
    return predict_in_windows(image, predictor, windows=window_plan(model))


def window_plan(model: ModelDescription) -> WindowPlan:
    """Return how images are cut into windows for a model."""
    return WindowPlan(
        shape=model.window_shape,
        classes=len(model.channel_labels),
        overlap=model.overlap,
        blending=model.blending,
        padding=float(normalise(np.array([model.padding_value_hu]), model)[0]),
        activation=model.activation,
    )
