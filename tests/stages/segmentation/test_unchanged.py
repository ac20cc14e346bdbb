"""What a description gave before it could say more, it gives to the bit: hashes of masks and of images."""

import hashlib

import numpy as np
import pytest

from stages.segmentation.preprocess import preprocess
from stages.segmentation.segment import segment

OWN = {"spacing_mm": "native"}
FEW = {"intensity_clip_hu": None, "intensity_scale": None}
DESCRIPTIONS = {
    "as it is": {},
    "coarser, stepwise": {"spacing_mm": [3.1, 1.7, 1.3], "blending": "constant", "overlap": 0.25},
    "finer, mirrored": {"spacing_mm": [1.3, 0.8, 1.1], "mirror_axes": [0, 2], "overlap": 0.6},
    "native": OWN,
    "size": {"spacing_mm": None, "size": [24, 40, 36], "window_shape": [24, 40, 36]},
    "body": {"crop": "body", "crop_margin_percent": [5, 5, -5, 0, 10, 0]},
    "foreground": {**OWN, "crop": "foreground", "foreground_hu": -300},
    "statistics": {**FEW, "intensity_zscore": {"mean": 40, "std": 90}, "spacing_mm": [2.5, 1.5, 1.5]},
    "own statistics": {"intensity_scale": None, "intensity_zscore": "foreground"},
    "overlapping": {"activation": "sigmoid", "threshold": 0.55, "channel_labels": [1, None, 2]},
    "softmax": {
        "activation": "softmax",
        "channel_labels": [0, None, 1],
        "inside": {},
        "largest_component": [],
    },
    "odd windows": {"window_shape": [7, 15, 13], "overlap": 0.35, "padding_value_hu": 33},
}
KNOWN = {
    "as it is": ("3d227ad634a4b939", "845a69f3c1f316e7"),
    "coarser, stepwise": ("b5dacb46b5ac07a1", "8bd7745d13116573"),
    "finer, mirrored": ("afe94a2d59ff821e", "3df44d8743b2bf6e"),
    "native": ("3d227ad634a4b939", "845a69f3c1f316e7"),
    "size": ("9dc20d4eb55a67f5", "0ee9584d79afcb8d"),
    "body": ("1cc04a0dfb48c6d5", "f7aa605b6238e395"),
    "foreground": ("a00f5e5898d7a891", "1dfcd7c1943602c6"),
    "statistics": ("818ee09eb248342e", "6ca921628ba763e8"),
    "own statistics": ("678e4cd08d797a21", "b2849825c8e637b0"),
    "overlapping": ("3d227ad634a4b939", "39daa4a677f04d47"),
    "softmax": ("3d227ad634a4b939", "9b32f8995be6cb20"),
    "odd windows": ("3d227ad634a4b939", "1d0a0a161fdc9529"),
}


def hu():
    rng = np.random.default_rng(17)
    places = np.meshgrid(*(np.linspace(-1, 1, n) for n in (22, 47, 41)), indexing="ij")
    body = np.sqrt(sum(place**2 for place in places))
    return np.where(body < 0.9, 200 - 250 * body, -1000 + 20 * body).astype(np.int16) + rng.integers(
        -80, 80, body.shape
    ).astype(np.int16)


def predictor(windows):
    """Score by intensity, its neighbour's and the place in the window, so that all of it counts."""
    place = np.linspace(-0.3, 0.3, windows[0].size, dtype=np.float32).reshape(windows.shape[1:])
    neighbour = np.roll(windows, 1, axis=-1)
    return np.concatenate([0.4 - windows + place, windows - neighbour, windows - 0.3 + place**2], axis=1)


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_masks_and_images_are_what_they_were(place, describe, name):
    model = describe(**DESCRIPTIONS[name])
    volume = place(hu(), "RIP")
    mask = segment(volume, predictor, model=model)
    assert len(np.unique(mask.array)) > 1
    assert (digest(preprocess(volume, model).image), digest(mask.array)) == KNOWN[name]
