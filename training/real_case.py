"""One labelled CT among the phantoms: every time turned, scaled, and with tumours drawn in.

The labels know no tumours, so what is drawn in is all there is; what was there before counts as liver.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter

from stages import read_volume
from stages.compute.resample import resample_linear
from stages.volume.geometry import Grid, grid_with_spacing, reorient
from training.augmentation import FloatArray

LabelArray = NDArray[np.uint8]
ORIENTATION = "SPL"


@dataclass(frozen=True)
class RealCase:
    """A CT on the model's grid: HU, and 1 where its labels say liver; both [slice, row, column]."""

    hu: FloatArray
    liver: LabelArray


def read_case(image: Path, labels: Path, *, liver: int, spacing_mm: tuple[float, float, float]) -> RealCase:
    """Read a CT and its labels (NIfTI, same grid) and bring both onto the model's grid."""
    volume, truth = read_volume(image), read_volume(labels)
    view, affine = reorient(volume.array, volume.affine, ORIENTATION)
    marked, _ = reorient((truth.array == liver).astype(np.float32), truth.affine, ORIENTATION)
    source = Grid((view.shape[0], view.shape[1], view.shape[2]), affine)
    grid = grid_with_spacing(source, spacing_mm)
    share = resample_linear(marked, source, grid)
    return RealCase(resample_linear(view, source, grid), (share >= 0.5).astype(np.uint8))


def draw_window(
    case: RealCase, shape: tuple[int, int, int], rng: np.random.Generator
) -> tuple[FloatArray, LabelArray]:
    """Cut a window around a place of the liver, turned by up to 12 degrees and scaled by up to a fifth."""
    places = np.argwhere(case.liver) if rng.random() < 0.8 else np.argwhere(case.hu > -300)
    centre = places[rng.integers(len(places))] + rng.uniform(-0.25, 0.25, 3) * shape
    matrix = _turn(rng) @ np.diag(np.exp(rng.normal(0, 0.1, 3)) * np.exp(rng.normal(0, 0.08)))
    offset = centre - matrix @ ((np.array(shape) - 1) / 2)
    hu = affine_transform(case.hu, matrix, offset, shape, order=1, mode="constant", cval=-1000)
    liver = affine_transform(case.liver.astype(np.float32), matrix, offset, shape, order=1) >= 0.5
    labels = liver.astype(np.uint8)
    draw_in_tumours(hu, labels, rng)
    return np.asarray(hu, np.float32), labels


def draw_in_tumours(hu: FloatArray, labels: LabelArray, rng: np.random.Generator) -> None:
    """Draw up to six uneven ellipsoids into the liver, in place; the spacing is taken to be 3 mm."""
    for _ in range(int(rng.choice(7, p=(0.2, 0.2, 0.2, 0.15, 0.1, 0.1, 0.05)))):
        places = np.argwhere(labels == 1)
        if len(places) < 200:
            return
        centre, radius = places[rng.integers(len(places))], 10 ** rng.uniform(0, 0.92)
        reach = int(np.ceil(radius * 1.6)) + 2
        box = tuple(slice(max(0, c - reach), c + reach + 1) for c in centre)
        axes = [np.arange(s.start, min(s.stop, n)) - c for s, n, c in zip(box, hu.shape, centre, strict=True)]
        z, y, x = np.meshgrid(
            *(a / f for a, f in zip(axes, rng.uniform(0.8, 1.15, 3), strict=True)), indexing="ij"
        )
        bumps = gaussian_filter(rng.standard_normal(z.shape), max(1.5, radius / 3))
        depth = radius * (1 + 0.12 * bumps / max(bumps.std(), 1e-6)) - np.sqrt(z * z + y * y + x * x)
        inside = labels[box] > 0
        edge = max(0.3, float(rng.uniform(0.2, 1.5)) * min(1.0, radius / 3))
        share = np.clip(0.5 + depth / (2 * edge), 0, 1) * inside
        contrast = -rng.uniform(18, 75) if rng.random() < 0.85 else rng.uniform(25, 80)
        hu[box] += (share * contrast).astype(np.float32)
        labels[box][(depth > 0) & inside] = 2


def _turn(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a small rotation about each axis in turn."""
    turn = np.eye(3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = np.deg2rad(rng.uniform(-12, 12))
        step = np.eye(3)
        step[first, first] = step[second, second] = np.cos(angle)
        step[first, second], step[second, first] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    return turn
