"""Measures of agreement, on boxes whose answers are counted by hand."""

import numpy as np
import pytest

from stages import Origin, Volume
from training.agreement import agreement, compare, summary, surface_distance


def box(*sides):
    mask = np.zeros((20, 20, 20), bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


CUBE = box((5, 15), (5, 15), (5, 15))


def test_a_mask_agrees_with_itself():
    same = compare(CUBE, CUBE, (2.0, 1.0, 1.0))
    assert (same.dice, same.true_ml, same.found_ml, same.volume_error) == (1.0, 2.0, 2.0, 0.0)
    assert same.surface_95_mm == 0


def test_a_shift_by_two_slices_is_seen_in_dice_and_as_distance():
    shifted = box((7, 17), (5, 15), (5, 15))
    found = compare(shifted, CUBE, (3.0, 1.0, 1.0))
    assert found.dice == pytest.approx(0.8)
    # Top and bottom, a fifth of each surface, are 2 slices of 3 mm apart; more than 5 % of it.
    assert found.surface_95_mm == pytest.approx(6)


def test_the_larger_of_both_directions_counts():
    far = CUBE | box((5, 6), (5, 6), (19, 20))
    near = surface_distance(CUBE, far, (1.0, 1.0, 1.0), quantile=1.0)
    assert near == surface_distance(far, CUBE, (1.0, 1.0, 1.0), quantile=1.0) == pytest.approx(5)


def test_half_of_it_is_a_volume_error_of_minus_a_half():
    assert compare(box((5, 10), (5, 15), (5, 15)), CUBE, (1, 1, 1)).volume_error == pytest.approx(-0.5)


def test_what_is_not_there_has_no_dice_but_what_was_found_is_told():
    nothing = compare(CUBE, np.zeros_like(CUBE), (1, 1, 1))
    assert nothing.dice is None
    assert nothing.surface_95_mm is None
    assert str(nothing) == "none there, 1.0 ml found"
    assert compare(np.zeros_like(CUBE), CUBE, (1, 1, 1)).surface_95_mm is None


def test_the_liver_includes_its_tumours():
    labels = CUBE.astype(np.uint8)
    found = labels.copy()
    found[8:10, 8:10, 8:10] = 2
    mask = Volume(array=found, affine=np.eye(4), origin=Origin(series_instance_uid="1.2"))
    result = agreement(mask, labels)
    assert result.liver.dice == 1
    assert result.tumour.dice is None
    assert result.tumour.found_ml == pytest.approx(0.008)
    assert "without tumours: 0.0 ml found on average (1 volumes)" in summary([result])
