"""Preprocessed image + predictor -> class scores on the model's grid."""

from __future__ import annotations

import numpy as np

from ai_livertumor.model import ModelDescription
from ai_livertumor.preprocess import normalise
from stages.arrays import Array, array_namespace
from stages.sliding_window import Predictor, constant_weights, gaussian_weights, predict_in_windows


def infer(image: Array, predictor: Predictor, model: ModelDescription) -> Array:
    """Return the scores (classes, slices, rows, columns) of an image, between 0 and 1, float32.

    Raises
    ------
    InferenceError
        If the predictor does not answer, or answers with another shape.
    """
    weights = gaussian_weights if model.blending == "gaussian" else constant_weights
    padding = normalise(np.array([model.padding_value_hu]), model)[0]
    return predict_in_windows(
        image,
        (lambda windows: softmax(predictor(windows))) if model.activation == "softmax" else predictor,
        window_shape=model.window_shape,
        overlap=model.overlap,
        classes=len(model.channel_labels),
        weights=weights(model.window_shape),
        padding=float(padding),
    )


def softmax(logits: Array) -> Array:
    """Return scores that add up to 1 over the second axis (the classes)."""
    xp = array_namespace(logits)
    scores = xp.exp(logits - logits.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    return scores
