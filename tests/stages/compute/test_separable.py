"""Splines and clipping before: weights by hand, then SciPy as the oracle."""

import numpy as np
import pytest
from scipy import ndimage

from stages.arrays import to_host
from stages.compute.intensity import Intensity
from stages.compute.separable import (
    Separable,
    axis_weights,
    ranges,
    resample_separable,
    scratch_bytes,
    weights_between,
    with_bounds,
)
from stages.volume.geometry import Grid, grid_with_spacing, reorient

CUBIC = Separable(kinds=("cubic", "cubic", "cubic"))
MIRROR = Separable(kinds=("cubic", "cubic", "cubic"), edge="mirror")


def random_hu(*shape, seed=1):
    return np.random.default_rng(seed).integers(-1000, 2000, shape).astype(np.int16)


def grid_of(shape, spacing=(2.0, 1.0, 1.5)):
    return Grid(shape, np.diag([*spacing, 1.0]))


def test_a_spline_goes_through_its_voxels():
    weights = axis_weights(np.arange(40.0), 40, "cubic").weights
    assert weights.max(axis=1) == pytest.approx(np.ones(40), abs=1e-6)
    assert np.abs(weights).sum(axis=1) == pytest.approx(np.ones(40), abs=1e-6)


def test_weights_halfway_between_two_voxels():
    # of the spline 1/48, 23/48, 23/48, 1/48, solved for the coefficients: 0.6, -0.13, 0.034 ... to each side
    share = axis_weights(np.array([50.5]), 100, "cubic")
    around = share.weights[0, 50 - share.first[0] - 2 : 50 - share.first[0] + 4]
    z = np.sqrt(3) - 2
    one_side = [
        np.sqrt(3) * sum(b * z ** abs(n - k) for n, b in zip((-1, 0, 1, 2), (1, 23, 23, 1), strict=True)) / 48
        for k in (-2, -1, 0)
    ]
    assert around == pytest.approx([*one_side, *one_side[::-1]], abs=1e-7)


@pytest.mark.parametrize("edge", ["nearest", "mirror"])
@pytest.mark.parametrize("size", [1, 2, 5, 31, 32, 33, 90])
def test_a_constant_stays_and_beyond_the_edges_too(edge, size):
    weights = axis_weights(np.linspace(-0.5, size - 0.5, 77), size, "cubic", edge=edge)
    assert weights.weights.shape == (77, min(size, 32))
    assert weights.weights.sum(axis=1) == pytest.approx(np.ones(77), abs=1e-6)
    assert weights.first.min() >= 0
    assert weights.first.max() + weights.weights.shape[1] <= size


@pytest.mark.parametrize("shape", [(20, 31, 40), (5, 50, 3), (1, 12, 64)])
@pytest.mark.parametrize("spacing", [(1.3, 1.7, 0.9), (4.1, 0.7, 1.5)])
def test_stretched_spline_is_that_of_skimage_and_scipy(put, shape, spacing):
    array, source = random_hu(*shape), grid_of(shape)
    target = grid_with_spacing(source, spacing, alignment="stretched")
    ours = to_host(resample_separable(put(array), source, target, CUBIC))
    factors = [new / old for new, old in zip(target.shape, shape, strict=True)]
    theirs = ndimage.zoom(array.astype(float), factors, order=3, mode="nearest", grid_mode=True)
    assert ours.dtype == np.float32
    assert ours == pytest.approx(theirs, abs=0.01)
    assert np.abs(ours).max() > 1900


@pytest.mark.parametrize("shape", [(20, 31, 40), (6, 50, 3)])
def test_spline_between_the_corners_centres_is_scipys_zoom(put, shape):
    array, source = random_hu(*shape), grid_of(shape)
    target = grid_with_spacing(source, (1.3, 1.7, 0.9), alignment="corner_centres")
    ours = to_host(resample_separable(put(array), source, target, MIRROR))
    factors = [old / new for old, new in zip(source.spacing, (1.3, 1.7, 0.9), strict=True)]
    assert ours == pytest.approx(ndimage.zoom(array.astype(float), factors, order=3), abs=0.01)


@pytest.mark.parametrize("orientation", ["SPL", "IAR", "LPS", "RIP", "AIL", "PSR"])
def test_spline_does_not_depend_on_how_the_array_lies(orientation):
    array, affine = reorient(random_hu(9, 40, 21), np.diag([2.0, 1.0, 1.5, 1.0])[[2, 1, 0, 3]], orientation)
    source = Grid(array.shape, affine)
    target = grid_with_spacing(source, (1.9, 1.3, 1.1))
    in_order = resample_separable(np.ascontiguousarray(array), source, target, CUBIC)
    assert resample_separable(array, source, target, CUBIC) == pytest.approx(in_order, abs=0.01)


def test_a_part_of_the_grid_has_the_values_of_the_whole_and_reads_little():
    array, source = random_hu(80, 12, 13), grid_of((80, 12, 13))
    target = grid_with_spacing(source, (1.1, 1.3, 1.3))
    whole = resample_separable(array, source, target, CUBIC)
    affine = target.affine.copy()
    affine[:3, 3] += 60 * affine[:3, 0]
    part = resample_separable(array, source, Grid((30, *target.shape[1:]), affine), CUBIC)
    assert np.abs(part - whole[60:90]).max() < 2e-3  # places are rounded another way
    reads = weights_between(source, Grid((30, *target.shape[1:]), affine), CUBIC)[0].used
    assert reads.stop - reads.start < 52


def test_one_axis_may_be_apart(put):
    array, source = random_hu(5, 20, 30), grid_of((5, 20, 30), (5.0, 1.0, 1.0))
    target = grid_with_spacing(source, (2.0, 0.8, 0.8), alignment="stretched")
    how = Separable(kinds=("nearest", "cubic", "cubic"))
    ours = to_host(resample_separable(put(array), source, target, how))
    planes = [
        ndimage.zoom(plane.astype(float), [25 / 20, 38 / 30], order=3, mode="nearest", grid_mode=True)
        for plane in array
    ]
    chosen = np.floor((np.arange(12) + 0.5) * 5 / 12).astype(int)  # 12 slices of 25 mm / 12 for 5 of 5 mm
    assert ours == pytest.approx(np.stack(planes)[chosen], abs=0.01)


def test_overshoot_is_clipped_to_the_range_of_the_volume_or_of_its_slice(put):
    array = np.zeros((2, 1, 40), np.int16)
    array[0, 0, 20:], array[1, 0, 20:] = 100, 1000
    source = grid_of((2, 1, 40), (5.0, 1.0, 1.0))
    target = grid_with_spacing(source, (5.0, 1.0, 0.3))
    how = Separable(kinds=("nearest", "cubic", "cubic"))

    def made(axis, clip=(-np.inf, np.inf)):
        found = ranges(put(array), axis, clip=clip)
        bounded = with_bounds(Separable(kinds=how.kinds, clip=clip), found, axis)
        return to_host(resample_separable(put(array), source, target, bounded))

    free = to_host(resample_separable(put(array), source, target, how))
    assert free[0].max() > 105
    assert free[1].min() < -40
    of_volume, of_slices = made(None), made(0)
    assert (of_volume.min(), of_volume.max(), of_volume[0].max()) == (0, 1000, free[0].max())
    assert (of_slices[0].max(), of_slices[1].max(), of_slices.min()) == (100, 1000, 0)
    assert made(None, clip=(50, 400)).max() == 400
    assert made(0, clip=(50, 400))[0].tolist() == made(0, clip=(50, 100))[0].tolist()


def test_values_are_clipped_before_they_are_interpolated():
    array, source = np.array([0, 1000], np.int16).reshape(1, 1, 2), grid_of((1, 1, 2))
    target = Grid((1, 1, 3), np.diag([2.0, 1.0, 0.75, 1.0]))
    how = Separable(clip=(0, 100))
    intensity = Intensity(0, 100, zero=0, scale=0.1, offset=1)
    made = resample_separable(array, source, target, how, intensity=intensity)
    assert made.ravel() == pytest.approx([1, 6, 11])


def test_fractions_are_lost_towards_zero_and_whole_numbers_stay():
    array, source = np.array([-10, 11], np.int16).reshape(1, 1, 2), grid_of((1, 1, 2))
    target = Grid((1, 1, 5), np.diag([2.0, 1.0, 0.375, 1.0]))
    made = resample_separable(array, source, target, Separable(truncate=True))
    assert made.ravel().tolist() == [-10, -4, 0, 5, 11]  # of -10, -4.75, 0.5, 5.75, 11
    air = np.full((3, 40, 40), -1024, np.int16)
    flat = Separable(kinds=CUBIC.kinds, truncate=True)
    finer = grid_with_spacing(grid_of(air.shape), (0.7, 0.7, 0.7))
    assert np.unique(resample_separable(air, grid_of(air.shape), finer, flat)).tolist() == [-1024]


def test_what_it_takes_is_told():
    array, source = random_hu(40, 30, 20), grid_of((40, 30, 20))
    target = Grid((10, 15, 10), np.diag([2.0, 2.0, 3.0, 1.0]))
    least = 4 * 32 * 15 * 10  # 10 slices need 32 old ones, with new rows and columns
    assert least < scratch_bytes(array, source, target, CUBIC, on_device=False) < least + 2**20
    on_device = scratch_bytes(array, source, target, CUBIC, on_device=True)
    assert on_device == 4 * 32 * 15 * (20 + 10)  # with new rows, then with new columns too
