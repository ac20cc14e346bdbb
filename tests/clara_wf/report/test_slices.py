"""What the page carries of CT and mask, decoded again and held against the volume."""

import base64
import zlib

import numpy as np
import pytest

from clara_wf.report.slices import (
    LEVELS_HU,
    count_labels,
    encode_image,
    encode_mask,
    labelled_box,
    reducing_factors,
)


def decoded(grid):
    """Return the bytes of a grid, as the page's script inflates them."""
    raw = zlib.decompress(base64.b64decode(grid.data))
    return np.frombuffer(raw, dtype=np.uint8).reshape(grid.shape)


def shown_hu(grid):
    """Return the HU that the page shows."""
    return LEVELS_HU[np.cumsum(decoded(grid), axis=2, dtype=np.uint8)]


def test_what_fits_is_not_reduced():
    assert reducing_factors((10, 100, 100), (5.0, 1.0, 1.0), at_most=100_000) == (1, 1, 1)


def test_thick_slices_are_kept_and_rows_and_columns_halved():
    assert reducing_factors((100, 512, 512), (2.5, 0.8, 0.8), at_most=10_000_000) == (1, 2, 2)


def test_of_many_thin_slices_some_are_averaged_too():
    assert reducing_factors((600, 512, 512), (0.5, 0.8, 0.8), at_most=20_000_000) == (2, 2, 2)


def test_values_are_rounded_by_no_more_than_the_page_says():
    hu = np.random.default_rng(1).integers(-1024, 1500, (3, 20, 30)).astype(np.int16)
    off = np.abs(shown_hu(encode_image(hu, (1, 1, 1))).astype(int) - hu)
    fine = (hu >= -200) & (hu <= 297)
    assert off[fine].max() == 1
    assert off.max() <= 15


def test_values_beyond_the_levels_are_shown_as_the_last_one():
    hu = np.array([[[-3000, -1024, 1500, 3071]]], dtype=np.int16)
    assert shown_hu(encode_image(hu, (1, 1, 1))).tolist() == [[[-1024, -1024, 1500, 1500]]]


def test_a_reduced_voxel_is_the_mean_of_its_block():
    hu = np.zeros((2, 2, 4), dtype=np.int16)
    hu[0, :, :2] = 80  # half of the first block's eight voxels
    hu[:, :, 2:] = -20
    assert shown_hu(encode_image(hu, (2, 2, 2))).tolist() == [[[40, -20]]]


def test_blocks_at_the_border_are_smaller():
    hu = np.full((3, 5, 5), 100, dtype=np.int16)
    grid = encode_image(hu, (2, 2, 2))
    assert grid.shape == (2, 3, 3)
    assert np.unique(shown_hu(grid)).tolist() == [100]


@pytest.fixture
def labels():
    array = np.zeros((6, 20, 30), dtype=np.uint8)
    array[2:5, 4:9, 10:20] = 1
    array[3, 6, 15] = 7
    return array


def test_the_box_holds_every_label_and_nothing_around(labels):
    assert labelled_box(labels) == (slice(2, 5), slice(4, 9), slice(10, 20))
    assert labelled_box(np.zeros((2, 3, 4), dtype=np.uint8)) is None


def test_labels_are_counted_without_background(labels):
    assert count_labels(labels) == {1: 3 * 5 * 10 - 1, 7: 1}


def test_a_mask_that_fits_is_shown_voxel_for_voxel(labels):
    grid = encode_mask(labels, labelled_box(labels), (1, 1, 1))
    assert grid.offset == (2, 4, 10)
    assert np.array_equal(decoded(grid), labels[2:5, 4:9, 10:20])


def test_of_a_large_mask_the_middle_of_each_block_is_shown(labels):
    grid = encode_mask(labels, labelled_box(labels), (1, 3, 3))
    assert np.array_equal(decoded(grid), labels[2:5, 5:9:3, 11:20:3])
