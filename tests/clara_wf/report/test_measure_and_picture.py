"""Reports and pictures, with answers counted by hand."""

from dataclasses import replace

import numpy as np
import pytest

from clara_wf.report.measure import compare
from clara_wf.report.picture import number_of_slice, three_planes
from stages.volume.geometry import reorient
from stages.volume.labels import Code
from stages.volume.origin import Origin, SliceOrigin
from stages.volume.overlap import dice
from stages.volume.volume import Volume
from tests.phantoms import LABELS

AFFINE = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [5.0, 0, 0, 0], [0, 0, 0, 1.0]])


LIVER, TUMOUR = LABELS


def volume(array, labels=()):
    return Volume(array=array, affine=AFFINE, origin=Origin(series_instance_uid="1.2", labels=labels))


@pytest.fixture
def labels():
    """Ten voxels of liver, five of tumour; a voxel is 2 x 2 x 5 mm = 0.02 ml."""
    array = np.zeros((6, 20, 20), dtype=np.uint8)
    array[3, 5:7, 2:7] = 1
    array[3, 10, 2:7] = 2
    return array


@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [([1, 1, 0, 0], [1, 1, 0, 0], 1.0), ([1, 1, 0, 0], [0, 1, 1, 1], 0.4), ([1], [0], 0.0), ([0], [0], 1.0)],
)
def test_dice_is_twice_the_overlap_over_the_sum(found, true, expected):
    assert dice(np.array(found, dtype=bool), np.array(true, dtype=bool)) == expected


def test_volumes_are_voxels_times_their_size(labels):
    findings = compare(volume(labels), LABELS)
    assert [(f.label, f.name, f.volume_ml, f.dice) for f in findings] == [
        (1, "Liver", 0.2, None),
        (2, "Liver tumour", 0.1, None),
    ]
    assert [f.rgb for f in findings] == [LIVER.rgb, TUMOUR.rgb]


def test_a_label_without_a_meaning_is_measured_and_called_by_its_value(labels):
    liver, other = compare(volume(labels), [LIVER], [2], truth=volume(labels, LABELS))
    assert (other.name, other.type, other.volume_ml, other.dice) == ("label 2", None, 0.1, None)
    assert liver.dice == 1.0


def test_truth_is_compared_by_what_labels_mean_whatever_their_values_and_names_are(labels):
    truth = np.where(labels == 2, 7, labels).astype(np.uint8)
    said = (replace(TUMOUR, value=1, name="Lesions"), replace(LIVER, value=7, name="Leber"))
    liver, tumour = compare(volume(labels), LABELS, truth=volume(truth, said))
    assert (liver.dice, tumour.dice) == (0.0, 0.0)  # 7 is the liver there, 1 the tumour
    swapped = np.array([0, 7, 1], np.uint8)[labels]
    assert [f.dice for f in compare(volume(labels), LABELS, truth=volume(swapped, said))] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("truth", "expected"),
    [
        (((1, "Left lung"), (2, "Right lung")), [1.0, 1.0]),
        (((2, "Left lung"), (1, "Right lung")), [0.0, 0.0]),
        (((1, "Left lung"),), [1.0, None]),
        (((1, "Lungs"),), [None, None]),
    ],
)
def test_labels_of_one_code_are_compared_with_those_of_their_own_name(labels, truth, expected):
    lung = replace(LIVER, type=Code("39607008", "SCT", "Lung"))
    own = [replace(lung, value=1, name="Left lung"), replace(lung, value=2, name="Right lung")]
    said = tuple(replace(lung, value=value, name=name) for value, name in truth)
    found = compare(volume(labels), own, truth=volume(labels, said))
    assert [finding.dice for finding in found] == expected


def test_a_truth_of_something_else_gives_no_dice(labels):
    spleen = replace(LIVER, name="Spleen", type=Code("78961009", "SCT", "Spleen"))
    (found,) = compare(volume(labels), [spleen], truth=volume(labels, LABELS))
    assert found.dice is None


def test_the_truth_gives_a_dice_for_each_label(labels):
    truth = labels.copy()
    truth[3, 10, 2:7] = 0
    assert [f.dice for f in compare(volume(labels), LABELS, truth=volume(truth, LABELS))] == [1.0, 0.0]


def test_the_picture_shows_the_plain_slice_on_the_left_and_the_mask_on_the_right(labels):
    hu = np.full(labels.shape, 40, dtype=np.int16)
    hu[3, 9:12, 2:7] = 140
    picture = np.asarray(three_planes(volume(hu), volume(labels), compare(volume(labels), LABELS)))
    axial = picture[58 : 58 + 512]
    left, right = axial[:, :512], axial[:, 520:]
    row, column = round(10.5 / 20 * 512), round(4.5 / 20 * 512)
    assert left[row, column].tolist() == [191, 191, 191]  # 140 HU is three quarters of the window
    assert left[row, 512 - column].tolist() == [127, 127, 127]
    assert right[row, column].tolist() == pytest.approx(TUMOUR.rgb, abs=8)
    assert right[row, 512 - column].tolist() == [127, 127, 127]


def test_a_plane_that_is_a_slice_has_the_number_that_a_viewer_shows():
    slices = tuple(
        SliceOrigin(sop_instance_uid=f"1.{n}", position=(0, 0, 5.0 * n), instance_number=106 - n)
        for n in range(6)
    )
    origin = Origin(series_instance_uid="1.2", slices=slices)
    image = Volume(array=np.zeros((6, 20, 20), np.int16), affine=AFFINE, origin=origin)
    _, from_the_head = reorient(image.array, image.affine, "IPL")
    numbers = [number_of_slice(image, from_the_head, (2, 7, 9), axis) for axis in range(3)]
    assert numbers == [", slice 103", "", ""]  # the third from the head lies at 15 mm


def test_the_patients_right_is_on_the_left_whatever_the_order_of_the_columns(labels):
    hu = np.full(labels.shape, 40, dtype=np.int16)
    flipped = AFFINE.copy()
    flipped[:3, 2] *= -1
    flipped[0, 3] = 2.0 * 19
    turned = [
        Volume(array=a[:, :, ::-1], affine=flipped, origin=Origin(series_instance_uid="1.2"))
        for a in (hu, labels)
    ]
    found = compare(volume(labels), LABELS)
    expected = three_planes(volume(hu), volume(labels), found)
    assert np.array_equal(np.asarray(three_planes(*turned, found)), np.asarray(expected))
