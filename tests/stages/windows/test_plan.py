import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import InferenceError, SettingsError
from stages.windows.plan import (
    GaussianShape,
    WindowPlan,
    constant_weights,
    from_layout,
    gaussian_weights,
    to_layout,
    window_starts,
)
from tests.stages.segmentation import framework_formulas as formulas


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
    placement=st.sampled_from(["even", "spread", "stepped"]),
)
def test_windows_cover_the_axis_and_overlap_at_least_as_much_as_asked(window, extra, overlap, placement):
    starts = window_starts(window + extra, window, overlap, placement=placement)
    assert (starts[0], starts[-1]) == (0, extra)
    steps = np.diff(starts)
    assert (steps >= 1).all()
    rounding = 1 if placement == "spread" else 0  # a step of 2.5 voxels is one of 2 or of 3
    assert (steps <= max(1, window * (1 - overlap)) + rounding).all()


@pytest.mark.parametrize(
    ("size", "window", "overlap"),
    [(200, 85, 0.5), (200, 128, 0.2), (333, 128, 0.2), (128, 128, 0.5), (59, 20, 0.5), (41, 7, 0.5)],
)
def test_windows_are_spread_as_nnunet_spreads_them(size, window, overlap):
    starts = window_starts(size, window, overlap, placement="spread")
    assert starts == formulas.nnunet_starts(size, window, 1 - overlap)


def test_a_step_that_is_not_rounded_may_need_fewer_windows():
    # 3 steps of 42.5 are 127.5 voxels, but of 42 only 126
    assert len(window_starts(85 + 127, 85, 0.5)) == 5
    assert window_starts(85 + 127, 85, 0.5, placement="spread") == [0, 42, 85, 127]


def test_slices_of_one_are_each_asked_about_once():
    assert window_starts(5, 1, 0.5, placement="spread") == [0, 1, 2, 3, 4]


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


NNUNET = GaussianShape(floor=0, peak="upper", precision="f16")


@pytest.mark.parametrize("window", [(16, 32, 24), (28, 85, 7), (1, 40, 40)])
def test_gaussian_weights_are_those_of_nnunet(window):
    ours, theirs = gaussian_weights(window, NNUNET), formulas.nnunet_gaussian(window)
    assert ours.max() == 10
    assert ours == pytest.approx(theirs, rel=2e-3, abs=2e-7)  # one step of half precision
    assert np.unravel_index(ours.argmax(), window) == tuple(size // 2 for size in window)


def test_gaussian_weights_fall_to_their_floor_and_no_lower():
    outer, inner = np.exp(-0.5 * 1.5**2), np.exp(-0.5 * 0.5**2)  # 1.5 and 0.5 deviations of a voxel
    free, held = (gaussian_weights((4,), GaussianShape(sigma=0.25, floor=floor)) for floor in (0.1, 0.5))
    assert free == pytest.approx([outer, inner, inner, outer])
    assert held == pytest.approx([0.5, inner, inner, 0.5])
    assert gaussian_weights((64, 64, 64), NNUNET).min() > 0


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
