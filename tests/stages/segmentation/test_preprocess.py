import tracemalloc

import numpy as np
import pytest

from stages.arrays import to_host
from stages.segmentation.intensities import intensity_of
from stages.segmentation.preprocess import preprocess
from stages.volume.geometry import points_at

ORIENTATIONS = ["SPL", "IAR", "LPS", "RIP", "AIL", "PSR"]


@pytest.mark.parametrize(
    ("hu", "expected"), [(-1000, 0), (-100, 0), (0, 0.25), (100, 0.5), (300, 1), (3071, 1)]
)
def test_hu_is_clipped_and_mapped_onto_the_scale(put, describe, hu, expected):
    values = to_host(intensity_of(describe(), None)(put(np.full((2, 2, 2), hu, np.int16))))
    assert values.ravel().tolist() == [expected] * 8
    assert values.dtype == np.float32


def test_scale_may_lie_anywhere(describe):
    model = describe(intensity_scale=[-1, 3])
    assert intensity_of(model, None)(np.array([-100, 0, 300])).tolist() == [-1, 0, 3]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_voxel_lands_at_its_place_in_the_models_orientation(put, place, describe, orientation):
    array = np.full((5, 6, 7), -1000, np.int16)
    array[1, 2, 3] = 100  # of -100..300 HU: 0.5
    volume = place(array, orientation)
    image = to_host(preprocess(volume.with_array(put(volume.array)), describe()).image)
    expected = np.zeros((5, 6, 7))
    expected[1, 2, 3] = 0.5
    assert np.array_equal(image, expected)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_resampled_hu_belong_to_their_point_in_the_patient(place, describe, orientation):
    # 4 HU a millimetre from feet to head, from 5 mm on: -100 + 4 * (z - 5)
    array = np.broadcast_to(-100 + 8 * np.arange(12, dtype=np.int16)[:, None, None], (12, 9, 9))
    prepared = preprocess(place(array, orientation), describe(spacing_mm=[1.0, 1.5, 3.0]))
    assert prepared.image.shape == (24, 6, 3)
    heights = [points_at(prepared.grid.affine, (n, 0, 0))[2] for n in range(24)]
    expected = np.clip(4 * (np.array(heights) - 5), 0, 88) / 400
    assert prepared.image[:, 2, 1] == pytest.approx(expected, abs=1e-6)


def test_grid_of_the_volume_is_remembered_in_the_models_orientation(place, describe):
    prepared = preprocess(place(np.zeros((5, 6, 7), np.int16), "RIP"), describe(spacing_mm=[1, 2, 2]))
    assert prepared.source_grid.matches(place(np.zeros((5, 6, 7), np.int16)).grid)
    assert prepared.grid.spacing == (1, 2, 2)


def test_volume_itself_is_left_as_it_is(place, describe):
    array = np.full((5, 6, 7), 2000, np.int16)
    array.flags.writeable = False
    preprocess(place(array), describe())
    assert (array == 2000).all()


# Grids, boxes and statistics


def test_without_spacing_and_size_the_model_sees_the_volumes_own_voxels(place, describe):
    array = np.random.default_rng(0).integers(-100, 300, (5, 6, 7)).astype(np.int16)
    prepared = preprocess(place(array), describe(spacing_mm="native"))
    assert prepared.grid.matches(prepared.source_grid)
    assert prepared.image == pytest.approx((array + 100) / 400, abs=1e-6)


def test_a_size_is_reached_whatever_the_volume_and_covers_the_same_box(place, describe):
    prepared = preprocess(place(np.zeros((5, 6, 8), np.int16)), describe(spacing_mm=None, size=[10, 12, 4]))
    assert prepared.image.shape == prepared.grid.shape == (10, 12, 4)
    # 5 slices of 2 mm, 6 rows and 8 columns of 1 mm
    assert prepared.grid.spacing == pytest.approx((1, 0.5, 2))
    first = points_at(prepared.grid.affine, (-0.5, -0.5, -0.5))
    assert first == pytest.approx(points_at(prepared.source_grid.affine, (-0.5, -0.5, -0.5)))


def test_margins_cut_a_share_of_each_side(place, describe):
    array = np.arange(20, dtype=np.int16)[:, None, None] * np.ones((1, 10, 10), np.int16)
    model = describe(spacing_mm="native", crop_margin_percent=[-25, -10, 0, 0, 0, -40])
    prepared = preprocess(place(array), model)
    assert prepared.box == (slice(5, 18), slice(0, 10), slice(0, 6))
    assert prepared.image[:, 0, 0] == pytest.approx((np.arange(5, 18) + 100) / 400)
    assert points_at(prepared.grid.affine, (0, 0, 0)) == pytest.approx(
        points_at(prepared.source_grid.affine, (5, 0, 0))
    )


@pytest.mark.parametrize("orientation", ["SPL", "RIP"])
def test_the_body_is_the_largest_bright_piece_with_its_margins(put, place, describe, orientation):
    array = np.full((24, 64, 64), -1000, np.int16)
    array[4:20, 16:48, 20:44] = 40
    array[:, 60, 10:50] = 100  # a table
    volume = place(array, orientation)
    model = describe(spacing_mm="native", crop="body")
    box = preprocess(volume.with_array(put(volume.array)), model).box
    for side, (first, last) in zip(box, ((4, 20), (16, 48), (20, 44)), strict=True):
        assert first - 8 < side.start <= first
        assert last <= side.stop < last + 8
    wider = preprocess(volume, model.model_copy(update={"crop_margin_percent": (0, 0, 50, 0, 0, 0)})).box
    assert wider[1].start == max(0, round(box[1].start - 0.5 * (box[1].stop - box[1].start)))


@pytest.mark.parametrize("orientation", ["SPL", "RIP"])
def test_the_foreground_is_all_that_is_brighter_than_its_threshold(put, place, describe, orientation):
    array = np.full((9, 10, 11), 60, np.int16)
    array[2, 3, 4] = array[5, 8, 6] = 61  # two voxels apart
    volume = place(array, orientation)
    model = describe(spacing_mm="native", crop="foreground", foreground_hu=60)
    box = preprocess(volume.with_array(put(volume.array)), model).box
    assert box == (slice(2, 6), slice(3, 9), slice(4, 7))


@pytest.mark.parametrize("crop", ["body", "foreground"])
def test_air_alone_has_nothing_to_crop_to_and_is_taken_whole(place, describe, crop):
    prepared = preprocess(
        place(np.full((5, 6, 7), -1000, np.int16)), describe(spacing_mm="native", crop=crop)
    )
    assert prepared.box == (slice(0, 5), slice(0, 6), slice(0, 7))


def test_given_statistics_bring_their_mean_to_zero_and_their_deviation_to_one(place, describe):
    model = describe(intensity_scale=None, intensity_zscore={"mean": 50, "std": 25})
    assert intensity_of(model, None)(np.array([50, 75, 25, 9999])).tolist() == [0, 1, -1, 10]


def test_statistics_of_the_foreground_leave_air_out(place, describe):
    array = np.full((4, 4, 4), -1000, np.int16)
    array[:2], array[2] = 100, 200
    model = describe(intensity_scale=None, intensity_clip_hu=None, intensity_zscore="foreground")
    image = preprocess(place(array), model.model_copy(update={"spacing_mm": "native"})).image
    # 32 voxels of 100 and 16 of 200: mean 133.3, deviation 47.14
    assert image[0, 0, 0] == pytest.approx(-33.333 / 47.14, abs=1e-4)
    assert image[2, 0, 0] == pytest.approx(66.667 / 47.14, abs=1e-4)


def test_statistics_of_an_image_in_parts_are_those_of_the_whole(place, describe):
    hu = np.random.default_rng(2).normal(100, 40, (130, 100, 100)).astype(np.int16)  # more than 2^20 voxels
    model = describe(
        spacing_mm="native", intensity_scale=None, intensity_clip_hu=None, intensity_zscore="foreground"
    )
    found = preprocess(place(hu), model).image[hu > model.foreground_hu]
    assert found.astype(np.float64).mean() == pytest.approx(0, abs=1e-6)
    assert found.astype(np.float64).std() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("orientation", ["SPL", "RIP", "LSA"])
def test_foreground_of_an_image_in_parts_is_found(place, describe, orientation):
    hu = np.full((200, 180, 160), -1000, np.int16)  # more than 2^22 voxels
    hu[3, 70, 80] = hu[170, 90, 20] = 100
    model = describe(spacing_mm="native", crop="foreground", foreground_hu=60)
    assert preprocess(place(hu, orientation), model).box == (slice(3, 171), slice(70, 91), slice(20, 81))


def test_model_whose_intensities_depend_on_the_whole_image_takes_little_beside_it(place, describe):
    volume = place(np.ones((120, 200, 200), np.int16))
    brightness = {"intensity_scale": None, "intensity_zscore": "foreground", "foreground_hu": 0}
    model = describe(spacing_mm="native", crop="foreground", **brightness)
    preprocess(volume, model)  # compiled
    tracemalloc.start()
    image = preprocess(volume, model).image
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < image.nbytes + 40 * 2**20
