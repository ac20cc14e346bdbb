"""Preprocess, infer, postprocess: the three calls in order, and nothing more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from stages.arrays import array_namespace
from stages.memory import UNLIMITED, MemoryLimit, MemoryNeed, fit, resident_bytes, stage_need
from stages.model import ModelDescription
from stages.model_tensors import ModelTensors
from stages.postprocess import postprocess_slabs
from stages.preprocess import ModelInput, preprocess
from stages.remote_windows import score_slabs_anywhere
from stages.sliding_window import LazyImage, Predictor
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
        prepared = preprocess(volume, model, by_slabs=True)
        windows = window_plan(prepared, model, tensors)
        if limit is not None or gpu is not None:
            need = _need(prepared, volume, predictor, gpu)
            reserve = gpu.reserve if gpu is not None else None
            windows = fit(windows, need, limit or UNLIMITED, reserve)
        slabs = score_slabs_anywhere(
            prepared.image, predictor, windows=windows, limit=limit, deadline_s=deadline_s
        )
        mask = postprocess_slabs(slabs, prepared, volume, model)
    logger.info(
        "segmented %s voxels in %.2f s", " x ".join(map(str, prepared.grid.shape)), time.monotonic() - clock
    )
    return mask


def predicted_need(
    volume: Volume,
    predictor: Predictor,
    *,
    model: ModelDescription,
    tensors: ModelTensors | None = None,
    gpu: GpuMemory | None = None,
) -> MemoryNeed:
    """Return what `segment` takes of host and device where no limit makes it ask about fewer windows.

    Parameters
    ----------
    volume, predictor, model, tensors, gpu
        As for `segment`.
    """
    prepared = preprocess(volume, model, by_slabs=True)
    return _need(prepared, volume, predictor, gpu)(window_plan(prepared, model, tensors))


def _need(
    prepared: ModelInput, volume: Volume, predictor: Predictor, gpu: GpuMemory | None
) -> Callable[[WindowPlan], MemoryNeed]:
    """Return what tells the memory that a run with a plan takes."""
    return partial(
        stage_need,
        volume_shape=volume.grid.shape,
        model_shape=prepared.grid.shape,
        on_device=array_namespace(volume.array) is not np,
        held_bytes=resident_bytes(),
        held_on_device=gpu.held(volume.array.nbytes) if gpu is not None else 0,
        by_messages=getattr(predictor, "transport", None) in ("grpc", "http"),
        whole_image=not isinstance(prepared.image, LazyImage),
        volume_itemsize=volume.array.dtype.itemsize,
    )


def window_plan(
    prepared: ModelInput, model: ModelDescription, tensors: ModelTensors | None = None
) -> WindowPlan:
    """Return how an image is cut into windows for a model."""
    shape = model.window_shape or prepared.grid.shape
    return WindowPlan(
        shape=shape,
        classes=len(model.channel_labels),
        overlap=model.overlap,
        blending=model.blending,
        padding=prepared.padding,
        activation=model.activation,
        mirror_axes=model.mirror_axes,
        batch=tensors.batch(shape) if tensors else 1,
        input_layout=tensors.input_layout if tensors else CANONICAL,
        output_layout=tensors.output_layout if tensors else CANONICAL,
    )
