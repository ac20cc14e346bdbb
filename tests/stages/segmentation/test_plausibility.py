"""What is implausible in a mask is told: volumes worked out by hand, on voxels of 10 mm, 1 ml each."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from stages import Origin, Volume
from stages.segmentation.plausibility import implausible, with_warnings
from stages.segmentation.postprocess import label_volumes_ml
from stages.volume.body_parts import lies_elsewhere

LIVER = {
    "1": {
        "name": "Liver",
        "rgb": [1, 2, 3],
        "type": {"value": "10200004", "scheme": "SCT", "meaning": "Liver"},
    }
}


def mask_of(*boxes, spacing_mm=(10.0, 10.0, 10.0), **origin):
    array = np.zeros((12, 20, 20), dtype=np.uint8)
    for box, label in boxes:
        array[box] = label
    affine = np.diag([*spacing_mm, 1.0])[[2, 1, 0, 3]]
    return Volume(array=array, affine=affine, origin=Origin(series_instance_uid="1.2", **origin))


def told(mask, model):
    return list(implausible(mask, model, label_volumes_ml(mask, model.labels)))


@pytest.fixture
def model(describe):
    return describe(expected_volume_ml={1: [100, 500]}, inside={2: 1}, label_meanings=LIVER)


MIDDLE = np.s_[2:8, 2:8, 2:8]  # 216 ml
SMALL = np.s_[2:5, 2:5, 2:5]  # 27 ml
LARGE = np.s_[1:9, 1:9, 1:9]  # 512 ml
ON_TOP = np.s_[6:, 2:8, 2:8]  # 216 ml, 36 cm2 on the last slice


def test_a_volume_within_what_is_expected_is_not_mentioned(model):
    assert told(mask_of((MIDDLE, 1)), model) == []


def test_a_volume_that_is_too_small_is_told_with_numbers(model):
    assert told(mask_of((SMALL, 1)), model) == [
        "Liver 27.0 ml is outside the expected 100 to 500 ml: the scan may not show it, or the mask is wrong"
    ]


def test_a_volume_that_is_too_large_is_told(model):
    assert told(mask_of((LARGE, 1)), model) == [
        "Liver 512.0 ml is outside the expected 100 to 500 ml: the mask may be wrong"
    ]


def test_an_organ_that_was_not_found_is_told(model):
    assert told(mask_of(), model) == [
        "no Liver was found, 100 to 500 ml are expected: the scan may not show it"
    ]


def test_an_organ_is_judged_with_what_lies_inside_it(model):
    # 216 ml, of which 6 x 6 x 4 = 144 are tumour: the 72 that are left would be too few
    assert told(mask_of((MIDDLE, 1), (np.s_[2:8, 2:8, 2:6], 2)), model) == []


def test_what_lies_inside_in_two_steps_counts_too(describe):
    model = describe(channel_labels=[0, 1, 2, 3], inside={2: 1, 3: 2}, expected_volume_ml={1: [216, 217]})
    assert told(mask_of((MIDDLE, 1), (np.s_[2:5, 2:8, 2:8], 2), (np.s_[3:4, 3:4, 3:4], 3)), model) == []


def test_a_label_without_a_meaning_has_its_number_as_name(describe):
    assert told(mask_of((SMALL, 1)), describe(expected_volume_ml={1: [100, 500]}))[0].startswith(
        "label 1 27.0 ml is outside"
    )


@pytest.mark.parametrize(
    ("box", "where"),
    [
        (ON_TOP, "the last slice"),
        (np.s_[:6, 2:8, 2:8], "the first slice"),
        (np.s_[:, 2:7, 2:7], "the first slice and the last slice"),
        (np.s_[2:8, :6, 2:8], "the edge of the images"),
        (np.s_[2:8, 2:8, 14:], "the edge of the images"),
    ],
)
def test_an_organ_that_is_cut_off_may_be_larger(model, put, box, where):
    mask = mask_of((box, 1))
    assert told(mask.with_array(put(mask.array)), model) == [
        f"Liver reaches {where}: it may be larger than what was scanned"
    ]


def test_an_organ_that_is_cut_off_and_too_small_is_told_once(model):
    assert told(mask_of((np.s_[9:, 2:5, 2:5], 1)), model) == [
        "Liver 27.0 ml is outside the expected 100 to 500 ml and reaches the last slice: the scan may not "
        "show all of it, or the mask is wrong"
    ]


def test_a_tip_of_an_organ_on_the_last_slice_is_its_end(model):
    assert told(mask_of((MIDDLE, 1), (np.s_[8:12, 4, 4], 1)), model) == []  # 100 mm2, not more


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        (np.s_[4:12, 8, 8], True),  # 20 x 10 = 200 mm2 of the last slice
        (np.s_[4, 13:20, 8], False),  # 2 x 10 = 20 mm2 of the last row
        (np.s_[4, 8, 13:20], False),  # 2 x 20 = 40 mm2 of the last column
    ],
)
def test_what_is_cut_is_measured_in_the_plane_of_the_cut(describe, box, cut):
    model = describe(expected_volume_ml={1: [0, 500]})
    assert bool(told(mask_of((MIDDLE, 1), (box, 1), spacing_mm=(2.0, 20.0, 10.0)), model)) is cut


def test_a_tumour_on_the_last_slice_cuts_its_organ(model):
    assert told(mask_of((MIDDLE, 1), (np.s_[8:, 2:5, 2:5], 2)), model) == [
        "Liver reaches the last slice: it may be larger than what was scanned"
    ]


@pytest.mark.parametrize(
    ("series", "model_for", "elsewhere"),
    [
        ("HEAD", "ABDOMEN", True),
        ("KNEE", "ABDOMEN", True),
        ("WRIST", "CHEST", True),
        ("CHESTABDPELVIS", "HEAD", True),
        ("CHEST", "ABDOMEN", False),  # shows much of it
        ("PELVIS", "ABDOMEN", False),
        ("NECKCHESTABDPELV", "ABDOMEN", False),
        ("WHOLEBODY", "KNEE", False),
        ("", "ABDOMEN", False),
        ("SCHAEDEL", "ABDOMEN", False),  # no term of the standard
        ("EXTREMITY", "ABDOMEN", False),  # which one?
    ],
)
def test_only_a_part_that_is_surely_another_is_told(describe, series, model_for, elsewhere):
    found = told(mask_of(body_part=series), describe(body_part=model_for))
    sentence = f"the series is of {series}, the model is for {model_for}: the mask may be wrong"
    assert found == ([sentence] if elsewhere else [])


def test_body_parts_far_apart_are_so_from_both_sides():
    assert lies_elsewhere("HEAD", "FOOT")
    assert lies_elsewhere("FOOT", "HEAD")


def test_verdicts_join_the_warnings_that_the_volume_brought_and_are_logged(model, caplog):
    mask = mask_of((SMALL, 1), warnings=("slice 7 may be missing",))
    with caplog.at_level(logging.WARNING):
        judged = with_warnings(mask, model, {1: 27.0, 2: 0.0})
    assert judged.origin.warnings[0] == "slice 7 may be missing"
    assert judged.origin.warnings[1].startswith("Liver 27.0 ml is outside")
    assert [record.message for record in caplog.records] == [judged.origin.warnings[1]]
    assert replace(judged.origin, warnings=mask.origin.warnings) == mask.origin


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"expected_volume_ml": {1: [500, 100]}}, "the lower bound 500 is not below the upper 100"),
        ({"expected_volume_ml": {4: [1, 2]}}, "labels [4] are none of channel_labels"),
        ({"expected_volume_ml": {1: [-1, 2]}}, "expected_volume_ml"),
        ({"expected_volume_ml": {1: 100}}, "expected_volume_ml"),
        ({"body_part": "LIVRE"}, "'LIVRE' is none of the terms for Body Part Examined"),
        ({"body_part": "abdomen"}, "'abdomen' is none of the terms"),
    ],
)
def test_an_expectation_that_cannot_be_is_refused(describe, changes, problem):
    with pytest.raises(ValueError) as refused:
        describe(**changes)
    assert problem in str(refused.value)
