"""What makes a model's output scores between 0 and 1, window by window, where the output lives."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from stages.arrays import Array, array_namespace
from stages.errors import InferenceError

Activation: TypeAlias = Literal["none", "softmax", "sigmoid", "labels"]
"""``none``: the output is scores; ``labels``: the output is the index of a class, one channel."""


def activate(output: Array, activation: Activation, classes: int) -> Array:
    """Return the scores (batch, classes, ...) of a model's output (batch, channels, ...), float32.

    Parameters
    ----------
    output
        Of the model.
    activation
        What makes it scores.
    classes
        Number of classes.

    Raises
    ------
    InferenceError
        If an output that is class indices holds one that is not below `classes`.
    """
    if activation == "labels":
        return one_hot(output, classes)
    output = output.astype(np.float32, copy=False)
    if activation == "softmax":
        return softmax(output)
    return sigmoid(output) if activation == "sigmoid" else output


def softmax(logits: Array) -> Array:
    """Return scores that add up to 1 over the second axis.

    Parameters
    ----------
    logits
        Of a model, shape (batch, classes, ...), float32.
    """
    xp = array_namespace(logits)
    scores = logits - logits.max(axis=1, keepdims=True)
    xp.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def sigmoid(logits: Array) -> Array:
    """Return each value's own score between 0 and 1.

    Parameters
    ----------
    logits
        Of a model, any shape, float32.
    """
    xp = array_namespace(logits)
    scores = 0.5 * logits  # by tanh, which does not overflow
    xp.tanh(scores, out=scores)
    scores += 1
    scores *= 0.5
    return scores


def one_hot(indices: Array, classes: int) -> Array:
    """Return scores of 0 and 1 (batch, classes, ...), float32, from class indices.

    Parameters
    ----------
    indices
        Shape (batch, 1, ...).
    classes
        Number of classes.

    Raises
    ------
    InferenceError
        If there is an index outside of ``0 ... classes - 1``, or there are several channels.
    """
    xp = array_namespace(indices)
    if indices.shape[1] != 1:
        raise InferenceError(f"a model whose output is labels has one channel, it answered {indices.shape}")
    lowest, highest = float(indices.min()), float(indices.max())
    if not (lowest >= 0 and highest < classes):
        raise InferenceError(
            f"the model answered with labels from {lowest:g} to {highest:g}, expected 0 to {classes - 1}"
        )
    known = xp.arange(classes).reshape(1, classes, *[1] * (indices.ndim - 2))
    return (indices == known).astype(np.float32)
