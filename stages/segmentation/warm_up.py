"""Compile what a stage will need, or load what was compiled, while it waits.

On its own: ``python -m stages.segmentation.warm_up``.

An image does so when it is built, with ``NUMBA_CACHE_DIR`` naming the folder where
`stages.compute.numba_cache` looks.
"""

from __future__ import annotations

import numpy as np

from stages.arrays import to_device
from stages.compute.components import fill_holes, keep_inside, keep_largest_component, remove_small
from stages.compute.resample import labels_from_scores, resample_linear
from stages.compute.separable import Separable, resample_separable
from stages.volume.geometry import Grid
from stages.windows.plan import WindowPlan
from stages.windows.sliding import predict_in_windows

_GRID = Grid((3, 3, 3), np.eye(4))


def warm_up(*, on_device: bool = False) -> None:
    """Do everything once on a few voxels.

    Parameters
    ----------
    on_device
        Whether on CuPy's device, whose kernels are compiled then, rather than on the host.

    Raises
    ------
    OSError
        If what was compiled cannot be kept.
    """
    put = to_device if on_device else np.asarray
    if on_device:
        _warm_up_transfer()
        plan = WindowPlan(shape=_GRID.shape, classes=1)
        predict_in_windows(put(np.zeros(_GRID.shape, np.float32)), lambda windows: windows, windows=plan)
    else:
        _warm_up_blending()
    for dtype in (np.int16, np.float32):
        resample_linear(put(np.zeros(_GRID.shape, dtype)), _GRID, _GRID)
    scores = np.zeros((2, *_GRID.shape), np.float32)
    scores[1, 1, 1, 1] = 1
    for given in (scores, scores.transpose(0, 3, 2, 1)):
        mask = labels_from_scores(put(given), _GRID, _GRID, labels=(0, 1))
        keep_largest_component(mask, (1,))
        remove_small(mask, 1, 1)
        fill_holes(mask, 1)
        keep_inside(mask, 1, 2)


def warm_up_separable(*, on_device: bool = False) -> None:
    """Do what few models need, splines and clipping before resampling, once on a few voxels.

    Parameters
    ----------
    on_device
        As for `warm_up`.

    Raises
    ------
    OSError
        If what was compiled cannot be kept.
    """
    put = to_device if on_device else np.asarray
    for dtype in (np.int16, np.float32):
        resample_separable(put(np.zeros(_GRID.shape, dtype)), _GRID, _GRID, Separable())


def _warm_up_transfer() -> None:
    import cupy

    from stages.compute.cuda.copiers import cuda_threads

    cuda_threads(cupy.cuda.runtime.getDevice()).warm_up()


def _warm_up_blending() -> None:
    from stages.compute import blending_host

    weights = np.ones(_GRID.shape, np.float32)
    blending_host.add_weighted(np.ones((1, *_GRID.shape), np.float32), weights[None], weights)


if __name__ == "__main__":
    warm_up()
    warm_up_separable()
