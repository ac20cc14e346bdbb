"""Preprocess, infer, postprocess: the three calls in order, and nothing more."""

from __future__ import annotations

import logging
import time

from ai_livertumor.infer import infer
from ai_livertumor.model import ModelDescription
from ai_livertumor.postprocess import postprocess
from ai_livertumor.preprocess import preprocess
from stages.sliding_window import Predictor
from stages.volume import Volume

logger = logging.getLogger(__name__)


def segment(volume: Volume, predictor: Predictor, *, model: ModelDescription) -> Volume:
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

    Raises
    ------
    InferenceError
        If the predictor does not answer, or answers with another shape.
    """
    clock = time.monotonic()
    prepared = preprocess(volume, model)
    preprocessed = time.monotonic()
    scores = infer(prepared.image, predictor, model)
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
