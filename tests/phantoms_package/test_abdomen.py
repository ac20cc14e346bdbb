import numpy as np
import pytest
from scipy.ndimage import label

from phantoms import DEMO_SEED, Anatomy, make_abdomen
from phantoms.abdomen import make_demo

COARSE = {"shape": (48, 80, 80), "spacing_mm": (4.0, 5.0, 5.0)}


@pytest.fixture(scope="module")
def phantom():
    return make_abdomen(7, **COARSE, tumour_radii_mm=(18.0, 12.0))


def middle_mm(phantom, label):
    """Return the mean position (z, y, x) of an organ."""
    indices = np.argwhere(phantom.anatomy == label).mean(axis=0)
    return indices * phantom.spacing_mm + phantom.first_mm


def dice(a, b):
    return 2 * np.sum(a & b) / (np.sum(a) + np.sum(b))


def test_liver_lies_on_the_patients_right_and_spleen_on_the_left(phantom):
    assert middle_mm(phantom, Anatomy.LIVER)[2] < -30  # columns grow to the patient's left
    assert middle_mm(phantom, Anatomy.SPLEEN)[2] > 50


def test_spine_lies_behind_the_aorta_and_the_lungs_above_the_liver(phantom):
    assert middle_mm(phantom, Anatomy.SPINE)[1] > middle_mm(phantom, Anatomy.AORTA)[1]
    assert middle_mm(phantom, Anatomy.LUNG)[0] > middle_mm(phantom, Anatomy.LIVER)[0]


def test_right_kidney_is_right_of_the_left_one(phantom):
    assert middle_mm(phantom, Anatomy.KIDNEY_RIGHT)[2] < -40
    assert middle_mm(phantom, Anatomy.KIDNEY_LEFT)[2] > 40


@pytest.mark.parametrize("seed", range(3))
def test_liver_has_the_size_of_a_liver(seed):
    phantom = make_abdomen(seed, **COARSE)
    litres = np.sum(phantom.truth > 0) * 4 * 5 * 5 / 1e6
    assert 0.7 < litres < 2.8


def test_tumours_lie_within_the_liver(phantom):
    healthy = make_abdomen(7, **COARSE, tumour_radii_mm=())
    assert np.sum(phantom.truth == 2) > 50
    assert (healthy.truth[phantom.truth == 2] == 1).all()
    assert np.array_equal(healthy.truth > 0, phantom.truth > 0)


def test_truth_and_anatomy_say_the_same(phantom):
    assert np.array_equal(phantom.truth == 2, phantom.anatomy == Anatomy.TUMOUR)
    assert (phantom.truth[phantom.anatomy == Anatomy.LIVER_VESSEL] == 1).all()


def test_asking_for_no_tumours_gives_none():
    assert not (make_abdomen(7, **COARSE, tumour_radii_mm=()).truth == 2).any()


def test_tumour_has_about_the_volume_of_its_radius():
    phantom = make_abdomen(7, shape=(90, 130, 130), spacing_mm=(2.0, 3.0, 3.0), tumour_radii_mm=(15.0,))
    assert 0.4 < np.sum(phantom.truth == 2) * 18 / (4 / 3 * np.pi * 15**3) < 1.6


def test_hounsfield_units_are_those_of_the_tissues(phantom):
    assert phantom.hu.dtype == np.int16
    assert phantom.hu.min() >= -1024
    assert phantom.hu.max() <= 3071
    assert -140 < np.median(phantom.hu[phantom.anatomy == Anatomy.FAT]) < -60
    assert -950 < np.median(phantom.hu[phantom.anatomy == Anatomy.LUNG]) < -700
    assert -20 < np.median(phantom.hu[phantom.anatomy == Anatomy.LIVER]) < 160


def test_same_seed_gives_the_same_bytes(phantom):
    again = make_abdomen(7, **COARSE, tumour_radii_mm=(18.0, 12.0))
    assert again.hu.tobytes() == phantom.hu.tobytes()
    assert again.anatomy.tobytes() == phantom.anatomy.tobytes()


def test_another_seed_gives_another_patient(phantom):
    other = make_abdomen(8, **COARSE)
    assert dice(other.truth > 0, phantom.truth > 0) < 0.95


def test_same_seed_shows_the_same_anatomy_on_a_grid_twice_as_fine(phantom):
    # With twice the voxels less one, every second fine voxel lies exactly on a coarse one.
    fine = make_abdomen(7, shape=(95, 159, 159), spacing_mm=(2.0, 2.5, 2.5), tumour_radii_mm=(18.0, 12.0))
    assert fine.first_mm == phantom.first_mm
    every_second = fine.truth[::2, ::2, ::2]
    assert dice(every_second > 0, phantom.truth > 0) > 0.98
    assert dice(every_second == 2, phantom.truth == 2) > 0.9


def test_view_centred_above_the_liver_shows_none():
    chest = make_abdomen(7, shape=(10, 40, 40), spacing_mm=(4.0, 8.0, 8.0), centre_mm=(200.0, 0.0, 0.0))
    assert not chest.truth.any()
    assert (chest.anatomy == Anatomy.LUNG).any()


def test_demo_has_three_tumours_that_are_darker_than_the_liver():
    demo = make_demo()
    tumours, count = label(demo.truth == 2)
    liver = np.median(demo.hu[demo.anatomy == Anatomy.LIVER])
    assert demo.hu.shape == (84, 512, 512)
    assert demo.seed == DEMO_SEED
    assert count == 3
    assert all(liver - demo.hu[tumours == k].mean() > 20 for k in (1, 2, 3))
