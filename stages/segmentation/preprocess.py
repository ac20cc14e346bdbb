"""Reorient, crop, resample, clip and scale; what comes out remembers the grids it came from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from stages.arrays import Array, array_namespace
from stages.compute.components import keep_largest_component
from stages.compute.intensity import Intensity
from stages.compute.resample import axis_samples, resample_linear
from stages.compute.strides import order_in_memory, parts_of, turned
from stages.model.description import ModelDescription
from stages.model.parameters import Statistics
from stages.segmentation.slabs import lazy_image
from stages.volume.geometry import Grid, grid_of_size, grid_with_spacing, points_at, reorient
from stages.volume.volume import Volume
from stages.windows.source import Image

_COARSE = 4
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class ModelInput:
    """A volume as the model wants it.

    Attributes
    ----------
    image
        Shape (slices, rows, columns) in the model's orientation, float32; whole, or made slab by slab.
    grid
        The grid of `image`.
    source_grid
        The grid of the volume's own voxels in the model's orientation.
    box
        Which of these voxels the model sees.
    padding
        Value of what lies outside of the volume, as in `image`.
    """

    image: Image
    grid: Grid
    source_grid: Grid
    box: Box
    padding: float

    @property
    def box_grid(self) -> Grid:
        """The grid of the volume's own voxels within the box."""
        return part_of(self.source_grid, self.box)


def preprocess(
    volume: Volume,
    model: ModelDescription,
    *,
    by_slabs: bool = False,
    wait_for: Callable[[Array], None] | None = None,
) -> ModelInput:
    """Return a CT volume in the model's orientation, box, grid and intensities.

    Parameters
    ----------
    volume
        HU, int16 or float32; it stays as it is.
    model
        How it becomes the model's input.
    by_slabs
        Make the image slab by slab, when it is needed. Where intensities depend on all of it, it is made
        at once all the same.
    wait_for
        Called with a part of the volume before it is read; returns when the part is there.
    """
    view, affine = reorient(volume.array, volume.affine, model.orientation)
    source_grid = Grid((view.shape[0], view.shape[1], view.shape[2]), affine)
    if wait_for and model.crop != "none":
        wait_for(view)
    box = _with_margins(_cropped(view, model), model, view.shape)
    seen = part_of(source_grid, box)
    grid = _models_grid(seen, model)
    image: Image
    if by_slabs and model.intensity_zscore != "foreground":
        intensity = intensity_of(model, None)

        def make(part: Grid) -> Array:
            if wait_for:
                wait_for(view[box][_slices_below(seen, part)])
            return resample_linear(view[box], seen, part, intensity=intensity)

        image = lazy_image(grid, make)
    else:
        if wait_for:
            wait_for(view[box])
        whole = resample_linear(view[box], seen, grid)
        intensity = intensity_of(model, whole)
        for part in parts_of(whole):
            part[:] = intensity(part)
        image = whole
    return ModelInput(
        image=image,
        grid=grid,
        source_grid=source_grid,
        box=box,
        padding=float(intensity(np.array([model.padding_value_hu]))[0]),
    )


def uncropped_shape(volume: Volume, model: ModelDescription) -> tuple[int, int, int]:
    """Return the shape of the model's input for all of a volume; that for a part of it is no larger.

    Parameters
    ----------
    volume
        A CT.
    model
        How it becomes the model's input.
    """
    view, affine = reorient(volume.array, volume.affine, model.orientation)
    return _models_grid(Grid((view.shape[0], view.shape[1], view.shape[2]), affine), model).shape


def _slices_below(source: Grid, target: Grid) -> slice:
    """Return the slices of a grid that another one's voxels fall between."""
    samples = axis_samples(source, target)[0]
    return slice(int(samples.lower.min()), int(samples.upper.max()) + 1)


def intensity_of(model: ModelDescription, image: Array) -> Intensity:
    """Return how HU become intensities.

    Parameters
    ----------
    model
        How they do.
    image
        HU; its statistics count where the model has none of its own. None where it has.
    """
    low, high = model.intensity_clip_hu or (-np.inf, np.inf)
    if model.intensity_zscore is not None:
        wanted = model.intensity_zscore
        found = _statistics(image, model.foreground_hu, low, high) if wanted == "foreground" else wanted
        return Intensity(low, high, zero=found.mean, scale=1 / found.std)
    if not isinstance(model.intensity_scale, tuple):
        return Intensity(low, high)
    bottom, top = model.intensity_scale
    return Intensity(low, high, zero=low, scale=(top - bottom) / (high - low), offset=bottom)


def part_of(grid: Grid, box: Box) -> Grid:
    """Return the grid of the voxels of a box.

    Parameters
    ----------
    grid
        The grid of all voxels.
    box
        Which slices, rows and columns.
    """
    affine = grid.affine.copy()
    affine[:3, 3] = points_at(grid.affine, [side.start for side in box])
    sizes = [side.stop - side.start for side in box]
    return replace(grid, shape=(sizes[0], sizes[1], sizes[2]), affine=affine)


def _models_grid(grid: Grid, model: ModelDescription) -> Grid:
    if model.size is not None:
        return grid_of_size(grid, model.size)
    return grid_with_spacing(grid, model.spacing_mm) if isinstance(model.spacing_mm, tuple) else grid


def _statistics(image: Array, above_hu: float, low: float, high: float) -> Statistics:
    """Return mean and deviation of what is above a value, clipped; part by part (Chan et al., 1979)."""
    count, mean, squares = 0, 0.0, 0.0
    for part in parts_of(image, voxels=2**20):  # some are of 64 bits
        values = part[part > above_hu].astype(np.float64).clip(low, high)
        if values.size:
            total, own = count + values.size, float(values.mean())
            squares += float(((values - own) ** 2).sum()) + (own - mean) ** 2 * count * values.size / total
            mean += (own - mean) * values.size / total
            count = total
    if count == 0:
        return Statistics(mean=0.0, std=1.0)
    return Statistics(mean=mean, std=max(math.sqrt(squares / count), 1e-3))


def _all_of(view: Array) -> Box:
    return slice(0, view.shape[0]), slice(0, view.shape[1]), slice(0, view.shape[2])


def _cropped(view: Array, model: ModelDescription) -> Box:
    if model.crop == "body":
        return _body_box(view, model.foreground_hu)
    if model.crop == "foreground":
        return _box_above(view, model.foreground_hu) or _all_of(view)
    return _all_of(view)


def _body_box(view: Array, above_hu: float) -> Box:
    """Return the box around the largest bright component, found on every fourth voxel, one of them wider."""
    bright = (view[::_COARSE, ::_COARSE, ::_COARSE] > above_hu).astype(np.uint8, order="C")
    keep_largest_component(bright, [1])
    box = _box_above(bright, 0)
    if box is None:
        return _all_of(view)
    z, y, x = (
        slice(max(0, (side.start - 1) * _COARSE), min(length, side.stop * _COARSE + 1))
        for side, length in zip(box, view.shape, strict=True)
    )
    return z, y, x


def _box_above(view: Array, value: float) -> Box | None:
    """Return the smallest box that holds all voxels above a value; None if there are none."""
    xp, (axes, flips) = array_namespace(view), order_in_memory(view)
    read = turned(view, axes, flips)
    found = [xp.zeros(length, bool) for length in read.shape]
    start = 0
    for part in parts_of(read):
        above = part > value
        found[0][start : start + len(part)] = above.any(axis=(1, 2))
        found[1] |= above.any(axis=(0, 2))
        found[2] |= above.any(axis=(0, 1))
        start += len(part)
    sides = {}
    for axis, flip, along in zip(axes, flips, found, strict=True):
        places = xp.flatnonzero(along[::-1] if flip else along)
        if not places.size:
            return None
        sides[axis] = slice(int(places[0]), int(places[-1]) + 1)
    return sides[0], sides[1], sides[2]


def _with_margins(box: Box, model: ModelDescription, shape: tuple[int, ...]) -> Box:
    sides = []
    for n, (side, length) in enumerate(zip(box, shape, strict=True)):
        before, after = (
            m / 100 * (side.stop - side.start) for m in model.crop_margin_percent[2 * n : 2 * n + 2]
        )
        start = min(max(0, round(side.start - before)), length - 1)
        sides.append(slice(start, max(start + 1, min(length, round(side.stop + after)))))
    return sides[0], sides[1], sides[2]
