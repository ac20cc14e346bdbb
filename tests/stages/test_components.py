import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import components_device
from stages.arrays import to_host
from stages.components import fill_holes, keep_inside, keep_largest_component, remove_small


def labels_with(*blobs, shape=(6, 10, 10)):
    """Return labels; a blob is its label and the slices of its box."""
    labels = np.zeros(shape, np.uint8)
    for label, *box in blobs:
        labels[tuple(slice(*ends) for ends in box)] = label
    return labels


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


# Against scipy, which the device's way is written in as well: any mask, as it lies or turned


@st.composite
def masks(draw):
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 7)))
    share = draw(st.sampled_from([0.3, 0.6, 0.9]))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    mask = np.where(random.random(shape) < share, random.integers(1, 4, shape), 0).astype(np.uint8)
    turns = draw(st.permutations([0, 1, 2]))
    return mask.transpose(turns)[:: draw(st.sampled_from([1, -1])), :, :: draw(st.sampled_from([1, -1]))]


@pytest.mark.parametrize(
    ("change", "arguments"),
    [
        ("remove_small", (1, 3)),
        ("remove_small", (2, 2.5)),
        ("keep_inside", (2, 1)),
        ("fill_holes", (1,)),
        ("fill_holes", (3,)),
    ],
)
@given(mask=masks())
@settings(deadline=None)
def test_any_mask_becomes_what_scipy_makes_of_it(change, arguments, mask):
    ours, theirs = mask.copy(), mask.copy()
    {"remove_small": remove_small, "keep_inside": keep_inside, "fill_holes": fill_holes}[change](
        ours, *arguments
    )
    getattr(components_device, change)(theirs, *arguments)
    assert np.array_equal(ours, theirs)


@given(mask=masks())
@settings(deadline=None)
def test_what_stays_is_as_large_as_scipys_largest_component_and_one(mask):
    ours, theirs = mask.copy(), mask.copy()
    keep_largest_component(ours, (1, 3))
    components_device.keep_largest_component(theirs, (1, 3))
    assert np.isin(ours, (1, 3)).sum() == np.isin(theirs, (1, 3)).sum()
    assert np.array_equal(ours == 2, mask == 2)
    again = ours.copy()
    keep_largest_component(again, (1, 3))
    assert np.array_equal(again, ours)


def test_of_two_equal_components_the_first_in_memory_stays_however_the_mask_is_turned(put):
    labels = put(labels_with((1, (0, 1), (0, 1), (0, 2)), (1, (4, 5), (4, 5), (4, 6))))
    keep_largest_component(labels[::-1, :, ::-1], [1])
    assert np.array_equal(to_host(labels), labels_with((1, (0, 1), (0, 1), (0, 2))))
