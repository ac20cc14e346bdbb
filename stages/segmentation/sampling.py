"""How a model's description has a volume brought to its grid, and scores brought back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.arrays import Array
from stages.compute.intensity import UNCHANGED, Intensity
from stages.compute.resample import Between, axis_samples, resample_linear
from stages.compute.separable import (
    Kind,
    Separable,
    ranges,
    resample_separable,
    scratch_bytes,
    weights_between,
    with_bounds,
)
from stages.model.description import ModelDescription
from stages.volume.geometry import Grid, grid_of_size, grid_with_spacing

_SAME = 1e-4  # spacings that differ by less are the same; they were computed from positions


def models_grid(grid: Grid, model: ModelDescription) -> Grid:
    """Return the grid of a model's input for the voxels of a volume that it sees.

    Parameters
    ----------
    grid
        The grid of these voxels in the model's orientation.
    model
        Its spacing or size.
    """
    if model.size is not None:
        return grid_of_size(grid, model.size, alignment=model.grid_alignment)
    return grid_with_spacing(grid, spacing_of_model(grid, model), alignment=model.grid_alignment)


def spacing_of_model(grid: Grid, model: ModelDescription) -> tuple[float, float, float]:
    """Return the spacing that a model asks for, the volume's own where it leaves it to that, mm.

    Parameters
    ----------
    grid
        The grid of the volume's voxels in the model's orientation.
    model
        Its spacing or size.
    """
    if model.size is not None:
        return grid_of_size(grid, model.size, alignment=model.grid_alignment).spacing
    wanted: Sequence[float | str] = (
        model.spacing_mm if isinstance(model.spacing_mm, tuple) else ("native",) * 3
    )
    slices, rows, columns = (
        own if isinstance(each, str) else each for each, own in zip(wanted, grid.spacing, strict=True)
    )
    return slices, rows, columns


def axis_apart(grid: Grid, model: ModelDescription) -> int | None:
    """Return the axis along which the nearest voxel counts alone, None without one.

    Parameters
    ----------
    grid
        The grid of the volume's voxels in the model's orientation.
    model
        Its spacing, and how many times the smallest spacing the largest may be.
    """
    if model.anisotropy_threshold is None:
        return None
    for spacing in (np.array(grid.spacing), np.array(spacing_of_model(grid, model))):
        if spacing.max() > model.anisotropy_threshold * spacing.min() * (1 + 1e-6):
            largest = np.flatnonzero(spacing > spacing.max() * (1 - _SAME))
            return int(largest[0]) if len(largest) == 1 else None
    return None


def is_separable(model: ModelDescription) -> bool:
    """Return whether a volume comes to a model's grid one axis after the other.

    Parameters
    ----------
    model
        How it has the volume interpolated.
    """
    clips = model.intensity_clip_hu is not None or model.intensity_clip_percentile is not None
    return (
        model.interpolation == "cubic" or model.truncate_hu or (model.intensity_before_resampling and clips)
    )


def score_sampling(grid: Grid, model: ModelDescription) -> Between:
    """Return how scores are brought onto a volume's own grid.

    Parameters
    ----------
    grid
        The grid of the volume's voxels in the model's orientation.
    model
        How it has its scores interpolated.
    """
    everywhere = model.score_interpolation == "nearest"
    slices, rows, columns = (everywhere or n == axis_apart(grid, model) for n in range(3))
    return Between((slices, rows, columns), ties_to_even=_ties_to_even(model))


@dataclass(frozen=True, kw_only=True, eq=False)
class VolumeSampling:
    """How a volume is brought to a model's grid.

    Attributes
    ----------
    between
        What counts between voxels, in one pass where that is possible.
    apart
        The axis whose nearest voxel counts alone.
    clips_overshoot
        Whether what a spline makes beyond the range of the voxels is clipped.
    """

    between: Between | Separable
    apart: int | None = None
    clips_overshoot: bool = False

    def within(self, voxels: Array) -> VolumeSampling:
        """Return the same that keeps to the range of voxels, all of which must be there.

        Parameters
        ----------
        voxels
            All that will be brought to the model's grid.
        """
        if not self.clips_overshoot or not isinstance(self.between, Separable):
            return self
        found = ranges(voxels, self.apart, clip=self.between.clip)
        return VolumeSampling(between=with_bounds(self.between, found, self.apart), apart=self.apart)

    def slices_below(self, source: Grid, target: Grid) -> slice:
        """Return the slices of a volume that those of a part of the model's grid are made of.

        Parameters
        ----------
        source
            The volume's grid.
        target
            The part.
        """
        if isinstance(self.between, Separable):
            return weights_between(source, target, self.between)[0].used
        samples = axis_samples(source, target, self.between)[0]
        return slice(int(samples.lower.min()), int(samples.upper.max()) + 1)

    def resample(
        self, voxels: Array, source: Grid, target: Grid, *, intensity: Intensity = UNCHANGED
    ) -> Array:
        """Return voxels on a part of the model's grid, float32.

        Parameters
        ----------
        voxels
            Shape ``source.shape``, int16 HU or float32.
        source
            Their grid.
        target
            The part.
        intensity
            What is made of the interpolated values.
        """
        if isinstance(self.between, Separable):
            return resample_separable(voxels, source, target, self.between, intensity=intensity)
        return resample_linear(voxels, source, target, between=self.between, intensity=intensity)

    def scratch_bytes(self, voxels: Array, source: Grid, target: Grid, *, on_device: bool) -> int:
        """Return what `resample` takes beside what it returns, bytes.

        Parameters
        ----------
        voxels, source, target
            As for `resample`.
        on_device
            Whether the voxels will be on the CUDA device then.
        """
        if isinstance(self.between, Separable):
            return scratch_bytes(voxels, source, target, self.between, on_device=on_device)
        return 0


def volume_sampling(
    grid: Grid, model: ModelDescription, *, clip: tuple[float, float] | None = None
) -> VolumeSampling:
    """Return how a volume is brought to a model's grid.

    Parameters
    ----------
    grid
        The grid of its voxels in the model's orientation.
    model
        How it has the volume interpolated.
    clip
        Bounds to which values are clipped before, HU; None if they are not.
    """
    apart = axis_apart(grid, model)
    kinds: list[Kind] = ["nearest" if n == apart else model.interpolation for n in range(3)]
    if not is_separable(model):
        slices, rows, columns = (kind == "nearest" for kind in kinds)
        return VolumeSampling(between=Between((slices, rows, columns), ties_to_even=_ties_to_even(model)))
    how = Separable(
        kinds=(kinds[0], kinds[1], kinds[2]),
        ties_to_even=_ties_to_even(model),
        edge=model.interpolation_edge,
        clip=clip or (-np.inf, np.inf),
        truncate=model.truncate_hu,
    )
    overshoots = model.interpolation == "cubic" and model.interpolation_overshoot == "clip"
    return VolumeSampling(between=how, apart=apart, clips_overshoot=overshoots)


def _ties_to_even(model: ModelDescription) -> bool:
    return model.grid_alignment == "first_voxel"
