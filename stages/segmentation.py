"""Preprocess, infer, postprocess: the three calls in order, and nothing more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from stages.arrays import Array, array_namespace
from stages.geometry import reorient
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
    on_device: bool = False,
) -> Volume:
    """Return the mask of a CT volume: uint8 labels on the volume's own grid.

    Parameters
    ----------
    volume
        Int16 HU, on the host or on the device; the work is done where it lives, and the mask lies there.
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
    on_device
        Whether to work on the current CUDA device on a volume of the host, a mapped one at best: it comes
        there while its first slices are worked on already, and the mask comes back.

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
    work = _segment_on_device if on_device and array_namespace(volume.array) is np else _segment
    asked = _Asked(predictor, model, tensors, limit or UNLIMITED, gpu, deadline_s)
    with gpu.kept() if gpu is not None else nullcontext():
        mask = work(volume, asked)
    logger.info(
        "segmented %s voxels in %.2f s", " x ".join(map(str, mask.array.shape)), time.monotonic() - clock
    )
    return mask


@dataclass(frozen=True)
class _Asked:
    """What a volume is segmented by, and within which limits."""

    predictor: Predictor
    model: ModelDescription
    tensors: ModelTensors | None
    limit: MemoryLimit
    gpu: GpuMemory | None
    deadline_s: float


def _segment(volume: Volume, asked: _Asked, wait_for: Callable[[Array], None] | None = None) -> Volume:
    """Return the mask where the volume lives; `wait_for` is that of `preprocess`."""
    prepared = preprocess(volume, asked.model, by_slabs=True, wait_for=wait_for)
    windows = window_plan(prepared, asked.model, asked.tensors)
    if asked.limit is not UNLIMITED or asked.gpu is not None:
        windows = _fitted(windows, prepared, volume, asked.limit, asked.gpu)
    slabs = score_slabs_anywhere(
        prepared.image, asked.predictor, windows=windows, limit=asked.limit, deadline_s=asked.deadline_s
    )
    return postprocess_slabs(slabs, prepared, volume, asked.model)


def _segment_on_device(volume: Volume, asked: _Asked) -> Volume:
    """Return the mask on the host, worked out on the device."""
    from stages.device_transfer import download_place, stream_event, upload

    with upload(volume.array, backwards=_begins_at_the_end(volume, asked.model)) as arriving:
        place = download_place(volume.array.shape, np.uint8)
        mask = _segment(replace(volume, array=arriving.array), asked, arriving.wait_for)
    return mask.with_array(place.fill(mask.array, after=stream_event()))


def _begins_at_the_end(volume: Volume, model: ModelDescription) -> bool:
    """Return whether the model's first slices are the volume's last."""
    index = np.broadcast_to(np.arange(len(volume.array))[:, None, None], volume.array.shape)
    turned, _ = reorient(index, volume.affine, model.orientation)
    return bool(turned[0, 0, 0] > turned[-1, -1, -1])


def _fitted(
    windows: WindowPlan, prepared: ModelInput, volume: Volume, limit: MemoryLimit, gpu: GpuMemory | None
) -> WindowPlan:
    """Return the plan that the memory allows, its share of the GPU's reserved."""
    held, held_on_device = resident_bytes(), gpu.held(volume.array.nbytes) if gpu is not None else 0

    def need(plan: WindowPlan) -> MemoryNeed:
        return stage_need(
            plan,
            volume.grid.shape,
            prepared.grid.shape,
            on_device=array_namespace(volume.array) is not np,
            held_bytes=held,
            held_on_device=held_on_device,
            whole_image=not isinstance(prepared.image, LazyImage),
        )

    return fit(windows, need, limit, gpu.reserve if gpu is not None else None)


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
