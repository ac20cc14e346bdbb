"""How a model's description has HU become intensities, by numbers of its own or of the volume."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from stages.arrays import Array, array_namespace
from stages.compute.components import fill_holes
from stages.compute.intensity import Intensity
from stages.compute.strides import order_in_memory, parts_of, turned
from stages.model.description import ModelDescription
from stages.model.parameters import Statistics

_HU_VALUES = 2**16  # of int16


def leaves_zeros(model: ModelDescription) -> bool:
    """Return whether a model's intensities are those of the voxels that are not 0, the others staying 0.

    Parameters
    ----------
    model
        How HU become intensities.
    """
    return model.intensity_zscore in ("nonzero", "nonzero_filled")


def intensity_of(model: ModelDescription, image: Array) -> Intensity:
    """Return how HU become intensities.

    Parameters
    ----------
    model
        How they do.
    image
        HU; its statistics count where the model has none of its own. None where it has.
    """
    low, high = _bounds(model, image)
    if model.intensity_zscore is not None:
        wanted = model.intensity_zscore
        found = _own_statistics(model, image, low, high) if isinstance(wanted, str) else wanted
        return Intensity(low, high, zero=found.mean, scale=1 / found.std)
    if not isinstance(model.intensity_scale, tuple):
        return Intensity(low, high)
    bottom, top = model.intensity_scale
    scale = (top - bottom) / (high - low) if high > low else 0.0  # a volume of one value
    return Intensity(low, high, zero=low, scale=scale, offset=bottom)


def change_intensities(image: Array, intensity: Intensity, model: ModelDescription, *, out: Array) -> None:
    """Write the intensities of an image, part by part.

    Parameters
    ----------
    image
        HU, shape (slices, rows, columns).
    intensity
        From `intensity_of`.
    model
        Which voxels are changed.
    out
        Float32, of the same shape; may be the image itself.
    """
    xp = array_namespace(image)
    wanted = _wanted(model, image)
    start = 0
    for part, into in zip(parts_of(image), parts_of(out), strict=True):
        changed = intensity(part)
        if leaves_zeros(model):
            changed = xp.where(wanted(part, start), changed, np.float32(0))
        into[:] = changed
        start += len(part)


def _bounds(model: ModelDescription, image: Array) -> tuple[float, float]:
    if model.intensity_clip_percentile is not None:
        return percentiles(image, model.intensity_clip_percentile)
    return model.intensity_clip_hu or (-np.inf, np.inf)


def percentiles(image: Array, percents: Sequence[float]) -> tuple[float, float]:
    """Return two percentiles of all voxels, between two values linearly (as NumPy has it).

    Parameters
    ----------
    image
        Int16 or float32.
    percents
        From 0 to 100.
    """
    xp = array_namespace(image)
    if tuple(percents) == (0, 100):
        return float(image.min()), float(image.max())
    if image.dtype != np.int16:
        low, high = (float(each) for each in xp.percentile(image, list(percents)))
        return low, high
    counts = xp.zeros(_HU_VALUES, np.int64)
    axes, flips = order_in_memory(image)
    for part in parts_of(turned(image, axes, flips)):
        counts += xp.bincount(part.ravel().astype(np.int64) + _HU_VALUES // 2, minlength=_HU_VALUES)
    up_to = np.cumsum(counts if xp is np else counts.get())
    found = []
    for percent in percents:
        place = percent / 100 * (image.size - 1)
        index = math.floor(place)
        below, above = np.searchsorted(up_to, [index + 1, min(index + 2, image.size)]) - _HU_VALUES // 2
        found.append(float(below + (above - below) * (place - index)))
    return found[0], found[1]


def _own_statistics(model: ModelDescription, image: Array, low: float, high: float) -> Statistics:
    return _statistics(image, _wanted(model, image), low, high)


def _wanted(model: ModelDescription, image: Array) -> Callable[[Array, int], Array]:
    """Return what says which voxels of a part count, given its first slice."""
    if model.intensity_zscore == "nonzero":
        return lambda part, _: part != 0
    if model.intensity_zscore == "nonzero_filled":
        mask = (image != 0).astype(np.uint8)
        fill_holes(mask, 1)
        return lambda part, start: mask[start : start + len(part)] != 0
    if model.intensity_zscore == "foreground":
        return lambda part, _: part > model.foreground_hu
    return lambda part, _: array_namespace(part).ones(part.shape, bool)


def _statistics(
    image: Array, is_wanted: Callable[[Array, int], Array], low: float, high: float
) -> Statistics:
    """Return mean and deviation of what is wanted, clipped; part by part (Chan et al., 1979)."""
    count, mean, squares, start = 0, 0.0, 0.0, 0
    for part in parts_of(image, voxels=2**20):  # some are of 64 bits
        values = part[is_wanted(part, start)].astype(np.float64).clip(low, high)
        start += len(part)
        if values.size:
            total, own = count + values.size, float(values.mean())
            squares += float(((values - own) ** 2).sum()) + (own - mean) ** 2 * count * values.size / total
            mean += (own - mean) * values.size / total
            count = total
    if count == 0:
        return Statistics(mean=0.0, std=1.0)
    return Statistics(mean=mean, std=max(math.sqrt(squares / count), 1e-3))
