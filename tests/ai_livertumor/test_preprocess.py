import numpy as np
import pytest

from ai_livertumor.preprocess import normalise, preprocess
from stages.arrays import to_host
from stages.geometry import points_at

ORIENTATIONS = ["SPL", "IAR", "LPS", "RIP", "AIL", "PSR"]


@pytest.mark.parametrize(
    ("hu", "expected"), [(-1000, 0), (-100, 0), (0, 0.25), (100, 0.5), (300, 1), (3071, 1)]
)
def test_hu_is_clipped_and_mapped_onto_the_scale(put, describe, hu, expected):
    values = to_host(normalise(put(np.full((2, 2, 2), hu, np.int16)), describe()))
    assert values.ravel().tolist() == [expected] * 8
    assert values.dtype == np.float32


def test_scale_may_lie_anywhere(describe):
    model = describe(intensity_scale=[-1, 3])
    assert normalise(np.array([-100, 0, 300]), model).tolist() == [-1, 0, 3]


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
