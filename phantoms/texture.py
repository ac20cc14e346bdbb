"""What the scanner adds: correlated noise, and the round field of view."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from phantoms.fields import FloatArray

_TILE_SLICES = 12


def add_noise(
    hu: FloatArray,
    rng: np.random.Generator,
    *,
    sigma_hu: float,
    grain_mm: float,
    spacing_mm: tuple[float, float, float],
) -> None:
    """Add noise as filtered back projection leaves it: grainy within a slice, no slow waves.

    A few slices of noise are made and each slice of the image takes one of them, shifted at random.
    """
    shape = (min(_TILE_SLICES, len(hu)), *hu.shape[1:])
    noise = rng.standard_normal(shape, dtype=np.float32)
    fine, coarse = noise, noise
    for axis in (1, 2):
        fine = gaussian_filter1d(fine, grain_mm / spacing_mm[axis], axis, truncate=3, mode="wrap")
    coarse = fine
    for axis in (1, 2):
        coarse = gaussian_filter1d(coarse, 2.0 * grain_mm / spacing_mm[axis], axis, truncate=2.5, mode="wrap")
    noise = fine - 0.8 * coarse
    noise *= np.float32(sigma_hu / noise.std())
    for k in range(len(hu)):
        tile = noise[rng.integers(len(noise))]
        hu[k] += np.roll(tile, tuple(rng.integers(0, tile.shape)), axis=(0, 1))


def cut_field_of_view(hu: FloatArray, y: FloatArray, x: FloatArray, radius_mm: float) -> None:
    """Set everything outside a circle around the middle of the slices to the lowest value."""
    outside = (y[:, None] - y.mean()) ** 2 + (x[None, :] - x.mean()) ** 2 > radius_mm**2
    hu[:, outside] = -1024
