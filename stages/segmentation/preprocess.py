"""Reorient, crop, resample, clip and scale; what comes out remembers the grids it came from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from stages.arrays import Array, array_namespace
from stages.compute.intensity import UNCHANGED, Intensity
from stages.model.description import ModelDescription
from stages.segmentation.crop import Box, box_seen
from stages.segmentation.intensities import change_intensities, intensity_of, leaves_zeros
from stages.segmentation.memory_estimate import Preparation
from stages.segmentation.sampling import VolumeSampling, models_grid, volume_sampling
from stages.segmentation.slabs import grid_part, lazy_image
from stages.volume.geometry import Grid, points_at, reorient
from stages.volume.volume import Volume
from stages.windows.source import Image


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
    wait = wait_for or (lambda _: None)
    if model.crop != "none":
        wait(view)
    box = box_seen(view, model)
    seen = part_of(source_grid, box)
    grid = models_grid(seen, model)
    given = _given(view[box], seen, model, wait)
    image, intensity = _made(given, seen, grid, model, by_slabs=by_slabs, wait_for=wait)
    return ModelInput(
        image=image, grid=grid, source_grid=source_grid, box=box, padding=_padding(model, intensity)
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Given:
    """What the model's input is made of: voxels on the volume's grid, how they are sampled, and what then.

    Attributes
    ----------
    intensity
        None where it depends on the model's whole input.
    changed
        What has been made of HU already, for what lies outside.
    """

    voxels: Array
    sampling: VolumeSampling
    intensity: Intensity | None
    changed: Intensity = UNCHANGED


def _given(voxels: Array, seen: Grid, model: ModelDescription, wait_for: Callable[[Array], None]) -> _Given:
    first = model.intensity_before_resampling
    sampling = volume_sampling(seen, model)
    if sampling.clips_overshoot or (first and model.intensity_needs_volume):
        wait_for(voxels)
    if not first:
        known = None if model.intensity_needs_volume else intensity_of(model, None)
        return _Given(voxels=voxels, sampling=sampling.within(voxels), intensity=known)
    intensity = intensity_of(model, voxels if model.intensity_needs_volume else None)
    if leaves_zeros(model):
        changed = array_namespace(voxels).empty_like(voxels, dtype=np.float32)
        change_intensities(voxels, intensity, model, out=changed)
        return _Given(
            voxels=changed, sampling=sampling.within(changed), intensity=UNCHANGED, changed=intensity
        )
    # what follows the clipping is linear, and may as well be done afterwards
    sampling = volume_sampling(seen, model, clip=(intensity.low, intensity.high))
    return _Given(voxels=voxels, sampling=sampling.within(voxels), intensity=intensity)


def _made(
    given: _Given,
    seen: Grid,
    grid: Grid,
    model: ModelDescription,
    *,
    by_slabs: bool,
    wait_for: Callable[[Array], None],
) -> tuple[Image, Intensity]:
    """Return the model's input, and what it made of HU."""
    sampling, intensity = given.sampling, given.intensity
    if by_slabs and intensity is not None:
        known = intensity

        def make(part: Grid) -> Array:
            wait_for(given.voxels[sampling.slices_below(seen, part)])
            return sampling.resample(given.voxels, seen, part, intensity=known)

        return lazy_image(grid, make), _first_of(given.changed, known)
    wait_for(given.voxels)
    if intensity is not None and model.intensity_before_resampling:
        whole = sampling.resample(given.voxels, seen, grid, intensity=intensity)
        return whole, _first_of(given.changed, intensity)
    whole = sampling.resample(given.voxels, seen, grid)
    intensity = intensity or intensity_of(model, whole)
    change_intensities(whole, intensity, model, out=whole)
    return whole, intensity


def _first_of(changed: Intensity, intensity: Intensity) -> Intensity:
    return intensity if changed is UNCHANGED else changed


def _padding(model: ModelDescription, intensity: Intensity) -> float:
    """Return what lies outside the volume, as the model is given it."""
    if model.padding_value is not None:
        return model.padding_value
    if model.padding_value_hu is None:
        return 0.0  # never seen: the volume goes on
    return float(intensity(np.array([model.padding_value_hu]))[0])


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
    return models_grid(Grid((view.shape[0], view.shape[1], view.shape[2]), affine), model).shape


def preparation_need(
    volume: Volume, model: ModelDescription, *, slices: int, on_device: bool = False
) -> Preparation:
    """Return what `preprocess` by slabs takes beside a slab, where the volume will live then.

    Parameters
    ----------
    volume
        A CT.
    model
        How it becomes the model's input.
    slices
        The most slices of the model's input that are made at once, where they are made by slabs.
    on_device
        Whether that is on the CUDA device.
    """
    view, affine = reorient(volume.array, volume.affine, model.orientation)
    seen = Grid((view.shape[0], view.shape[1], view.shape[2]), affine)
    grid = models_grid(seen, model)
    sampling = volume_sampling(seen, model, clip=(0, 1) if model.intensity_before_resampling else None)
    if model.intensity_needs_volume and not model.intensity_before_resampling:
        image = 4 * math.prod(grid.shape)
        before = max(sampling.scratch_bytes(view, seen, grid, on_device=on_device), image * _copies_of(model))
        return Preparation(held={"whole image": image}, before=before)
    slab = grid_part(grid, 0, min(slices, grid.shape[0]))
    scratch = sampling.scratch_bytes(view, seen, slab, on_device=on_device)
    held = {"resampling": scratch} if scratch else {}
    if model.intensity_before_resampling and leaves_zeros(model):
        held["normalised volume"] = 4 * volume.array.size
        return Preparation(held=held, before=volume.array.size * _copies_of(model))
    return Preparation(held=held)


def _copies_of(model: ModelDescription) -> int:
    """Return how many copies of an image are made to find percentiles in it, or holes in a mask of it."""
    percentile = model.intensity_clip_percentile not in (None, (0, 100))
    return int(percentile or model.intensity_zscore == "nonzero_filled")


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
