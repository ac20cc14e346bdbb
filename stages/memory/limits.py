"""How much memory a run will take, told before it begins, and kept below a limit.

The limit is the lowest of: what the user says (``--memory-limit``), what the container is given (control
groups of version 1 and 2), and what the machine has free; on a device, what is free there. What a run takes
is the sum of its parts; where that is too much, fewer requests are in flight, then smaller batches, and if
that does not help either, the run is refused before a voxel is touched.

References
----------
Linux, ``Documentation/admin-guide/cgroup-v2.rst`` and ``cgroup-v1/memory.rst``.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from stages.compute.components_device import scratch_bytes
from stages.errors import SettingsError
from stages.windows.plan import WindowPlan

logger = logging.getLogger(__name__)

MIB = 2**20
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_BYTES_A_ROW = 110  # for components on the host: a row's counts, and two runs of a label
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)i?B?", re.IGNORECASE)
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_UNLIMITED = 2**60  # version 1 writes a number near 2**63 where there is no limit


@dataclass(frozen=True)
class MemoryLimit:
    """A number of bytes, and who sets it.

    Attributes
    ----------
    size
        Bytes that this process may take, those that it has already included.
    source
        Whose limit it is, for a message.
    """

    size: int
    source: str


class NoRoomError(SettingsError):
    """A run does not fit, however long one waits.

    Attributes
    ----------
    limit
        What there would be, and whose limit it is.
    """

    limit = MemoryLimit(0, "")


Reserve: TypeAlias = Callable[[Sequence[int]], tuple[int, MemoryLimit]]


UNLIMITED = MemoryLimit(_UNLIMITED, "nobody's limit")


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


def parse_size(text: str) -> int:
    """Return the bytes of a size such as ``4G``, ``512 MiB`` or ``1000000``; units are powers of 1024.

    Raises
    ------
    SettingsError
        If it is no size, or 0.
    """
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if size < 1:
        raise SettingsError(f"a size of memory is such as 4G or 512M, found {text!r}")
    return size


def parse_share(text: str, whole: int) -> int:
    """Return the bytes of a size, or of a share of a whole such as ``50%``.

    Parameters
    ----------
    text
        The size or the share.
    whole
        What a share is of, bytes.

    Raises
    ------
    SettingsError
        If it is neither, or not more than 0 and at most 100 %.
    """
    found = _SHARE.fullmatch(text.strip())
    if not found:
        return parse_size(text)
    share = float(found[1])
    if not 0 < share <= 100:
        raise SettingsError(f"a share of memory lies above 0 and up to 100%, found {text!r}")
    return int(whole * share / 100)


def in_words(size: int) -> str:
    """Return a size for a person."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{math.ceil(size / MIB)} MiB"


def host_limit(
    wanted: str | None = None, *, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> MemoryLimit:
    """Return what this process may take on the host.

    Parameters
    ----------
    wanted
        The user's own limit, as for `parse_size`.

    Raises
    ------
    SettingsError
        If the user's limit is no size.
    """
    limits = [MemoryLimit(parse_size(wanted), "--memory-limit")] if wanted else []
    if container := container_limit(proc=proc, cgroups=cgroups):
        limits.append(MemoryLimit(container, "the container's limit"))
    limits.append(MemoryLimit(_available(proc) + resident_bytes(proc), "the machine's free memory"))
    return min(limits, key=lambda limit: limit.size)


def container_limit(*, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the lowest memory limit of this process's control groups, bytes; None without any."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += _limits_above(cgroups, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits_above(cgroups / "memory", path, "memory.limit_in_bytes")
    return min(found, default=None)


def _limits_above(root: Path, path: str, name: str) -> list[int]:
    """Return the limits of a control group and of those it lies in; a container sees its own as the root."""
    limits = []
    folder = root / path.lstrip("/")
    for group in (folder, *folder.parents):
        if group.is_relative_to(root):
            try:
                limit = int((group / name).read_text())
            except (OSError, ValueError):  # there is none here, or it is "max"
                continue
            if limit < _UNLIMITED:
                limits.append(limit)
    return limits


def _available(proc: Path) -> int:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", (proc / "meminfo").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else _UNLIMITED


def resident_bytes(proc: Path = Path("/proc"), *, process: int | None = None) -> int:
    """Return what a process holds of the host's memory now, mapped files not counted, bytes.

    Parameters
    ----------
    process
        Its number; by default this process.
    """
    try:
        status = (proc / str(process or "self") / "status").read_text()
    except OSError:
        return 0
    kept = re.findall(r"^(?:RssAnon|RssShmem):\s+(\d+) kB", status, re.MULTILINE)
    return sum(int(number) for number in kept) * 1024


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
    """Return what asking about the windows of an image takes, slab by slab.

    Parameters
    ----------
    model_shape
        The image on the model's grid.
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
    count = windows.count(model_shape)
    batch = min(windows.batch, count)
    in_flight = min(windows.in_flight, -(-count // batch))
    asked = batch * math.prod(windows.shape) * image_itemsize
    answered = batch * math.prod(windows.shape) * windows.classes * 4
    # the image's layer and the one it is made from; sums, their weights, and the slab that is handed out
    weights = 1 if on_device else 3
    layers = {
        "image": 2 * layer * image_itemsize,
        "scores": (2 * windows.classes + weights) * layer * 4,
    }
    # messages hold what they carry twice; the first results come in some where their size is not known
    messages = in_flight * 2 * answered
    flight = {"requests in flight": in_flight * asked * (2 if by_messages else 1) + messages}
    if not on_device:  # windows side by side, their result, and the scores made of it
        return MemoryNeed(host={**layers, **flight, "one batch": asked + 2 * answered})
    if by_messages:
        return MemoryNeed(host=flight, device={**layers, "one batch": asked + answered})
    if shared_on_host:  # a batch comes from the device whole before it is written there
        there = {"requests in flight": in_flight * (asked + answered), "one batch": asked}
        return MemoryNeed(host=there, device={**layers, "one batch": asked + answered})
    # written where the server reads, and read where it answers
    flight = {"requests in flight": max(in_flight * (asked + answered), shared_on_device)}
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
    whole_image: bool = False,
    volume_itemsize: int = 2,
    image_itemsize: int = 4,
) -> MemoryNeed:
    """Return what a stage takes that reads a volume from a mapped file and makes a mask of it, slab by slab.

    Parameters
    ----------
    held_bytes, held_on_device
        What the process holds already (`resident_bytes`); on the device without the volume.
    pinned_bytes
        What of the host's memory the way to the device and back will take.
    by_messages, shared_on_host, shared_on_device
        As for `window_need`.
    whole_image
        Whether the model's input is made at once, since its intensities depend on all of it.
    volume_itemsize
        Bytes of a voxel of the volume. A mapped file takes no memory of the host that cannot be had back;
        on the device the volume lies whole.
    """
    voxels = math.prod(volume_shape)
    asked = window_need(
        windows,
        model_shape,
        on_device=on_device,
        by_messages=by_messages,
        shared_on_host=shared_on_host,
        shared_on_device=shared_on_device,
        image_itemsize=image_itemsize,
    )
    whole = {"whole image": math.prod(model_shape) * image_itemsize} if whole_image else {}
    host = {"the process": held_bytes, "mask": voxels, **asked.host}
    if not on_device:
        found = volume_shape[0] * volume_shape[1] * _BYTES_A_ROW
        return MemoryNeed(host={**host, **whole, "components": _beyond(found, asked.host)})
    found = scratch_bytes(volume_shape)
    device = {"the process": held_on_device, "volume": volume_itemsize * voxels, "mask": voxels}
    return MemoryNeed(
        host={**host, "way to the GPU": pinned_bytes},
        device={**device, **whole, **asked.device, "components": _beyond(found, asked.device)},
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
    need
        What a run with a plan takes: all of it, what the process holds already included.
    host
        What the host's memory may take.
    reserve
        Takes what is needed of the device by each plan, bytes, from the largest to the smallest, and returns
        which of them it has reserved, and the limit; raises `NoRoomError` where none can be. None where no
        device is used.

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
        except NoRoomError as error:
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
