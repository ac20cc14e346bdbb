"""Reports and pictures, with answers counted by hand."""

import numpy as np
import pytest

from clara_wf.measure import compare, dice
from clara_wf.picture import COLOURS, number_of_slice, three_planes
from stages.geometry import reorient
from stages.volume import Origin, SliceOrigin, Volume

AFFINE = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [5.0, 0, 0, 0], [0, 0, 0, 1.0]])


def volume(array):
    return Volume(array=array, affine=AFFINE, origin=Origin(series_instance_uid="1.2"))


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
    findings = compare(volume(labels), None)
    assert [(f.name, f.volume_ml, f.dice) for f in findings] == [("liver", 0.2, None), ("tumour", 0.1, None)]


def test_the_truth_gives_a_dice_for_each_label(labels):
    truth = labels.copy()
    truth[3, 10, 2:7] = 0
    assert [f.dice for f in compare(volume(labels), volume(truth))] == [1.0, 0.0]


def test_the_picture_shows_the_plain_slice_on_the_left_and_the_mask_on_the_right(labels):
    hu = np.full(labels.shape, 40, dtype=np.int16)
    hu[3, 9:12, 2:7] = 140
    picture = np.asarray(three_planes(volume(hu), volume(labels), captions=["liver", "tumour"]))
    axial = picture[58 : 58 + 512]
    left, right = axial[:, :512], axial[:, 520:]
    row, column = round(10.5 / 20 * 512), round(4.5 / 20 * 512)
    assert left[row, column].tolist() == [191, 191, 191]  # 140 HU is three quarters of the window
    assert left[row, 512 - column].tolist() == [127, 127, 127]
    assert right[row, column].tolist() == pytest.approx(COLOURS[2], abs=8)
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
    expected = three_planes(volume(hu), volume(labels), captions=[])
    assert np.array_equal(np.asarray(three_planes(*turned, captions=[])), np.asarray(expected))
