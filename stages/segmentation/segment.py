"""Preprocess, infer, postprocess: the three calls in order, and nothing more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from stages.arrays import Array, array_namespace
from stages.compute.components_device import require_countable
from stages.compute.cuda.copiers import buffer_bytes
from stages.compute.cuda.transfer import download_place, stream_event, upload
from stages.errors import InputError
from stages.memory.limits import UNLIMITED, MemoryLimit, resident_bytes
from stages.model.description import ModelDescription
from stages.model.tensors import ModelTensors
from stages.runtime.sizes import in_words
from stages.segmentation.memory_estimate import fit, stage_need
from stages.segmentation.postprocess import has_logits, model_cleans, postprocess_slabs
from stages.segmentation.preprocess import ModelInput, preparation_need, preprocess, uncropped_shape
from stages.segmentation.server_side import score_slabs_anywhere
from stages.volume.geometry import reorient
from stages.volume.volume import Volume
from stages.windows.plan import CANONICAL, GaussianShape, WindowPlan
from stages.windows.sliding import Predictor

if TYPE_CHECKING:
    from stages.memory.gpu import GpuMemory

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
        HU, int16 or float32, on the host or on the device; the work is done where it lives, and the mask lies
        there.
    predictor
        Takes windows (batch, 1, slices, rows, columns), float32, and returns class scores of the
        same batch and size; usually a `stages.triton.client.TritonPredictor`.
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
    InputError
        If the volume is of another type, such as a mask.
    InferenceError
        If the predictor does not answer, or answers with another shape.
    SettingsError
        If the memory of host or device does not suffice for a window at a time, or the volume has more voxels
        than components can be found in on the device.
    StageTimeoutError
        If other stages did not leave the GPU's memory in time.
    DeviceMemoryError
        If the GPU's memory came to its end meanwhile.
    """
    clock = time.monotonic()
    brings = on_device and array_namespace(volume.array) is np
    _require_usable(volume, model, on_device=brings or array_namespace(volume.array) is not np)
    settings = _RunSettings(predictor, model, tensors, limit or UNLIMITED, gpu, deadline_s)
    with gpu.kept() if gpu is not None else nullcontext():
        fitted = _fitted(volume, settings, on_device=brings)
        mask = (_segment_on_device if brings else _segment)(volume, settings, fitted)
    if gpu is not None:
        logger.info("memory: %s of the GPU were taken at most", in_words(gpu.peak))
    logger.info(
        "segmented %s voxels in %.2f s", " x ".join(map(str, mask.array.shape)), time.monotonic() - clock
    )
    return mask


def _require_usable(volume: Volume, model: ModelDescription, *, on_device: bool) -> None:
    """Check now what would otherwise be noticed when the model has answered."""
    if volume.array.dtype not in (np.int16, np.float32):
        raise InputError(
            f"a CT's voxels are int16 or float32, those of this volume {volume.array.dtype}; is it a mask?"
        )
    if on_device and model_cleans(model):
        require_countable(volume.array.size)


@dataclass(frozen=True)
class _RunSettings:
    """What a volume is segmented by, and within which limits."""

    predictor: Predictor
    model: ModelDescription
    tensors: ModelTensors | None
    limit: MemoryLimit
    gpu: GpuMemory | None
    deadline_s: float


def _segment(
    volume: Volume,
    settings: _RunSettings,
    fitted: WindowPlan,
    wait_for: Callable[[Array], None] | None = None,
) -> Volume:
    """Return the mask where the volume lives; `wait_for` is that of `preprocess`."""
    prepared = preprocess(volume, settings.model, by_slabs=True, wait_for=wait_for)
    on_device = array_namespace(volume.array) is not np
    windows = window_plan(prepared, settings.model, settings.tensors, on_device=on_device)
    windows = replace(windows, batch=min(windows.batch, fitted.batch), in_flight=fitted.in_flight)
    slabs = score_slabs_anywhere(
        prepared.image,
        settings.predictor,
        windows=windows,
        limit=settings.limit,
        deadline_s=settings.deadline_s,
    )
    return postprocess_slabs(slabs, prepared, volume, settings.model)


def _segment_on_device(volume: Volume, settings: _RunSettings, fitted: WindowPlan) -> Volume:
    """Return the mask on the host, worked out on the device."""
    with upload(volume.array, backwards=_begins_at_the_end(volume, settings.model)) as arriving:
        place = download_place(volume.array.shape, np.uint8)
        mask = _segment(replace(volume, array=arriving.array), settings, fitted, arriving.wait_for)
    return mask.with_array(place.fill(mask.array, after=stream_event()))


def _begins_at_the_end(volume: Volume, model: ModelDescription) -> bool:
    """Return whether the model's first slices are the volume's last."""
    index = np.broadcast_to(np.arange(len(volume.array))[:, None, None], volume.array.shape)
    turned, _ = reorient(index, volume.affine, model.orientation)
    return bool(turned[0, 0, 0] > turned[-1, -1, -1])


def _fitted(volume: Volume, settings: _RunSettings, *, on_device: bool) -> WindowPlan:
    """Return the plan that the memory allows for all of a volume, however little of it the model will see.

    Parameters
    ----------
    volume, settings
        The volume and what it is segmented with.
    on_device
        Whether a volume of the host will be brought to the device.
    """
    is_there = array_namespace(volume.array) is not np
    shape = uncropped_shape(volume, settings.model)
    windows = _plan(shape, settings.model, settings.tensors, on_device or is_there)
    if settings.limit is UNLIMITED and settings.gpu is None:
        return windows
    transport = getattr(settings.predictor, "transport", None)
    need = partial(
        stage_need,
        volume_shape=volume.grid.shape,
        model_shape=shape,
        on_device=on_device or is_there,
        held_bytes=resident_bytes(),
        pinned_bytes=buffer_bytes() if on_device else 0,
        held_on_device=settings.gpu.held(volume.array.nbytes if is_there else 0) if settings.gpu else 0,
        shared_on_device=settings.gpu.shared if settings.gpu else 0,
        by_messages=transport in ("grpc", "http"),
        shared_on_host=transport == "system",
        preparation=preparation_need(
            volume,
            settings.model,
            slices=windows.shape[0] + 2 * windows.reach,
            on_device=on_device or is_there,
        ),
        volume_itemsize=volume.array.dtype.itemsize,
    )
    reserve = settings.gpu.reserve if settings.gpu is not None and (on_device or is_there) else None
    return fit(windows, need, settings.limit, reserve)


def window_plan(
    prepared: ModelInput,
    model: ModelDescription,
    tensors: ModelTensors | None = None,
    *,
    on_device: bool = False,
) -> WindowPlan:
    """Return how an image is cut into windows for a model.

    Parameters
    ----------
    prepared
        The image.
    model
        How its windows are made.
    tensors
        How the model wants them; by default (batch, channels, slices, rows, columns), float32.
    on_device
        Whether the image lies on the CUDA device.
    """
    return replace(_plan(prepared.grid.shape, model, tensors, on_device), padding=prepared.padding)


def _plan(
    image_shape: tuple[int, int, int], model: ModelDescription, tensors: ModelTensors | None, on_device: bool
) -> WindowPlan:
    shape = model.window_shape or image_shape
    return WindowPlan(
        shape=shape,
        classes=len(model.channel_labels),
        overlap=model.overlap,
        blending=model.blending,
        gaussian=GaussianShape(
            sigma=model.gaussian_sigma,
            floor=model.gaussian_floor,
            peak=model.gaussian_peak,
            precision=model.gaussian_precision,
        ),
        placement=model.window_placement,
        padding_mode=model.padding_mode,
        activation="none" if has_logits(model) else model.activation,
        activation_after="blending" if model.activation_after == "blending" else "window",
        mirror_axes=model.mirror_axes,
        slice_stack=model.slice_stack,
        models=1 + len(model.ensemble),
        batch=tensors.batch(shape, on_device=on_device) if tensors else 1,
        input_layout=tensors.input_layout if tensors else CANONICAL,
        output_layout=tensors.output_layout if tensors else CANONICAL,
    )
