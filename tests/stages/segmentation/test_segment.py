import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ai_livertumor
from ai_livertumor import segment
from stages import InferenceError, InputError
from stages.arrays import array_namespace, to_host
from stages.model.tensors import ModelTensors
from stages.segmentation.preprocess import preprocess
from stages.segmentation.segment import window_plan
from stages.volume.geometry import reorient
from stages.windows.plan import GaussianShape, WindowPlan

BODY, LIVER, TUMOUR = -60, 80, 180  # HU of the phantom, 0.1, 0.45 and 0.7 on the model's scale


def nearest_intensity(windows):
    """Score each class by how near the intensity is to its own."""
    xp = array_namespace(windows)
    return xp.concatenate([-((windows - centre) ** 2) for centre in (0.1, 0.45, 0.7)], axis=1)


def phantom(shape=(20, 44, 44), spacing=(2.0, 1.0, 1.0)):
    """Return HU and labels: a liver ball of 15 mm radius with a tumour ball of 7 mm."""
    places = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    z, y, x = np.meshgrid(*places, indexing="ij")
    labels = np.zeros(shape, np.uint8)
    labels[z**2 + y**2 + x**2 < 15**2] = 1
    labels[z**2 + (y - 4) ** 2 + (x + 4) ** 2 < 7**2] = 2
    return np.array([BODY, LIVER, TUMOUR], np.int16)[labels], labels


def dice(ours, truth, label):
    return 2 * ((ours == label) & (truth == label)).sum() / ((ours == label).sum() + (truth == label).sum())


@pytest.mark.parametrize("spacing_mm", [[2.0, 1.0, 1.0], [1.5, 1.2, 1.2]])
@pytest.mark.parametrize("orientation", ["SPL", "RIP"])
def test_phantom_is_segmented_on_its_own_grid(put, place, describe, spacing_mm, orientation):
    hu, labels = phantom()
    volume = place(hu, orientation)
    volume = volume.with_array(put(volume.array))
    mask = segment(volume, nearest_intensity, model=describe(spacing_mm=spacing_mm))
    assert mask.array.dtype == np.uint8
    assert mask.grid.matches(volume.grid)
    assert mask.origin is volume.origin
    found = to_host(reorient(mask.array, mask.affine, "SPL")[0])
    assert dice(found, labels, 1) > 0.97
    assert dice(found, labels, 2) > 0.97


@pytest.mark.parametrize("orientation", ["IAR", "LPS", "RIP", "AIL", "PSR"])
def test_mask_does_not_depend_on_the_orientation_of_the_array(place, describe, orientation):
    hu, _ = phantom()
    noise = np.random.default_rng(11).integers(-90, 90, hu.shape)
    hu = (hu + noise).astype(np.int16)
    model = describe(spacing_mm=[1.7, 1.3, 1.3], largest_component=[], inside={})
    axial = segment(place(hu), nearest_intensity, model=model)
    turned = segment(place(hu, orientation), nearest_intensity, model=model)
    back, affine = reorient(turned.array, turned.affine, "SPL")
    assert affine == pytest.approx(axial.affine)
    assert len(np.unique(axial.array)) == 3
    assert np.array_equal(back, axial.array)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, ">i2"])
def test_volume_of_a_type_that_no_ct_has_is_refused(place, describe, dtype):
    volume = place(np.zeros((4, 5, 6), dtype))
    with pytest.raises(InputError, match=r"int16 or float32, those of this volume .*; is it a mask"):
        segment(volume, nearest_intensity, model=describe())


def test_windows_are_asked_about_in_batches_with_the_same_result(place, describe):
    hu, _ = phantom()
    model = describe(spacing_mm="native", window_shape=[8, 16, 16], overlap=0.5)
    tensors = ModelTensors(
        model="m",
        input_layout="bczyx",
        output_layout="bczyx",
        input_type="FP32",
        output_type="FP32",
        fixed=(8, 16, 16),
        largest_batch=4,
    )
    asked = []

    def predictor(windows):
        asked.append(windows.shape[0])
        return nearest_intensity(windows)

    mask = segment(place(hu), predictor, model=model, tensors=tensors)
    # 4 x 5 x 5 windows
    assert asked == [4] * 25
    assert np.array_equal(mask.array, segment(place(hu), nearest_intensity, model=model).array)


def test_volume_smaller_than_a_window_is_segmented(place, describe):
    hu, labels = phantom()
    hu, labels = hu[8:12, 15:29, 15:29], labels[8:12, 15:29, 15:29]
    mask = segment(place(hu), nearest_intensity, model=describe(largest_component=[], inside={}))
    assert np.array_equal(mask.array, labels)


def test_volume_in_which_nothing_is_found_has_an_empty_mask(place, describe):
    mask = segment(place(np.full((9, 17, 20), -60, np.int16)), nearest_intensity, model=describe())
    assert mask.array.shape == (9, 17, 20)
    assert not mask.array.any()


def test_failure_of_the_predictor_reaches_the_caller(place, describe):
    def broken(windows):
        raise InferenceError("model 'liver' at nowhere: UNAVAILABLE")

    with pytest.raises(InferenceError, match="UNAVAILABLE"):
        segment(place(phantom()[0]), broken, model=describe())


def test_stage_without_a_server_ends_with_a_usage_error_before_it_reads_anything(tmp_path):
    environ = {key: value for key, value in os.environ.items() if not key.startswith("NVIDIA_CLARA_")}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ai_livertumor",
            "--input",
            tmp_path / "nowhere",
            "--output",
            tmp_path / "out",
        ],
        capture_output=True,
        text=True,
        env=environ,
        cwd=Path(ai_livertumor.__file__).parents[1],
        check=False,
    )
    assert done.returncode == 2
    assert "no inference server: name one with --server HOST:PORT" in done.stderr


def test_windows_are_those_that_the_model_describes(place, describe):
    model = describe(
        blending="gaussian",
        overlap=0.2,
        window_placement="spread",
        gaussian_sigma=0.2,
        gaussian_floor=0.01,
        gaussian_peak="upper",
        gaussian_precision="f16",
        padding_mode="reflect",
        padding_value_hu=None,
        mirror_axes=[1],
        activation="softmax",
        activation_after="blending",
        slice_stack=3,
        window_shape=[1, 8, 8],
        ensemble=["b", "c"],
    )
    plan = window_plan(preprocess(place(np.zeros((4, 9, 9), np.int16)), model), model)
    assert plan == WindowPlan(
        shape=(1, 8, 8),
        classes=3,
        overlap=0.2,
        placement="spread",
        gaussian=GaussianShape(sigma=0.2, floor=0.01, peak="upper", precision="f16"),
        padding_mode="reflect",
        mirror_axes=(1,),
        activation="softmax",
        activation_after="blending",
        slice_stack=3,
        models=3,
    )


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_what_is_activated_last_is_not_activated_before(place, describe, activation):
    model = describe(activation=activation, activation_after="resampling")
    plan = window_plan(preprocess(place(np.zeros((4, 9, 9), np.int16)), model), model)
    assert (plan.activation, plan.window_activation) == ("none", "none")
