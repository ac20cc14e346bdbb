"""Preprocess, infer, postprocess: the three calls in order, and nothing more."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from stages.arrays import array_namespace
from stages.memory import UNLIMITED, MemoryLimit, fit, resident_bytes, stage_need
from stages.model import ModelDescription
from stages.model_tensors import ModelTensors
from stages.postprocess import postprocess_slabs
from stages.preprocess import ModelInput, preprocess, uncropped_shape
from stages.remote_windows import score_slabs_anywhere
from stages.sliding_window import Predictor
from stages.volume import Volume
from stages.window_plan import CANONICAL, WindowPlan

if TYPE_CHECKING:
    from stages.gpu_memory import GpuMemory

logger = logging.getLogger(__name__)


def segment(
    volume: Volume,
    predictor: Predictor,
    *,
    model: ModelDescription,
    tensors: ModelTensors | None = None,
    limit: MemoryLimit | None = None,
    gpu: GpuMemory | None = None,
    deadline_s: float = 120.0,
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
    limit
        What the host's memory may take; the peak is told before the start, and kept below it.
    gpu
        What may be taken of the GPU that the volume is on: it is reserved before the start, waited for where
        other stages hold it, and kept.
    deadline_s
        Longest time for the answer about a window, seconds, where windows are cut beside the model.

    Raises
    ------
    InferenceError
        If the predictor does not answer, or answers with another shape.
    SettingsError
        If the memory of host or device does not suffice for a window at a time.
    StageTimeoutError
        If other stages did not leave the GPU's memory in time.
    DeviceMemoryError
        If the GPU's memory came to its end meanwhile.
    """
    clock = time.monotonic()
    with gpu.kept() if gpu is not None else nullcontext():
        fitted = _fitted(volume, predictor, model, tensors, limit=limit, gpu=gpu)
        prepared = preprocess(volume, model, by_slabs=True)
        windows = window_plan(prepared, model, tensors)
        windows = replace(windows, batch=min(windows.batch, fitted.batch), in_flight=fitted.in_flight)
        slabs = score_slabs_anywhere(
            prepared.image, predictor, windows=windows, limit=limit, deadline_s=deadline_s
        )
        mask = postprocess_slabs(slabs, prepared, volume, model)
    logger.info(
        "segmented %s voxels in %.2f s", " x ".join(map(str, prepared.grid.shape)), time.monotonic() - clock
    )
    return mask


def _fitted(
    volume: Volume,
    predictor: Predictor,
    model: ModelDescription,
    tensors: ModelTensors | None,
    *,
    limit: MemoryLimit | None,
    gpu: GpuMemory | None,
) -> WindowPlan:
    """Return the plan that the memory allows for all of a volume, however little of it the model will see."""
    on_device = array_namespace(volume.array) is not np
    shape = uncropped_shape(volume, model)
    windows = _plan(shape, model, tensors)
    if limit is None and gpu is None:
        return windows
    need = partial(
        stage_need,
        volume_shape=volume.grid.shape,
        model_shape=shape,
        on_device=on_device,
        held_bytes=resident_bytes(),
        held_on_device=gpu.held(volume.array.nbytes) if gpu is not None and on_device else 0,
        by_messages=getattr(predictor, "transport", None) in ("grpc", "http"),
        whole_image=model.intensity_zscore == "foreground",
        volume_itemsize=volume.array.dtype.itemsize,
    )
    return fit(windows, need, limit or UNLIMITED, gpu.reserve if gpu is not None and on_device else None)


def window_plan(
    prepared: ModelInput, model: ModelDescription, tensors: ModelTensors | None = None
) -> WindowPlan:
    """Return how an image is cut into windows for a model."""
    return replace(_plan(prepared.grid.shape, model, tensors), padding=prepared.padding)


def _plan(
    image_shape: tuple[int, int, int], model: ModelDescription, tensors: ModelTensors | None
) -> WindowPlan:
    shape = model.window_shape or image_shape
    return WindowPlan(
        shape=shape,
        classes=len(model.channel_labels),
        overlap=model.overlap,
        blending=model.blending,
        activation=model.activation,
        mirror_axes=model.mirror_axes,
        batch=tensors.batch(shape) if tensors else 1,
        input_layout=tensors.input_layout if tensors else CANONICAL,
        output_layout=tensors.output_layout if tensors else CANONICAL,
    )
