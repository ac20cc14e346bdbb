import tracemalloc

import numpy as np
import pytest

from stages import Grid
from stages.arrays import to_host
from stages.segmentation.postprocess import label_volumes_ml, postprocess
from stages.segmentation.preprocess import ModelInput
from stages.volume.geometry import reorient
from tests.stages.blobs import LARGE, SMALL, labels_with


def prepared(grid, source_grid, box=None):
    """Return what preprocessing remembers; only grids and box count here."""
    box = box or tuple(slice(0, length) for length in source_grid.shape)
    return ModelInput(image=None, grid=grid, source_grid=source_grid, box=box, padding=0)


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


def test_the_smallest_volume_is_told_in_millilitres(place, describe):
    labels = labels_with(SMALL, LARGE)  # 8 and 27 voxels of 2 mm^3
    volume = place(np.zeros(labels.shape, np.int16))
    for minimum_ml, stays in ((0.016, labels), (0.017, labels_with(LARGE))):
        model = describe(minimum_volume_ml={"1": minimum_ml}, largest_component=[], inside={})
        mask = postprocess(scores_of(labels), prepared(volume.grid, volume.grid), volume, model)
        assert np.array_equal(mask.array, stays)


def test_an_unwanted_channel_of_overlapping_ones_hides_no_label(put, place, describe):
    scores = np.zeros((3, 6, 10, 10), np.float32)
    scores[0, 1:3, 2:5, 2:5] = 0.9  # 18 voxels, all of them also in the channel that is null
    scores[1, :, :, :6] = 0.9
    volume = place(put(np.zeros((6, 10, 10), np.int16)))
    model = describe(activation="sigmoid", channel_labels=[4, None, 7], largest_component=[], inside={})
    mask = postprocess(put(scores), prepared(volume.grid, volume.grid), volume, model)
    assert label_volumes_ml(mask, [4, 7]) == {4: pytest.approx(18 * 0.002), 7: 0.0}


def test_labels_are_counted_without_a_copy_of_the_mask(place):
    mask = place(np.ones((400, 200, 200), np.uint8), "RIP")
    tracemalloc.start()
    found = label_volumes_ml(mask, [1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == {1: pytest.approx(16e6 * 0.002)}
    assert peak < 5 * 2**20
