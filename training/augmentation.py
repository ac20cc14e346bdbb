"""Makes many scans of one phantom: contrast, noise, blur, shading, coverage. Never mirrors a patient."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d, zoom

from phantoms import Anatomy

FloatArray = NDArray[np.float32]

CLIP_HU = (-160.0, 240.0)


def normalise(hu: NDArray[np.generic]) -> FloatArray:
    """Clip to [-160, 240] HU and scale to [0, 1]."""
    low, high = CLIP_HU
    return ((np.clip(hu.astype(np.float32), low, high) - low) / (high - low)).astype(np.float32)


def disturb(
    hu: FloatArray, labels: NDArray[np.uint8], anatomy: NDArray[np.uint8] | None, rng: np.random.Generator
) -> FloatArray:
    """Another image of the same anatomy, in HU; `labels` lose what falls outside a narrower view.

    Without `anatomy` the organs keep their brightness beside one another.
    """
    if anatomy is not None and rng.random() < 0.5:
        hu = hu + _organ_offsets(labels, anatomy, rng)
    if rng.random() < 0.5:
        hu = gaussian_filter1d(hu, rng.uniform(0.2, 1.0), axis=0)
    if rng.random() < 0.5:
        sigma = rng.uniform(0.2, 0.8)
        hu = gaussian_filter(hu, (0, sigma, sigma))
    if rng.random() < 0.4:
        hu = hu + _shading(hu.shape, rng)
    hu = _contrast(hu, rng)
    if rng.random() < 0.7:
        hu = hu + _noise(hu.shape, rng)
    if rng.random() < 0.25:
        _narrow_view(hu, labels, rng)
    return np.asarray(hu, np.float32)


def _organ_offsets(
    labels: NDArray[np.uint8], anatomy: NDArray[np.uint8], rng: np.random.Generator
) -> FloatArray:
    """Each organ a little brighter or darker; a tumour moves with its liver so that it stays visible."""
    table = rng.normal(0, 14, len(Anatomy)).astype(np.float32)
    for name in (Anatomy.AIR, Anatomy.LUNG, Anatomy.FAT):
        table[name] *= 0.4
    table[Anatomy.TUMOUR] = table[Anatomy.LIVER]
    offsets: FloatArray = table[anatomy]
    return offsets


def _shading(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Slow unevenness, as beam hardening leaves it."""
    coarse = rng.normal(0, rng.uniform(2, 9), (4, 4, 4)).astype(np.float32)
    return np.asarray(zoom(coarse, [n / 4 for n in shape], order=1), np.float32)


def _contrast(hu: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Stretch about the middle of the soft tissues, shift, and bend."""
    hu = (hu - 60) * np.float32(rng.uniform(0.8, 1.2)) + np.float32(60 + rng.normal(0, 8))
    if rng.random() < 0.4:
        low, high = CLIP_HU
        bent = normalise(hu) ** np.float32(np.exp(rng.normal(0, 0.15)))
        hu = bent * (high - low) + low
    return np.asarray(hu, np.float32)


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    noise = rng.standard_normal(shape, dtype=np.float32)
    if rng.random() < 0.5:
        noise = gaussian_filter(noise, (0.3, 0.6, 0.6))
        noise /= noise.std()
    return noise * np.float32(rng.uniform(0, 1) ** 2 * 28)


def _narrow_view(hu: FloatArray, labels: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Air beyond one side, where the window reaches over the edge of the image."""
    axis = int(rng.integers(1, 3))
    width = int(rng.integers(1, 12))
    side = slice(0, width) if rng.random() < 0.5 else slice(-width, None)
    beyond = (slice(None), side, slice(None)) if axis == 1 else (slice(None), slice(None), side)
    hu[beyond] = -1000
    labels[beyond] = 0
