from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import GeometryError
from stages.arrays import to_host
from stages.compute.resample import labels_from_scores
from stages.segmentation.slabs import grid_part, labels_from_slabs, lazy_image
from stages.volume.geometry import Grid
from stages.windows.plan import WindowPlan
from stages.windows.sliding import predict_in_windows, score_slabs


def grid(shape, spacing, first=(0, 0, 0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = first
    return Grid(shape, affine)


def three_classes(windows):
    return np.concatenate([windows * 0, windows - 0.3, -windows - 0.5], axis=1)


def plan(**more):
    return WindowPlan(**{"shape": (4, 5, 6), "classes": 3, **more})


def test_part_of_a_grid_lies_where_it_lay():
    part = grid_part(grid((10, 8, 6), (2, 3, 4), (1, 1, 1)), 4, 7, axis=1)
    assert part.shape == (10, 3, 6)
    assert part.affine[:3, 3].tolist() == [1, 13, 1]


@given(
    slices=st.integers(1, 24),
    target_slices=st.integers(1, 40),
    spacing=st.floats(0.3, 3),
    first=st.floats(-3, 3),
    flipped=st.booleans(),
    overlap=st.sampled_from([0, 0.5, 0.7]),
)
def test_labels_of_slabs_are_those_of_the_whole(slices, target_slices, spacing, first, flipped, overlap):
    image = np.random.default_rng(7).normal(size=(slices, 7, 6)).astype(np.float32)
    source = grid(image.shape, (1, 1, 1))
    target = grid((target_slices, 9, 8), (-spacing if flipped else spacing, 0.8, 0.7), (first, 0.1, 0.2))
    make = partial(labels_from_scores, labels=(0, 1, 2))
    windows = plan(overlap=overlap)
    whole = make(predict_in_windows(image, three_classes, windows=windows), source, target)
    slabs = score_slabs(image, three_classes, windows=windows, shared_slice=True)
    assert (labels_from_slabs(slabs, source, target, make) != whole).mean() < 1e-3  # rounding at ties


def test_slabs_that_share_a_slice_hold_the_last_one_of_the_slab_before(put):
    image = put(np.random.default_rng(7).normal(size=(13, 4, 4)).astype(np.float32))
    windows = WindowPlan(shape=(4, 4, 4), classes=1)
    whole = to_host(predict_in_windows(image, abs, windows=windows))
    end = 0
    for slab in score_slabs(image, abs, windows=windows, shared_slice=True):
        assert slab.start == max(0, end - 1)
        end = slab.start + slab.scores.shape[1]
        assert np.array_equal(to_host(slab.scores), whole[:, slab.start : end])
    assert end == 13


def test_each_target_slice_is_made_once_from_scores_on_both_sides_of_it():
    source, target = grid((12, 4, 4), (1, 1, 1)), grid((28, 4, 4), (0.4, 1, 1))
    made = []

    def make(scores, part, wanted, *, out):
        positions = np.linalg.inv(part.affine) @ wanted.affine
        first, last = positions[0, 3], positions[0, 3] + positions[0, 0] * (wanted.shape[0] - 1)
        assert first >= -1e-9
        assert last <= part.shape[0] - 1 + 1e-9
        made.append(wanted.shape[0])
        out[:] = 1

    windows = WindowPlan(shape=(4, 4, 4), classes=1)
    image = np.zeros(source.shape, np.float32)
    slabs = score_slabs(image, abs, windows=windows, shared_slice=True)
    labels = labels_from_slabs(slabs, source, target, make)
    assert labels.all()
    assert sum(made) == 28
    assert len(made) > 2


def test_volume_whose_columns_run_along_the_models_slices():
    source = grid((9, 4, 5), (1, 1, 1))
    turned = np.zeros((4, 4))
    turned[0, 2], turned[1, 0], turned[2, 1], turned[3, 3] = -1, 1, 1, 1  # columns go down the slices
    turned[0, 3] = 8
    target = Grid((4, 5, 9), turned)
    image = np.random.default_rng(3).normal(size=source.shape).astype(np.float32)

    def make(scores, part, wanted, *, out):
        out[:] = (scores[0] > 0)[::-1].transpose(1, 2, 0)[..., -wanted.shape[2] :].astype(np.uint8) + 1

    windows = WindowPlan(shape=(3, 4, 5), classes=1, overlap=0)
    slabs = score_slabs(image, lambda w: w, windows=windows)
    labels = labels_from_slabs(slabs, source, target, make)
    assert np.array_equal(labels, (image > 0)[::-1].transpose(1, 2, 0) + 1)


def test_grids_that_are_not_parallel_are_refused():
    target = grid((4, 4, 4), (1, 1, 1))
    target.affine[0, 1] = 0.3
    slabs = score_slabs(np.zeros((4, 4, 4), np.float32), abs, windows=WindowPlan(shape=(4, 4, 4), classes=1))
    with pytest.raises(GeometryError, match="not parallel"):
        labels_from_slabs(slabs, grid((4, 4, 4), (1, 1, 1)), target, labels_from_scores)


def test_lazy_image_is_made_on_parts_of_the_models_grid():
    whole = grid((10, 4, 4), (2, 1, 1))
    asked = []

    def make(part):
        asked.append((part.affine[0, 3], part.shape))
        return np.zeros(part.shape, np.float32)

    predict_in_windows(lazy_image(whole, make), abs, windows=WindowPlan(shape=(4, 4, 4), classes=1))
    # windows begin at 0, 2, 4, 6: four slices, then two more each time
    assert asked == [(0, (4, 4, 4)), (8, (2, 4, 4)), (12, (2, 4, 4)), (16, (2, 4, 4))]
