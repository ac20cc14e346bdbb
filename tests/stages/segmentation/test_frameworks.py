"""A description says what nnU-Net, MONAI or TotalSegmentator do, and the same comes of it."""

import numpy as np
import pytest
from scipy import ndimage, special

from stages.arrays import to_host
from stages.segmentation.preprocess import preprocess
from stages.segmentation.segment import segment
from stages.volume.geometry import reorient
from tests.stages.segmentation import framework_formulas as formulas

NNUNET = {
    "orientation": "SPL",
    "crop": "nonzero",
    "grid_alignment": "stretched",
    "interpolation": "cubic",
    "anisotropy_threshold": 3,
    "intensity_before_resampling": True,
    "intensity_clip_hu": [-160, 240],
    "intensity_scale": None,
    "intensity_zscore": {"mean": 70.0, "std": 60.0},
    "padding_value_hu": None,
    "padding_value": 0,
    "window_placement": "spread",
    "gaussian_floor": 0,
    "gaussian_peak": "upper",
    "gaussian_precision": "f16",
    "activation": "softmax",
    "activation_after": "resampling",
    "largest_component": [],
    "inside": {},
}
MONAI = {
    "grid_alignment": "first_voxel",
    "intensity_clip_hu": [-100, 300],
    "window_placement": "stepped",
    "padding_value_hu": None,
    "padding_value": 0,
    "activation": "softmax",
    "activation_after": "blending",
    "largest_component": [],
    "inside": {},
}
TOTALSEGMENTATOR = {
    **NNUNET,
    "crop": "none",
    "grid_alignment": "corner_centres",
    "interpolation_edge": "mirror",
    "interpolation_overshoot": "keep",
    "truncate_hu": True,
    "anisotropy_threshold": None,
    "intensity_before_resampling": False,
    "score_interpolation": "nearest",
}


def hu(*shape):
    rng = np.random.default_rng(23)
    places = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(sum(place**2 for place in places))
    return (np.where(radius < 0.8, 180 - 200 * radius, -1000) + rng.integers(-90, 90, shape)).astype(np.int16)


def logits_of(windows):
    """Return three channels that depend on a voxel alone, so that windows do not matter."""
    return np.concatenate([0.3123 - windows, windows - 0.2017, 2 * windows - 0.7171], axis=1)


SPACINGS = {
    "isotropic": ((2.0, 0.9, 0.9), (1.5, 1.5, 1.5)),
    "thick slices": ((5.0, 0.8, 0.8), (5.0, 1.3, 1.3)),
    "thick slices of the model alone": ((2.0, 0.9, 0.9), (4.0, 1.1, 1.1)),
    "thick columns": ((1.1, 0.9, 4.0), (1.5, 1.5, 1.5)),
    "two thick axes": ((4.0, 0.9, 4.0), (2.0, 1.5, 1.5)),
}


@pytest.mark.parametrize("spacings", SPACINGS.values(), ids=SPACINGS)
@pytest.mark.parametrize("orientation", ["SPL", "RIP"])
def test_nnunets_input_is_ours(put, place, describe, spacings, orientation):
    old_mm, new_mm = spacings
    array = hu(18, 40, 37)
    array[:2] = array[:, :, -3:] = 0  # cropped
    expected = formulas.nnunet_input(array[2:, :, :-3], old_mm, new_mm, clip=(-160, 240), mean=70, std=60)
    volume = place(array, orientation, spacing=old_mm)
    volume = volume.with_array(put(volume.array))
    model = describe(**{**NNUNET, "spacing_mm": new_mm})
    for by_slabs in (False, True):
        image = preprocess(volume, model, by_slabs=by_slabs).image
        assert to_host(image[0 : image.shape[0]]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("spacings", SPACINGS.values(), ids=SPACINGS)
@pytest.mark.parametrize("regions", [None, [1, 2]])
def test_nnunets_labels_are_ours(put, place, describe, spacings, regions):
    old_mm, new_mm = spacings
    array = hu(18, 40, 37)
    volume = place(array, "AIL", spacing=old_mm)
    volume = volume.with_array(put(volume.array))
    own = {"activation": "sigmoid", "channel_labels": regions} if regions else {}
    model = describe(**{**NNUNET, **own, "spacing_mm": new_mm})
    first = 1 if regions else 0  # regions have no channel of background
    mask = segment(volume, lambda windows: logits_of(windows)[:, first:], model=model)
    image = formulas.nnunet_input(array, old_mm, new_mm, clip=(-160, 240), mean=70, std=60)
    logits = logits_of(image[None, None])[0, first:]
    expected = formulas.nnunet_labels(logits, array.shape, old_mm, new_mm, regions=regions)
    found = to_host(reorient(mask.array, mask.affine, "SPL")[0])
    assert (found != expected).mean() < 1e-4  # where two logits are equal but for the last bit
    assert len(np.unique(found)) == 3


@pytest.mark.parametrize("mask", ["volume", "nonzero", "nonzero_filled"])
def test_nnunets_own_statistics_are_ours(place, describe, mask):
    array = hu(12, 30, 28)
    array[:, :6] = array[6, 15, 15:18] = 0  # outside, and a hole
    filled = ndimage.binary_fill_holes(array != 0)
    assert filled[6, 15, 15:18].all()
    wanted = {"volume": array > -9999, "nonzero": array != 0, "nonzero_filled": filled}[mask]
    values = array[wanted].astype(float)
    normal = np.where(wanted, (array - values.mean()) / values.std(), 0)
    old_mm, new_mm = (2.0, 0.9, 0.9), (1.5, 1.5, 1.5)
    shape = formulas.nnunet_shape(array.shape, old_mm, new_mm)
    expected = formulas.nnunet_resample(normal, shape, old_mm, new_mm, 3)
    changes = {"spacing_mm": new_mm, "crop": "none", "intensity_clip_hu": None, "intensity_zscore": mask}
    image = preprocess(place(array, spacing=old_mm), describe(**{**NNUNET, **changes}), by_slabs=True).image
    assert image[0 : shape[0]] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("new_mm", [(1.5, 1.5, 1.5), (3.0, 0.7, 1.8)])
def test_monais_input_and_labels_are_ours(place, describe, new_mm, nearest):
    old_mm, array = (2.0, 0.9, 0.9), hu(18, 40, 37)
    shape = formulas.monai_shape(array.shape, old_mm, new_mm)
    scale = [new / old for new, old in zip(new_mm, old_mm, strict=True)]
    expected = (np.clip(formulas.monai_resample(array, shape, scale, 1), -100, 300) + 100) / 400
    how = {"spacing_mm": new_mm, "score_interpolation": "nearest" if nearest else "linear"}
    model = describe(**{**MONAI, **how})
    volume = place(array, "RIP", spacing=old_mm)
    assert preprocess(volume, model).image == pytest.approx(expected, abs=1e-5)
    scores = special.softmax(logits_of(expected[None, None])[0], axis=0)
    back = [1 / each for each in scale]
    if nearest:
        labels = formulas.monai_resample(scores.argmax(0), array.shape, back, 0)
    else:
        labels = np.stack([formulas.monai_resample(each, array.shape, back, 1) for each in scores]).argmax(0)
    found, _ = reorient((mask := segment(volume, logits_of, model=model)).array, mask.affine, "SPL")
    assert (found != labels).mean() < 1e-4
    assert len(np.unique(found)) == 3


def test_of_two_nearest_voxels_monai_has_the_even_one(place, describe):
    array = np.zeros((5, 4, 4), np.int16)
    array[2:] = 300
    model = describe(**{**MONAI, "spacing_mm": [4.0, 1.0, 1.0], "score_interpolation": "nearest"})
    # slices 1 and 3 lie halfway between two of the model: of 0.5 the nearest is 0, of 1.5 it is 2
    mask = segment(place(array), logits_of, model=model).array[:, 0, 0]
    labels = [int(logits_of(np.full((1, 1, 1, 1, 1), v))[0].argmax()) for v in (0.25, 1.0)]
    assert mask.tolist() == [labels[0], labels[0], labels[1], labels[1], labels[1]]


def test_totalsegmentators_input_and_labels_are_ours(place, describe):
    old_mm, new_mm, array = (2.5, 0.9, 0.9), (1.5, 1.5, 1.5), hu(18, 40, 37)
    model = describe(**{**TOTALSEGMENTATOR, "spacing_mm": new_mm})
    volume = place(array, "RIP", spacing=old_mm)
    expected = (np.clip(formulas.totalsegmentator_input(array, old_mm, new_mm), -160, 240) - 70) / 60
    image = preprocess(volume, model).image
    assert (np.abs(image - expected) > 1e-5).mean() < 1e-3  # whole numbers but for the last bit
    assert np.abs(image - expected).max() < 1.01 / 60
    labels = logits_of(image[None, None])[0].argmax(0)
    mask = segment(volume, logits_of, model=model)
    found = reorient(mask.array, mask.affine, "SPL")[0]
    assert np.array_equal(found, formulas.totalsegmentator_labels(labels, array.shape))
    assert len(np.unique(found)) == 3


def test_the_volumes_own_spacing_on_one_axis(place, describe):
    model = describe(**{**NNUNET, "spacing_mm": ["native", 1.5, 1.5]})
    image = preprocess(place(hu(18, 40, 37), spacing=(2.7, 0.9, 0.9)), model).image
    assert image.shape == (18, 24, 22)


@pytest.mark.parametrize("first", [False, True])
def test_percentiles_of_the_volume_are_the_bounds(put, place, describe, first):
    array = np.random.default_rng(3).integers(-1000, 2000, (7, 8, 9)).astype(np.int16)
    volume = place(array, "IAR").with_array(put(place(array, "IAR").array))
    own = {"spacing_mm": "native", "intensity_before_resampling": first, "intensity_clip_hu": None}
    image = to_host(preprocess(volume, describe(**own, intensity_clip_percentile=[1, 97])).image)
    low, high = np.percentile(array, [1, 97])
    assert image == pytest.approx((np.clip(array, low, high) - low) / (high - low), abs=1e-5)
    image = to_host(preprocess(volume, describe(**own, intensity_clip_percentile=[0, 100])).image)
    assert image == pytest.approx((array - array.min()) / np.ptp(array.astype(int)), abs=1e-5)


def test_a_volume_of_one_value_has_the_lower_intensity(place, describe):
    own = {"intensity_clip_hu": None, "intensity_clip_percentile": [0, 100]}
    image = preprocess(place(np.full((4, 5, 6), 40, np.int16)), describe(**own)).image
    assert np.unique(image).tolist() == [0]


def test_the_nearest_voxel_may_count_alone(put, place, describe):
    array = np.array([-100, 100, 300], np.int16).reshape(3, 1, 1)  # at 1, 3 and 5 mm of 6
    volume = place(array, "IAR").with_array(put(place(array, "IAR").array))
    model = describe(spacing_mm=[1.0, 1.0, 1.0], interpolation="nearest")
    image = to_host(preprocess(volume, model).image)
    assert image.ravel().tolist() == [0, 0, 0.5, 0.5, 1, 1]
    model = describe(spacing_mm=[1.5, 1.0, 1.0], interpolation="nearest", grid_alignment="first_voxel")
    image = to_host(
        preprocess(volume, model).image
    )  # 0.75 and 1.5 of the volume's slices on: 1, and 2 is even
    assert image.ravel().tolist() == [0, 0.5, 1, 1]
