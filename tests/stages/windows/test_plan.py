import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import InferenceError, SettingsError
from stages.windows.plan import (
    WindowPlan,
    constant_weights,
    from_layout,
    gaussian_weights,
    to_layout,
    window_starts,
)


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


def test_stepped_windows_keep_their_step_and_the_last_is_pushed_back():
    assert window_starts(10, 4, 0.0, placement="stepped") == [0, 4, 6]
    assert window_starts(11, 4, 0.25, placement="stepped") == [0, 3, 6, 7]


@given(
    window=st.integers(1, 60),
    extra=st.integers(0, 200),
    overlap=st.floats(0, 0.95),
    placement=st.sampled_from(["even", "stepped"]),
)
def test_windows_cover_the_axis_and_overlap_at_least_as_much_as_asked(window, extra, overlap, placement):
    starts = window_starts(window + extra, window, overlap, placement=placement)
    assert (starts[0], starts[-1]) == (0, extra)
    steps = np.diff(starts)
    assert (steps >= 1).all()
    assert (steps <= max(1, window * (1 - overlap))).all()


@pytest.mark.parametrize("overlap", [-0.1, 1.0, 2.0])
def test_overlap_outside_its_range_is_refused(overlap):
    with pytest.raises(SettingsError, match="between 0 and 1"):
        window_starts(10, 4, overlap)
    with pytest.raises(SettingsError, match="between 0 and 1"):
        WindowPlan(shape=(4, 4, 4), classes=1, overlap=overlap)


def test_gaussian_weights_are_1_in_the_middle_and_never_0():
    weights = gaussian_weights((1, 3, 3))
    # neighbours: exp(-0.5 * (1 / (3 * 0.125))**2) = 0.028566; corners: its square, raised to 0.001
    neighbour = 0.028566
    expected = [[0.001, neighbour, 0.001], [neighbour, 1, neighbour], [0.001, neighbour, 0.001]]
    assert weights[0] == pytest.approx(np.array(expected), rel=1e-4)
    assert weights.dtype == np.float32


def test_constant_weights_are_1():
    assert constant_weights((2, 1, 3)).tolist() == [[[1, 1, 1]], [[1, 1, 1]]]


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ("bczyx", (2, 1, 3, 4, 5)),
        ("bzyxc", (2, 3, 4, 5, 1)),
        ("bxyz", (2, 5, 4, 3)),
    ],
)
def test_layout_names_the_order_of_the_axes_and_leads_back(layout, shape):
    windows = np.arange(120).reshape(2, 1, 3, 4, 5)
    asked = to_layout(windows, layout)
    assert asked.shape == shape
    assert np.array_equal(from_layout(asked, layout), windows)


def test_layout_without_batch_and_slices_is_one_plain_picture():
    windows = np.arange(20).reshape(1, 1, 1, 4, 5)
    assert np.array_equal(to_layout(windows, "yx"), windows[0, 0, 0])
    assert np.array_equal(from_layout(windows[0, 0, 0], "yx"), windows)


def test_answer_of_other_axes_is_refused():
    with pytest.raises(InferenceError, match=r"answered \(2, 3\), expected the axes 'bczyx'"):
        from_layout(np.zeros((2, 3)), "bczyx")


@pytest.mark.parametrize("layout", ["bczy", "bczyxx", "bqzyx", "x"])
def test_layout_of_other_axes_is_refused(layout):
    with pytest.raises(SettingsError, match="axes of a tensor"):
        WindowPlan(shape=(4, 4, 4), classes=1, input_layout=layout)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"in_flight": 0}, {"classes": 0}, {"shape": (4, 0, 4)}])
def test_plan_of_nothing_is_refused(wrong):
    with pytest.raises(SettingsError, match="counts from 1"):
        WindowPlan(**{"shape": (4, 4, 4), "classes": 1, **wrong})


def test_batches_for_a_tensor_without_a_batch_axis_are_refused():
    with pytest.raises(SettingsError, match="batches of 2"):
        WindowPlan(shape=(4, 4, 4), classes=1, batch=2, input_layout="czyx")
