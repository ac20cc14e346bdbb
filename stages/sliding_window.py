"""Where the windows of a volume lie, how their overlaps are weighted, how the pieces are put together.

References
----------
Isensee et al., nnU-Net, Nature Methods 2021: overlapping windows with Gaussian importance weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stages.arrays import Array, array_namespace
from stages.errors import InferenceError, SettingsError

Predictor: TypeAlias = Callable[[Array], Array]
"""Takes windows (batch, channels, slices, rows, columns), returns scores (batch, classes, ...)."""

_SIGMA = 0.125  # of the window's size, as nnU-Net has it


def window_starts(size: int, window: int, overlap: float) -> list[int]:
    """Return where windows begin along an axis so that they cover it evenly.

    Parameters
    ----------
    size, window
        Length of the axis and of the window, voxels; the axis is at least as long.
    overlap
        Share of a window that its neighbour covers too, from 0 to below 1; what is used is at least
        this much.
    """
    if not 0 <= overlap < 1:
        raise SettingsError(f"the overlap of windows lies between 0 and 1, found {overlap}")
    step = max(1, int(window * (1 - overlap)))
    count = math.ceil((size - window) / step) + 1
    if count == 1:
        return [0]
    return [round(n * (size - window) / (count - 1)) for n in range(count)]


def gaussian_weights(window: Sequence[int]) -> NDArray[np.float32]:
    """Return the importance of each voxel of a window: 1 in its middle, never 0; float32."""
    weights: NDArray[np.float64] = np.ones(())
    for size in window:
        distance = np.arange(size) - (size - 1) / 2
        weights = weights[..., None] * np.exp(-0.5 * (distance / (_SIGMA * size)) ** 2)
    return np.asarray(np.maximum(weights / weights.max(), 1e-3), dtype=np.float32)


def constant_weights(window: Sequence[int]) -> NDArray[np.float32]:
    """Return equal importance for each voxel of a window."""
    return np.ones(tuple(window), dtype=np.float32)


def predict_in_windows(
    image: Array,
    predictor: Predictor,
    *,
    window_shape: tuple[int, int, int],
    overlap: float,
    classes: int,
    weights: NDArray[np.float32],
    padding: float = 0.0,
) -> Array:
    """Ask a predictor about each window of an image and blend the answers.

    Parameters
    ----------
    image
        Shape (slices, rows, columns), float32. Where it is smaller than a window it is padded evenly
        on both sides with `padding`, and the result cropped again.
    weights
        Importance of each voxel of a window, shape `window_shape`.

    Returns
    -------
    Array
        Scores (classes, slices, rows, columns), float32, where the image lives.

    Raises
    ------
    InferenceError
        If the predictor answers with another shape, or with values that are no numbers.
    """
    xp = array_namespace(image)
    padded, inner = _pad_to(image, window_shape, padding)
    scores = xp.zeros((classes, *padded.shape), dtype=np.float32)
    total = xp.zeros(padded.shape, dtype=np.float32)
    importance = xp.asarray(weights)
    starts = [window_starts(n, w, overlap) for n, w in zip(padded.shape, window_shape, strict=True)]
    for origin in itertools.product(*starts):
        place = tuple(slice(o, o + w) for o, w in zip(origin, window_shape, strict=True))
        answer = predictor(padded[place][None, None])
        if answer.shape != (1, classes, *window_shape):
            raise InferenceError(f"the model answered {answer.shape}, expected {(1, classes, *window_shape)}")
        scores[(slice(None), *place)] += answer[0] * importance
        total[place] += importance
    scores /= total
    if not bool(xp.isfinite(scores).all()):
        raise InferenceError("the model's scores hold values that are not finite")
    return scores[(slice(None), *inner)]


def _pad_to(
    image: Array, window_shape: tuple[int, int, int], padding: float
) -> tuple[Array, tuple[slice, slice, slice]]:
    missing = [max(0, window - size) for window, size in zip(window_shape, image.shape, strict=True)]
    before = [m // 2 for m in missing]
    inner = tuple(slice(b, b + size) for b, size in zip(before, image.shape, strict=True))
    if any(missing):
        widths = [(b, m - b) for b, m in zip(before, missing, strict=True)]
        image = array_namespace(image).pad(image, widths, constant_values=padding)
    return image, (inner[0], inner[1], inner[2])
