"""Time and memory of what stands before and behind the model, beside the libraries that do the same.

::

    python benchmarks/inference_kernels.py

Each row in one run, by turns, medians; `torch`, `cc3d` and `fill_voids` only where they are installed.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stages.arrays import Array
from stages.compute.components import fill_holes, keep_largest_component
from stages.compute.intensity import Intensity
from stages.compute.resample import labels_from_scores, resample_linear
from stages.compute.separable import Separable, ranges, resample_separable, with_bounds
from stages.volume.geometry import Grid, grid_with_spacing

ROWS_COLUMNS = (512, 512)
SPACING_MM = (1.0, 0.78, 0.78)
INTENSITY = Intensity(-160, 240, zero=-160, scale=1 / 400)


def ct(slices: int) -> tuple[Array, Grid]:
    """Return a body of noisy HU and its grid."""
    shape = (slices, *ROWS_COLUMNS)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    inside = ((y - 256) / 200) ** 2 + ((x - 256) / 240) ** 2 < 1
    noise = np.random.default_rng(1).normal(0, 20, (16, *ROWS_COLUMNS)).astype(np.int16)
    hu = np.resize(noise, shape) + np.where(inside, 40, -1000).astype(np.int16) + (z % 3).astype(np.int16)
    return hu, Grid(shape, np.diag([*SPACING_MM, 1.0]))


def organ_scores(grid: Grid) -> Array:
    """Return the scores of background, an organ and a lesion in it, with noise between."""
    z, y, x = (np.arange(n, dtype=np.float32) / n for n in grid.shape)
    far = (
        ((z[:, None, None] - 0.5) / 0.25) ** 2
        + ((y[None, :, None] - 0.45) / 0.22) ** 2
        + ((x[None, None, :] - 0.35) / 0.2) ** 2
    )
    near = np.random.default_rng(2).normal(0, 0.05, far.shape).astype(np.float32)
    return np.stack([far - 1 + near, 1 - far, 0.7 - 8 * far]).astype(np.float32)


def organ_mask(slices: int) -> Array:
    """Return an organ with holes and many small false finds around it."""
    shape = (slices, *ROWS_COLUMNS)
    z, y, x = (np.arange(n, dtype=np.float32) / n for n in shape)
    far = (
        ((z[:, None, None] - 0.5) / 0.25) ** 2
        + ((y[None, :, None] - 0.45) / 0.22) ** 2
        + ((x[None, None, :] - 0.35) / 0.2) ** 2
    )
    mask = ((far < 1) & (far > 0.02)).astype(np.uint8)
    random = np.random.default_rng(3)
    for centre in random.integers(4, np.array(shape) - 4, (300, 3)):
        mask[tuple(slice(c - 2, c + 2) for c in centre)] = 1
    return mask


def simpleitk_image(array: Array, grid: Grid) -> Any:
    """Return an image of SimpleITK on a grid whose axes are those of space."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.affine[:3, 3][::-1].tolist())
    return image


def resamplers(slices: int) -> dict[str, Callable[[], object]]:
    """Return the ways to the model's grid."""
    import SimpleITK
    from scipy import ndimage

    hu, grid = ct(slices)
    target = grid_with_spacing(grid, (1.5, 1.5, 1.5))
    first = np.linalg.inv(grid.affine) @ target.affine
    image, onto = simpleitk_image(hu, grid), simpleitk_image(np.zeros(target.shape, np.uint8), target)
    return {
        "ours": lambda: resample_linear(hu, grid, target, intensity=INTENSITY),
        "SimpleITK": lambda: SimpleITK.Resample(
            image, onto, SimpleITK.Transform(), SimpleITK.sitkLinear, -1000, SimpleITK.sitkFloat32
        ),
        "scipy": lambda: ndimage.affine_transform(
            hu.astype(np.float32),
            np.diag(first)[:3],
            first[:3, 3],
            target.shape,
            order=1,
            mode="nearest",
        ),
    }


def splines(slices: int) -> dict[str, Callable[[], object]]:
    """Return the ways to the model's grid by splines of order 3, in the volume's range (nnU-Net's)."""
    import SimpleITK
    from scipy import ndimage

    hu, grid = ct(slices)
    target = grid_with_spacing(grid, (1.5, 1.5, 1.5), alignment="stretched")
    factors = [new / old for new, old in zip(target.shape, grid.shape, strict=True)]
    image, onto = simpleitk_image(hu, grid), simpleitk_image(np.zeros(target.shape, np.uint8), target)
    cubic = Separable(kinds=("cubic", "cubic", "cubic"), clip=(INTENSITY.low, INTENSITY.high))

    def ours() -> object:
        how = with_bounds(cubic, ranges(hu, None, clip=cubic.clip), None)
        return resample_separable(hu, grid, target, how, intensity=INTENSITY)

    def by_scipy() -> object:
        given = INTENSITY(hu)
        made = ndimage.zoom(given, factors, order=3, mode="nearest", grid_mode=True)
        return np.clip(made, given.min(), given.max(), out=made)

    return {
        "ours": ours,
        "scipy": by_scipy,
        "SimpleITK": lambda: SimpleITK.Resample(
            image, onto, SimpleITK.Transform(), SimpleITK.sitkBSpline, -1000, SimpleITK.sitkFloat32
        ),
    }


def labellers(slices: int) -> dict[str, Callable[[], object]]:
    """Return the ways from scores to labels on the original grid."""
    grid = Grid((slices, *ROWS_COLUMNS), np.diag([*SPACING_MM, 1.0]))
    source = grid_with_spacing(grid, (1.5, 1.5, 1.5))
    scores = organ_scores(source)
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: labels_from_scores(scores, source, grid, labels=(0, 1, 2))
    }
    torch = installed("torch")
    if torch is not None:
        given = torch.from_numpy(scores)[None]
        ways["torch"] = lambda: torch.nn.functional.interpolate(
            given, size=grid.shape, mode="trilinear", align_corners=False
        ).argmax(1)
    return ways


def components(slices: int) -> dict[str, Callable[[], object]]:
    """Return the ways to the largest component; each on a copy."""
    from scipy import ndimage

    mask = organ_mask(slices)
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: keep_largest_component(mask.copy(), (1,)),
        "scipy": lambda: largest_by_scipy(ndimage, mask),
    }
    cc3d = installed("cc3d")
    if cc3d is not None:
        ways["cc3d"] = lambda: cc3d.largest_k(mask, k=1, connectivity=6)
    return ways


def largest_by_scipy(ndimage: Any, mask: Array) -> Array:
    """Return the largest component as scipy's users take it."""
    found, _ = ndimage.label(mask)
    sizes = np.bincount(found.ravel())
    sizes[0] = 0
    return found == sizes.argmax()


def hole_fillers(slices: int) -> dict[str, Callable[[], object]]:
    """Return the ways to fill holes; each on a copy."""
    from scipy import ndimage

    mask = organ_mask(slices)
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: fill_holes(mask.copy(), 1),
        "scipy": lambda: ndimage.binary_fill_holes(mask),
    }
    fill_voids = installed("fill_voids")
    if fill_voids is not None:
        ways["fill_voids"] = lambda: fill_voids.fill(mask)
    return ways


def installed(name: str) -> Any:
    """Return a module that need not be there."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def report(title: str, ways: Mapping[str, Callable[[], object]], *, rounds: int) -> None:
    """Run each way by turns and print medians and ratios."""
    ways["ours"]()  # compiled, and the pages of memory are there
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            clock = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - clock)
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, seconds in medians.items():
        print(f"{title:28s} {name:12s} {seconds:8.3f} s   ours / it {medians['ours'] / seconds:6.3f}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="part of a row's title")
    args = parser.parse_args()
    print(f"{args.slices} x {ROWS_COLUMNS[0]} x {ROWS_COLUMNS[1]}, medians of {args.rounds}")
    rows = {
        "volume -> model's input": resamplers,
        "the same by splines": splines,
        "scores -> labels": labellers,
        "largest component": components,
        "holes": hole_fillers,
    }
    for title, made in rows.items():
        if not args.only or args.only in title:
            partial(report, title, made(args.slices), rounds=args.rounds)()


if __name__ == "__main__":
    main()
