"""Reorient, resample, window and normalise; what comes out remembers the grid it came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ai_livertumor.model import ModelDescription
from stages.arrays import Array, array_namespace
from stages.geometry import Grid, grid_with_spacing, reorient
from stages.resample import resample_linear
from stages.volume import Volume


@dataclass(frozen=True, eq=False)
class ModelInput:
    """A volume as the model wants it.

    Attributes
    ----------
    image
        Shape (slices, rows, columns) in the model's orientation, float32.
    grid
        The grid of `image`.
    source_grid
        The grid of the volume's own voxels in the model's orientation.
    """

    image: Array
    grid: Grid
    source_grid: Grid


def preprocess(volume: Volume, model: ModelDescription) -> ModelInput:
    """Bring a CT volume (int16 HU) into the model's orientation, spacing and intensities."""
    view, affine = reorient(volume.array, volume.affine, model.orientation)
    source_grid = Grid((view.shape[0], view.shape[1], view.shape[2]), affine)
    grid = grid_with_spacing(source_grid, model.spacing_mm)
    image = normalise(resample_linear(view, source_grid, grid), model)
    return ModelInput(image, grid, source_grid)


def normalise(hu: Array, model: ModelDescription) -> Array:
    """Clip HU to the model's window and map it onto the model's scale; float32."""
    low, high = model.intensity_clip_hu
    bottom, top = model.intensity_scale
    clipped = array_namespace(hu).clip(hu, low, high).astype(np.float32)
    clipped -= np.float32(low)
    clipped *= np.float32((top - bottom) / (high - low))
    clipped += np.float32(bottom)
    return clipped
