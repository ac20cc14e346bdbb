"""How much memory a run will take, told before it begins, and kept below the limits.

What a run takes is the sum of its parts; where that is too much, fewer requests are in flight, then smaller
batches, and if that does not help either, the run is refused before a voxel is touched.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from stages.compute.components_device import scratch_bytes
from stages.errors import SettingsError
from stages.memory.limits import MemoryLimit, MemoryLimitError
from stages.runtime.sizes import MIB, in_words
from stages.windows.plan import WindowPlan

logger = logging.getLogger(__name__)

_BYTES_A_ROW = 110  # for components on the host: a row's counts, and two runs of a label

Reserve: TypeAlias = Callable[[Sequence[int]], tuple[int, MemoryLimit]]


@dataclass(frozen=True, kw_only=True)
class MemoryNeed:
    """The peak of what a run takes, by part, bytes.

    Attributes
    ----------
    host, device
        What each part takes there.
    """

    host: Mapping[str, int] = field(default_factory=dict)
    device: Mapping[str, int] = field(default_factory=dict)

    @property
    def host_bytes(self) -> int:
        """The sum of all parts on the host."""
        return sum(self.host.values())

    @property
    def device_bytes(self) -> int:
        """The sum of all parts on the device."""
        return sum(self.device.values())


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What making a model's input takes beside a slab of it, bytes, where that is done.

    Attributes
    ----------
    held
        What is held as long as windows are asked about, by part.
    before
        What is taken, and given back, before the first of them.
    """

    held: Mapping[str, int] = field(default_factory=dict)
    before: int = 0


def window_need(
    windows: WindowPlan,
    model_shape: tuple[int, int, int],
    *,
    on_device: bool,
    by_messages: bool = False,
    shared_on_host: bool = False,
    shared_on_device: int = 0,
    image_itemsize: int = 4,
) -> MemoryNeed:
    """Return what sending the windows of an image and blending the outputs takes, slab by slab.

    Parameters
    ----------
    windows
        How the image is cut.
    model_shape
        Slices, rows and columns of the image on the model's grid.
    on_device
        Whether image and scores lie on the CUDA device.
    by_messages
        Whether windows and answers travel in messages, rather than in memory shared with the server.
    shared_on_host
        Whether that memory is the host's even where image and scores lie on the device.
    shared_on_device
        Bytes of the device that are shared with the server already; they are used again.
    image_itemsize
        Bytes of a voxel of the image.
    """
    _, rows, columns = windows.padded_shape(model_shape)
    layer = windows.shape[0] * rows * columns
    seen = (windows.shape[0] + 2 * windows.reach) * rows * columns
    count = windows.count(model_shape)
    batch = min(windows.batch, count)
    in_flight = min(windows.in_flight, -(-count // batch)) * windows.models
    sent = batch * math.prod(windows.shape) * windows.slice_stack * image_itemsize
    received = batch * math.prod(windows.shape) * windows.classes * 4
    # the image's layer and the one it is made from; sums, their weights, and the slab that is handed out
    weights = 1 if on_device else 3
    layers = {
        "image": 2 * seen * image_itemsize,
        "scores": (2 * windows.classes + weights) * layer * 4,
    }
    # messages hold what they carry twice; the first results come in some where their size is not known
    messages = in_flight * 2 * received
    flight = {"requests in flight": in_flight * sent * (2 if by_messages else 1) + messages}
    if not on_device:  # windows side by side, their result, and the scores made of it
        return MemoryNeed(host={**layers, **flight, "one batch": sent + 2 * received})
    if by_messages:
        return MemoryNeed(host=flight, device={**layers, "one batch": sent + received})
    if shared_on_host:  # a batch comes from the device whole before it is written there
        there = {"requests in flight": in_flight * (sent + received), "one batch": sent}
        return MemoryNeed(host=there, device={**layers, "one batch": sent + received})
    # written where the server reads, and read where it answers
    flight = {"requests in flight": max(in_flight * (sent + received), shared_on_device)}
    return MemoryNeed(device={**layers, **flight})


def stage_need(
    windows: WindowPlan,
    volume_shape: tuple[int, int, int],
    model_shape: tuple[int, int, int],
    *,
    on_device: bool,
    held_bytes: int,
    pinned_bytes: int = 0,
    held_on_device: int = 0,
    by_messages: bool = False,
    shared_on_host: bool = False,
    shared_on_device: int = 0,
    preparation: Preparation | None = None,
    volume_itemsize: int = 2,
    image_itemsize: int = 4,
) -> MemoryNeed:
    """Return what a stage takes that reads a volume from a mapped file and makes a mask of it, slab by slab.

    Parameters
    ----------
    windows
        How the model's input is cut.
    volume_shape, model_shape
        Slices, rows and columns of the volume and of the model's input.
    on_device
        Whether the volume lies on the CUDA device.
    held_bytes, held_on_device
        What the process holds already (`resident_bytes`); on the device without the volume.
    pinned_bytes
        What of the host's memory the way to the device and back will take.
    by_messages, shared_on_host, shared_on_device
        As for `window_need`.
    preparation
        What making the model's input takes beside a slab of it.
    volume_itemsize
        Bytes of a voxel of the volume. A mapped file takes no memory of the host that cannot be had back;
        on the device the volume lies whole.
    image_itemsize
        Bytes of a voxel of the model's input.
    """
    voxels = math.prod(volume_shape)
    of_windows = window_need(
        windows,
        model_shape,
        on_device=on_device,
        by_messages=by_messages,
        shared_on_host=shared_on_host,
        shared_on_device=shared_on_device,
        image_itemsize=image_itemsize,
    )
    prepared = preparation or Preparation()
    windows_take = of_windows.device if on_device else of_windows.host
    whole = {**prepared.held, "preparation": max(0, prepared.before - sum(windows_take.values()))}
    host = {"the process": held_bytes, "mask": voxels, **of_windows.host}
    if not on_device:
        found = volume_shape[0] * volume_shape[1] * _BYTES_A_ROW
        return MemoryNeed(host={**host, **whole, "components": _beyond(found, of_windows.host)})
    found = scratch_bytes(volume_shape)
    device = {"the process": held_on_device, "volume": volume_itemsize * voxels, "mask": voxels}
    return MemoryNeed(
        host={**host, "way to the GPU": pinned_bytes},
        device={**device, **whole, **of_windows.device, "components": _beyond(found, of_windows.device)},
    )


def _beyond(size: int, windows: Mapping[str, int]) -> int:
    """Return what is taken after the last window beyond what the windows have left free by then."""
    return max(0, size - windows["scores"] - windows.get("one batch", 0))


def fit(
    windows: WindowPlan,
    need: Callable[[WindowPlan], MemoryNeed],
    host: MemoryLimit,
    reserve: Reserve | None = None,
) -> WindowPlan:
    """Return the plan with as many requests in flight, and as large batches, as the limits allow; log it.

    Parameters
    ----------
    windows
        The plan that is wanted.
    need
        What a run with a plan takes: all of it, what the process holds already included.
    host
        What the host's memory may take.
    reserve
        Takes what is needed of the device by each plan, bytes, from the largest to the smallest, and returns
        which of them it has reserved, and the limit; raises `MemoryLimitError` where none can be. None where
        no device is used.

    Raises
    ------
    SettingsError
        If even one window at a time does not fit, with the sum and its largest parts.
    """
    plans = _smaller(windows)
    needs = [(plan, need(plan)) for plan in plans]
    fitting = [(plan, needed) for plan, needed in needs if needed.host_bytes <= host.size]
    if not fitting:
        raise SettingsError(_refusal(needs[-1][1], host, None))
    chosen, device = 0, None
    if reserve is not None:
        try:
            chosen, device = reserve([needed.device_bytes for _, needed in fitting])
        except MemoryLimitError as error:
            raise SettingsError(_refusal(fitting[-1][1], host, error.limit)) from error
    plan, needed = fitting[chosen]
    _log(plan, windows, needed, host, device)
    return plan


def _smaller(windows: WindowPlan) -> list[WindowPlan]:
    fewer = [replace(windows, in_flight=n) for n in range(windows.in_flight, 0, -1)]
    batches = []
    batch = windows.batch
    while batch > 1:
        batch //= 2
        batches.append(replace(windows, in_flight=1, batch=batch))
    return fewer + batches


def _log(
    plan: WindowPlan, wanted: WindowPlan, need: MemoryNeed, host: MemoryLimit, device: MemoryLimit | None
) -> None:
    places = [f"{in_words(need.host_bytes)} of {in_words(host.size)} ({host.source})"]
    if device is not None:
        places.append(
            f"on the GPU {in_words(need.device_bytes)} of {in_words(device.size)} ({device.source})"
        )
    parts = [_parts(need.host)] + ([f"on the GPU {_parts(need.device)}"] if device else [])
    logger.info("memory: at most %s; %s", ", ".join(places), "; ".join(parts))
    if plan != wanted:
        logger.warning(
            "to stay within the memory, %d requests of %d windows are in flight instead of %d of %d",
            plan.in_flight,
            plan.batch,
            wanted.in_flight,
            wanted.batch,
        )


def _refusal(need: MemoryNeed, host: MemoryLimit, device: MemoryLimit | None) -> str:
    if device is not None:
        kind, parts, needed, limit = "GPU memory", need.device, need.device_bytes, device
        advice = "run on the host (--device cpu)"
    else:
        kind, parts, needed, limit = "memory", need.host, need.host_bytes, host
        advice = "allow more"
    return (
        f"this volume needs {in_words(needed)} of {kind} even with one window at a time, and there are "
        f"{in_words(limit.size)} ({limit.source}): {_parts(parts)}; {advice}, "
        f"or use a model with smaller windows or larger voxels"
    )


def _parts(parts: Mapping[str, int]) -> str:
    largest = sorted(parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {in_words(size)}" for name, size in largest if size >= MIB)
