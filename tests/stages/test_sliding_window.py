import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import InferenceError, SettingsError
from stages.arrays import array_namespace, to_host
from stages.sliding_window import constant_weights, gaussian_weights, predict_in_windows, window_starts


def predict(image, predictor, window=(4, 4, 4), *, overlap=0.5, classes=1, weights=gaussian_weights, **more):
    return predict_in_windows(
        image,
        predictor,
        window_shape=window,
        overlap=overlap,
        classes=classes,
        weights=weights(window),
        **more,
    )


def random_image(*shape):
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "window", "overlap", "starts"),
    [
        (10, 4, 0.5, [0, 2, 4, 6]),
        (10, 4, 0.0, [0, 3, 6]),
        (8, 4, 0.0, [0, 4]),
        (4, 4, 0.9, [0]),
        (5, 4, 0.5, [0, 1]),
        (5, 2, 0.9, [0, 1, 2, 3]),
    ],
)
def test_windows_begin_at(size, window, overlap, starts):
    assert window_starts(size, window, overlap) == starts


@given(window=st.integers(1, 60), extra=st.integers(0, 200), overlap=st.floats(0, 0.95))
def test_windows_cover_the_axis_and_overlap_at_least_as_much_as_asked(window, extra, overlap):
    starts = window_starts(window + extra, window, overlap)
    assert (starts[0], starts[-1]) == (0, extra)
    steps = np.diff(starts)
    assert (steps >= 1).all()
    assert (steps <= max(1, window * (1 - overlap))).all()


@pytest.mark.parametrize("overlap", [-0.1, 1.0, 2.0])
def test_overlap_outside_its_range_is_refused(overlap):
    with pytest.raises(SettingsError, match="between 0 and 1"):
        window_starts(10, 4, overlap)


def test_gaussian_weights_are_1_in_the_middle_and_never_0():
    weights = gaussian_weights((1, 3, 3))
    # neighbours: exp(-0.5 * (1 / (3 * 0.125))**2) = 0.028566; corners: its square, raised to 0.001
    neighbour = 0.028566
    expected = [[0.001, neighbour, 0.001], [neighbour, 1, neighbour], [0.001, neighbour, 0.001]]
    assert weights[0] == pytest.approx(np.array(expected), rel=1e-4)
    assert weights.dtype == np.float32


@pytest.mark.parametrize("weights", [gaussian_weights, constant_weights])
@pytest.mark.parametrize("shape", [(4, 4, 4), (9, 11, 6), (2, 9, 3), (1, 1, 1)])
def test_identity_model_gives_the_image_back(put, weights, shape):
    image = random_image(*shape)
    scores = predict(put(image), lambda windows: windows, weights=weights)
    assert scores.shape == (1, *shape)
    assert np.abs(to_host(scores)[0] - image).max() < 1e-5


def test_classes_come_back_in_their_order(put):
    image = random_image(6, 5, 7)

    def plus_and_minus(windows):
        return array_namespace(windows).concatenate([windows, -windows, 2 * windows], axis=1)

    scores = to_host(predict(put(image), plus_and_minus, classes=3))
    assert scores == pytest.approx(np.stack([image, -image, 2 * image]), abs=1e-5)


def test_overlapping_answers_are_averaged_by_their_weights():
    answers = iter([1.0, 3.0])

    def constant(windows):
        return np.full_like(windows, next(answers))

    # windows 0..1 and 1..2: voxel 1 lies in both
    scores = predict(np.zeros((3, 1, 1), np.float32), constant, (2, 1, 1), weights=constant_weights)
    assert scores.ravel().tolist() == [1, 2, 3]


def test_model_sees_windows_of_its_shape_one_channel_float32():
    seen = []
    predict(random_image(6, 5, 4), lambda windows: seen.append((windows.shape, windows.dtype)) or windows)
    assert set(seen) == {((1, 1, 4, 4, 4), np.dtype(np.float32))}
    assert len(seen) == 2 * 2 * 1


def test_small_image_is_padded_evenly_with_the_value_asked_for():
    seen = []
    image = random_image(2, 4, 1)
    predict(image, lambda windows: seen.append(windows[0, 0]) or windows, padding=-5.0)
    (window,) = seen
    # 2 slices: one of padding on each side; 1 column: one before, two after
    assert np.array_equal(window[1:3, :, 1:2], image)
    assert (window == -5).sum() == 64 - 8


def test_answer_of_another_shape_is_refused_and_both_shapes_told():
    with pytest.raises(InferenceError, match=r"answered \(1, 1, 4, 4, 4\), expected \(1, 2, 4, 4, 4\)"):
        predict(random_image(5, 5, 5), lambda windows: windows, classes=2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answer_that_is_no_number_is_refused(value):
    def broken(windows):
        scores = windows.copy()
        scores[0, 0, 1, 2, 3] = value
        return scores

    with pytest.raises(InferenceError, match="not finite"):
        predict(random_image(5, 5, 5), broken)
