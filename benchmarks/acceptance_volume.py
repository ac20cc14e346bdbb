"""The volume and the model that `gpu_acceptance` checks with: a body whose answer is known."""

from __future__ import annotations

import numpy as np

from ai_livertumor import ModelDescription
from stages import Origin, Volume
from stages.arrays import Array, array_namespace

SHAPE = (400, 512, 512)
SPACING_MM = (1.0, 0.78, 0.78)

MODEL = ModelDescription(
    orientation="SPL",
    spacing_mm=(3.0, 3.0, 3.0),
    intensity_clip_hu=(-160, 240),
    intensity_scale=(0, 1),
    padding_value_hu=-1000,
    window_shape=(64, 96, 96),
    overlap=0.25,
    blending="gaussian",
    activation="softmax",
    channel_labels=(0, 1, 2),
    largest_component=(1, 2),
    inside={2: 1},
)


def ct_volume(shape: tuple[int, int, int]) -> Volume:
    """A body of 0 HU with an organ of 100 HU, two lesions of 200 HU and a stray blob, with noise."""
    z, y, x = (np.arange(n, dtype=np.float32) * whole / n for n, whole in zip(shape, SHAPE, strict=True))
    axes = z[:, None, None], y[None, :, None], x[None, None, :]
    hu = np.random.default_rng(1).normal(0, 15, shape).astype(np.float32)
    for centre, radii, value in (
        ((200, 250, 170), (90, 110, 100), 100),
        ((220, 220, 150), (15, 18, 18), 100),
        ((180, 270, 200), (12, 14, 14), 100),
        ((60, 400, 400), (20, 20, 20), 150),
    ):
        inside = sum(((g - c) / r) ** 2 for g, c, r in zip(axes, centre, radii, strict=True)) < 1
        hu += value * inside
    affine = np.eye(4)
    affine[:3, :3] = np.diag(SPACING_MM)[::-1]
    return Volume(array=hu.astype(np.int16), affine=affine, origin=Origin(series_instance_uid="2.25.1"))


def by_intensity(windows: Array) -> Array:
    """A predictor whose answer is known: logits from the intensity alone, on host or device."""
    xp = array_namespace(windows)
    hu = windows[:, 0] * 400 - 160
    return xp.stack([40 - hu, 40 - xp.abs(hu - 100), hu - 160], axis=1).astype(np.float32)
