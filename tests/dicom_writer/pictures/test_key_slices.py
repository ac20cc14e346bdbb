"""Which slices are shown."""

import numpy as np

from dicom_writer.pictures.key_slices import key_slices
from tests.dicom_writer import letters


def test_the_largest_area_comes_first_and_ends_are_half_way(result_request, empty):
    empty[0, :2, :2] = 1
    empty[1:4, :3, :3] = 1
    empty[4, :5, :5] = 1  # the largest; half way to slice 0 is slice 2
    assert key_slices(result_request(empty), most=1) == [4]
    assert key_slices(result_request(empty)) == [2, 4]


def test_nothing_shows_the_middle(result_request, empty):
    assert key_slices(result_request(empty)) == [2]


def test_every_listed_lesion_is_shown_where_it_was_measured(result_request, empty):
    empty[0, 2:5, 2:5] = 2
    empty[2, 2:4, 2:4] = 2
    empty[4, 2, 2] = 2
    assert key_slices(result_request(empty)) == [0, 2, 4]


def test_few_pictures_do_not_lie_side_by_side(tmp_path):
    from dicom_writer.request.mask_request import request_of_mask

    source, mask = letters.series_and_mask(tmp_path / "source", shape=(100, 8, 8))
    array = np.zeros(mask.array.shape, np.uint8)
    array[40:60, 2:5, 2:5] = 2
    array[50, 2:6, 2:6] = 2  # the largest area
    array[51, 1:7, 2] = 2  # the longest line beside it
    shown = request_of_mask(letters.changed(mask, array), source)
    assert key_slices(shown, most=2) == [45, 50]
    assert key_slices(shown) == [45, 50, 51, 54]
