import numpy as np
import pytest

from stages import Grid
from stages.arrays import to_host
from stages.components import (
    bounding_box,
    fill_holes,
    keep_inside,
    keep_largest_component,
    remove_small,
)
from stages.geometry import reorient
from stages.postprocess import label_volumes_ml, postprocess
from stages.preprocess import ModelInput


def labels_with(*blobs, shape=(6, 10, 10)):
    """Return labels; a blob is its label and the slices of its box."""
    labels = np.zeros(shape, np.uint8)
    for label, *box in blobs:
        labels[tuple(slice(*ends) for ends in box)] = label
    return labels


def prepared(grid, source_grid, box=None):
    """Return what preprocessing remembers; only grids and box count here."""
    box = box or tuple(slice(0, length) for length in source_grid.shape)
    return ModelInput(image=None, grid=grid, source_grid=source_grid, box=box, padding=0)


LARGE = (1, (0, 3), (0, 3), (0, 3))
SMALL = (1, (4, 6), (5, 7), (5, 7))


def test_of_two_blobs_the_larger_stays(put):
    labels = put(labels_with(SMALL, LARGE))
    keep_largest_component(labels, [1])
    assert np.array_equal(to_host(labels), labels_with(LARGE))


def test_a_component_is_measured_over_all_its_slices(put):
    flat, tall = (1, (0, 1), (0, 3), (0, 3)), (1, (0, 4), (5, 7), (5, 7))  # 9 voxels in one slice, 16 in four
    labels = put(labels_with(flat, tall))
    keep_largest_component(labels, [1])
    assert np.array_equal(to_host(labels), labels_with(tall))


def test_liver_and_its_tumour_count_as_one_component():
    # 12 voxels of liver with 6 of tumour are more than 16 of liver alone
    together = [(1, (0, 3), (0, 2), (0, 2)), (2, (3, 6), (0, 2), (0, 1))]
    labels = labels_with(*together, (1, (0, 4), (5, 7), (5, 7)))
    keep_largest_component(labels, [1, 2])
    assert np.array_equal(labels, labels_with(*together))


def test_labels_outside_the_group_are_left_alone():
    other = (7, (4, 5), (1, 2), (1, 2))
    labels = labels_with(LARGE, SMALL, other)  # `other` lies in the box of both
    keep_largest_component(labels, [1, 2])
    assert np.array_equal(labels, labels_with(LARGE, other))


def test_voxels_that_touch_by_an_edge_are_two_components():
    labels = labels_with((1, (0, 2), (0, 2), (0, 2)), (1, (2, 3), (2, 3), (0, 1)))
    keep_largest_component(labels, [1])
    assert labels.sum() == 8


def test_single_component_and_empty_labels_stay_as_they_are():
    for labels in (labels_with(LARGE), labels_with()):
        before = labels.copy()
        keep_largest_component(labels, [1])
        assert np.array_equal(labels, before)


def test_tumour_away_from_the_liver_is_removed(put):
    detached = (2, (5, 6), (8, 10), (8, 10))
    labels = put(labels_with(LARGE, detached))
    keep_inside(labels, 2, 1)
    assert np.array_equal(to_host(labels), labels_with(LARGE))


@pytest.mark.parametrize(
    "tumour",
    [(2, (1, 2), (1, 2), (1, 2)), (2, (3, 6), (2, 3), (2, 3)), (2, (0, 1), (0, 1), (3, 6))],
    ids=["inside", "on a face", "sticking out"],
)
def test_tumour_that_touches_the_liver_is_kept_whole(put, tumour):
    labels = put(labels_with(LARGE, tumour))
    keep_inside(labels, 2, 1)
    assert np.array_equal(to_host(labels), labels_with(LARGE, tumour))


def test_tumour_that_touches_by_an_edge_only_is_removed():
    labels = labels_with(LARGE, (2, (3, 4), (3, 4), (0, 2)))
    keep_inside(labels, 2, 1)
    assert np.array_equal(labels, labels_with(LARGE))


def test_tumour_without_any_liver_is_removed():
    labels = labels_with((2, (1, 2), (1, 2), (1, 2)))
    keep_inside(labels, 2, 1)
    assert not labels.any()


def test_bounding_box_is_the_smallest_that_holds_all(put):
    mask = np.zeros((5, 6, 7), bool)
    mask[1, 2, 3] = mask[3, 2, 6] = True
    assert bounding_box(put(mask)) == (slice(1, 4), slice(2, 3), slice(3, 7))
    assert bounding_box(put(np.zeros((2, 2, 2), bool))) is None


def test_label_volume_is_voxels_times_their_size(put, place):
    # 27 voxels of 2 x 1 x 1 mm
    volumes = label_volumes_ml(place(put(labels_with(LARGE))), [1, 2])
    assert volumes == {1: pytest.approx(0.054), 2: 0.0}


def scores_of(labels):
    return np.stack([labels == n for n in range(3)]).astype(np.float32)


@pytest.mark.parametrize("orientation", ["SPL", "LIA", "PSR", "IAR"])
def test_labels_come_back_on_the_volumes_own_grid(put, place, describe, orientation):
    labels = labels_with(LARGE, (2, (1, 2), (1, 2), (1, 2)))
    volume = place(np.zeros(labels.shape, np.int16), orientation)
    volume = volume.with_array(put(volume.array))
    axial = place(labels).grid
    mask = postprocess(put(scores_of(labels)), prepared(axial, axial), volume, describe())
    assert mask.grid.matches(volume.grid)
    assert mask.array.dtype == np.uint8
    assert mask.origin is volume.origin
    assert np.array_equal(to_host(reorient(mask.array, mask.affine, "SPL")[0]), labels)


def test_what_the_model_asks_to_clean_is_cleaned_and_nothing_else(place, describe):
    labels = labels_with(LARGE, SMALL, (2, (5, 6), (0, 1), (0, 1)))
    volume = place(np.zeros(labels.shape, np.int16))
    whole = prepared(volume.grid, volume.grid)
    cleaned = postprocess(scores_of(labels), whole, volume, describe())
    as_is = postprocess(scores_of(labels), whole, volume, describe(largest_component=[], inside={}))
    assert np.array_equal(cleaned.array, labels_with(LARGE))
    assert np.array_equal(as_is.array, labels)


def test_scores_of_a_coarser_grid_come_back_on_the_volumes_shape(place, describe):
    scores = scores_of(labels_with(LARGE))
    volume = place(np.zeros((12, 20, 20), np.int16), spacing=(1.0, 0.5, 0.5))
    affine = place(labels_with()).affine
    mask = postprocess(scores, prepared(Grid((6, 10, 10), affine), volume.grid), volume, describe())
    # the border of slices 2 and 3 lies at 2.5 slices of 2 mm, rows and columns alike: 5 voxels, then the tie
    assert mask.array.shape == (12, 20, 20)
    assert mask.array[:5, :5, :5].all()
    assert not mask.array[5:].any()


def test_outside_the_box_that_the_model_saw_there_is_background(place, describe):
    labels = np.ones((2, 4, 4), np.uint8)
    volume = place(np.zeros((6, 10, 10), np.int16))
    whole = prepared(volume.grid, volume.grid, box=(slice(2, 4), slice(3, 7), slice(5, 9)))
    seen = ModelInput(image=None, grid=whole.box_grid, source_grid=volume.grid, box=whole.box, padding=0)
    mask = postprocess(scores_of(labels), seen, volume, describe())
    assert mask.array.sum() == labels.sum()
    assert mask.array[2:4, 3:7, 5:9].all()


def test_a_channel_that_is_not_wanted_counts_as_background(place, describe):
    labels = labels_with(LARGE, (2, (4, 6), (5, 7), (5, 7)))
    volume = place(np.zeros(labels.shape, np.int16))
    model = describe(channel_labels=[0, None, 7], largest_component=[], inside={})
    mask = postprocess(scores_of(labels), prepared(volume.grid, volume.grid), volume, model)
    assert np.array_equal(mask.array, np.where(labels == 2, 7, 0))


def test_of_overlapping_channels_the_later_counts(put, place, describe):
    volume = place(np.zeros((2, 2, 2), np.int16))
    volume = volume.with_array(put(volume.array))
    scores = np.zeros((2, 2, 2, 2), np.float32)
    scores[0] = 0.9  # liver everywhere, surely
    scores[1, 0] = 0.6  # tumour in the first slice, less surely
    model = describe(activation="sigmoid", channel_labels=[1, 2], largest_component=[], inside={})
    mask = postprocess(put(scores), prepared(volume.grid, volume.grid), volume, model)
    assert to_host(mask.array).tolist() == [[[2, 2], [2, 2]], [[1, 1], [1, 1]]]
    stricter = model.model_copy(update={"threshold": 0.7})
    mask = postprocess(put(scores), prepared(volume.grid, volume.grid), volume, stricter)
    assert (to_host(mask.array) == 1).all()


def test_components_below_a_volume_go(put):
    labels = put(labels_with(SMALL, LARGE))  # 8 and 27 voxels
    remove_small(labels, 1, 8)
    assert np.array_equal(to_host(labels), labels_with(SMALL, LARGE))
    remove_small(labels, 1, 8.5)
    assert np.array_equal(to_host(labels), labels_with(LARGE))
    remove_small(labels, 2, 1)
    assert np.array_equal(to_host(labels), labels_with(LARGE))


def test_holes_are_filled_and_what_lies_in_them_stays(put):
    ball = labels_with((1, (0, 5), (0, 5), (0, 5)))
    hollow = ball.copy()
    hollow[2, 2, 1:4] = 0
    hollow[2, 2, 2] = 2
    open_ = ball.copy()
    open_[2, 2, 0:3] = 0  # reaches the outside
    found, kept = put(hollow.copy()), put(open_.copy())
    fill_holes(found, 1)
    fill_holes(kept, 1)
    expected = ball.copy()
    expected[2, 2, 2] = 2
    assert np.array_equal(to_host(found), expected)
    assert np.array_equal(to_host(kept), open_)


def test_the_smallest_volume_is_told_in_millilitres(place, describe):
    labels = labels_with(SMALL, LARGE)  # 8 and 27 voxels of 2 mm^3
    volume = place(np.zeros(labels.shape, np.int16))
    for minimum_ml, stays in ((0.016, labels), (0.017, labels_with(LARGE))):
        model = describe(minimum_volume_ml={"1": minimum_ml}, largest_component=[], inside={})
        mask = postprocess(scores_of(labels), prepared(volume.grid, volume.grid), volume, model)
        assert np.array_equal(mask.array, stays)
