import threading
import weakref
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import InferenceError, SettingsError
from stages.arrays import array_namespace, to_host
from stages.windows.activation import activate
from stages.windows.plan import WindowPlan
from stages.windows.sliding import predict_in_windows, score_slabs
from stages.windows.source import LazyImage


def predict(image, predictor, shape=(4, 4, 4), *, classes=1, **plan):
    return predict_in_windows(image, predictor, windows=WindowPlan(shape=shape, classes=classes, **plan))


def random_image(*shape):
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("blending", ["gaussian", "constant"])
@pytest.mark.parametrize("shape", [(4, 4, 4), (9, 11, 6), (2, 9, 3), (1, 1, 1)])
def test_identity_model_gives_the_image_back(put, blending, shape):
    image = random_image(*shape)
    scores = predict(put(image), lambda windows: windows, blending=blending)
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
    scores = predict(np.zeros((3, 1, 1), np.float32), constant, (2, 1, 1), blending="constant")
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


@pytest.mark.parametrize(("mode", "numpys"), [("replicate", "edge"), ("reflect", "reflect")])
def test_small_image_may_go_on_beyond_its_edges(mode, numpys):
    image, seen = random_image(4, 2, 9), []
    plan = WindowPlan(shape=(7, 6, 4), classes=1, padding_mode=mode)
    predict_in_windows(image, lambda given: seen.append(given[0, 0].copy()) or given, windows=plan)
    padded = np.pad(image, [(1, 2), (2, 2), (0, 0)], mode=numpys)
    assert np.array_equal(seen[0], padded[:, :, :4])
    assert np.array_equal(seen[-1], padded[:, :, -4:])


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_outputs_may_be_blended_before_they_are_activated(activation):
    def uneven(windows):
        ramp = np.linspace(-2, 2, windows.shape[-1], dtype=np.float32)
        return np.concatenate([windows * ramp, windows + ramp], axis=1)

    image, plan = random_image(13, 9, 11), {"classes": 2, "overlap": 0.6}
    logits = predict(image, uneven, **plan)
    expected = activate(logits[None], activation, 2)[0]
    late = {**plan, "activation": activation, "activation_after": "blending"}
    assert predict(image, uneven, **late) == pytest.approx(expected, abs=1e-6)
    assert np.abs(predict(image, uneven, **plan, activation=activation) - expected).max() > 0.01
    plan = WindowPlan(shape=(4, 4, 4), **late)
    for slab in score_slabs(image, uneven, windows=plan, shared_slice=True):  # the shared one only once
        part = expected[:, slab.start : slab.start + slab.scores.shape[1]]
        assert slab.scores == pytest.approx(part, abs=1e-6)


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


# Several requests at a time


class Answering:
    """A predictor that answers `submit` when told to, in any order."""

    def __init__(self, predictor, order=None):
        self.predictor = predictor
        self.open = deque()
        self.most_open = 0

    def submit(self, windows):
        future = Future()
        self.open.append((future, windows.copy()))
        self.most_open = max(self.most_open, len(self.open))
        return Waiting(self, future)


class Waiting:
    """Answers all that is open, the newest first, when one is waited for."""

    def __init__(self, owner, future):
        self.owner = owner
        self.future = future
        self.cancelled = False

    def result(self):
        while self.owner.open:
            future, windows = self.owner.open.pop()
            future.set_result(self.owner.predictor(windows))
        return self.future.result(0)

    def cancel(self):
        self.cancelled = True


def test_order_of_arrival_does_not_change_a_single_bit():
    image = random_image(13, 9, 11)
    at_once = predict(image, np.tanh)
    late = Answering(np.tanh)
    assert np.array_equal(predict(image, late, in_flight=5), at_once)
    assert late.most_open == 5
    with ThreadPoolExecutor(4) as pool:

        class Threads:
            def submit(self, windows):
                return pool.submit(np.tanh, windows)

        assert np.array_equal(predict(image, Threads(), in_flight=4), at_once)


@pytest.mark.parametrize("batch", [2, 3, 64])
def test_windows_go_in_batches_the_last_with_what_is_left(batch):
    image = random_image(8, 8, 5)  # 3 x 3 x 2 windows
    seen = []
    scores = predict(image, lambda windows: seen.append(len(windows)) or windows, batch=batch)
    assert seen == [batch] * (18 // batch) + ([18 % batch] if 18 % batch else [])
    assert np.array_equal(scores, predict(image, lambda windows: windows))


def test_what_is_open_is_cancelled_when_an_answer_fails():
    given = []

    class Failing:
        def submit(self, windows):
            future = Future()
            given.append(future)
            if len(given) == 1:
                future.set_exception(InferenceError("broken"))
            return future

    with pytest.raises(InferenceError, match="broken"):
        predict(random_image(9, 9, 9), Failing(), in_flight=3)
    assert [future.cancelled() for future in given] == [False, True, True]


def test_what_is_open_is_cancelled_when_the_caller_stops():
    asked = []

    class Recording(Answering):
        def submit(self, windows):
            asked.append(super().submit(windows))
            return asked[-1]

    slabs = score_slabs(
        random_image(30, 4, 4),
        Recording(np.tanh),
        windows=WindowPlan(shape=(4, 4, 4), classes=1, in_flight=3),
    )
    next(slabs)
    slabs.close()
    # slices 0 and 1 are done when the second window is blended, and the third was asked for before
    assert [each.cancelled for each in asked] == [False, False, True, True]


def test_memory_of_an_answer_is_given_back_after_it_was_blended():
    released = []

    class Lending:
        def submit(self, windows):
            future = Future()
            future.set_result(windows)
            future.release = lambda: released.append(threading.get_ident())
            return future

    predict(random_image(8, 4, 4), Lending())
    assert len(released) == 3


# Slabs


@pytest.mark.parametrize("shape", [(21, 6, 7), (4, 4, 4), (2, 3, 9), (5, 4, 4)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.74])
def test_slabs_follow_each_other_and_hold_the_same_scores(put, shape, overlap):
    image = put(random_image(*shape))
    plan = WindowPlan(shape=(4, 4, 4), classes=1, overlap=overlap)
    slabs = [(slab.start, to_host(slab.scores).copy()) for slab in score_slabs(image, abs, windows=plan)]
    assert [start for start, _ in slabs] == [0, *np.cumsum([s.shape[1] for _, s in slabs])[:-1]]
    whole = np.concatenate([scores for _, scores in slabs], axis=1)
    assert np.array_equal(whole, to_host(predict_in_windows(image, abs, windows=plan)))
    assert max(scores.shape[1] for _, scores in slabs) <= 4


def test_slab_comes_as_soon_as_no_window_can_change_it():
    asked = []
    plan = WindowPlan(shape=(4, 4, 4), classes=1, in_flight=1)
    slabs = score_slabs(random_image(8, 4, 4), lambda w: asked.append(1) or w, windows=plan)
    assert [(slab.start, slab.scores.shape[1], len(asked)) for slab in slabs] == [
        (0, 2, 2),  # windows begin at 0, 2, 4: the second tells that the first two slices are done
        (2, 2, 3),
        (4, 4, 3),
    ]


@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    window=st.tuples(*[st.integers(1, 5)] * 3),
    overlap=st.sampled_from([0, 0.25, 0.5, 0.8]),
    batch=st.integers(1, 4),
)
def test_lazy_image_is_asked_once_for_each_slice_and_gives_the_same(shape, window, overlap, batch):
    image = random_image(*shape)
    made = []

    def make(start, stop):
        made.extend(range(start, stop))
        return image[start:stop].copy()

    plan = WindowPlan(shape=window, classes=1, overlap=overlap, batch=batch)
    lazy = predict_in_windows(LazyImage(shape, make), np.tanh, windows=plan)
    assert np.array_equal(lazy, predict_in_windows(image, np.tanh, windows=plan))
    assert made == list(range(shape[0]))


# What a model may want otherwise


def test_mirrored_windows_are_turned_back_and_averaged():
    seen = []

    def first_column_only(windows):
        """Answer 1 where the window's first column is, wherever that lies in the image."""
        seen.append(windows.copy())
        scores = np.zeros_like(windows)
        scores[..., 0] = 1
        return scores

    image = random_image(4, 4, 4)
    scores = predict(image, first_column_only, mirror_axes=(2,))
    assert np.array_equal(seen[0][0, 0], image)
    assert np.array_equal(seen[1][0, 0], image[:, :, ::-1])
    assert scores[0, 1, 2].tolist() == [0.5, 0, 0, 0.5]


def test_answer_mirrored_along_slices_is_added_where_the_ring_is_split_after_one_slice():
    image = random_image(9, 4, 3)  # windows of 4 slices begin at 0, 2, 3 and 5: 3 is the last slice of a ring
    scores = predict(image, np.copy, (4, 4, 3), mirror_axes=(0,))
    assert scores[0] == pytest.approx(image, abs=1e-6)


def test_each_combination_of_mirrored_axes_is_asked_once():
    seen = set()
    image = random_image(3, 3, 3)
    predict(image, lambda w: seen.add(w.tobytes()) or w, (3, 3, 3), mirror_axes=(0, 1, 2))
    flips = [image[::a, ::b, ::c].tobytes() for a in (1, -1) for b in (1, -1) for c in (1, -1)]
    assert seen == set(flips)


def test_channels_last_and_rows_before_columns_reversed():
    """A model whose input is (batch, columns, rows, slices, channels)."""
    image = random_image(4, 5, 6)
    seen = []
    scores = predict(
        image,
        lambda windows: seen.append(windows.shape) or windows * [1, 2],
        (4, 5, 6),
        classes=2,
        input_layout="bxyzc",
        output_layout="bxyzc",
    )
    assert seen == [(1, 6, 5, 4, 1)]
    assert scores == pytest.approx(np.stack([image, 2 * image]), abs=1e-6)


def test_2d_model_is_asked_slice_by_slice_in_batches_across_slices():
    image = random_image(5, 4, 4)
    seen = []
    scores = predict(
        image,
        lambda windows: seen.append(windows.shape) or windows,
        (1, 4, 4),
        batch=2,
        input_layout="bcyx",
        output_layout="bcyx",
    )
    assert seen == [(2, 1, 4, 4)] * 2 + [(1, 1, 4, 4)]
    assert scores[0] == pytest.approx(image, abs=1e-6)


STACK = {"shape": (1, 3, 4), "slice_stack": 3, "input_layout": "bcyx", "output_layout": "bcyx"}


@pytest.mark.parametrize("mode", ["constant", "replicate", "reflect"])
@pytest.mark.parametrize("lazy", [False, True])
def test_neighbouring_slices_are_the_channels_of_a_window(mode, lazy):
    def above_and_below(windows):
        assert windows.shape[1:] == (3, 3, 4)
        return windows[:, [0, 2]]

    image = random_image(6, 7, 5)
    given = LazyImage(image.shape, lambda start, stop: image[start:stop].copy()) if lazy else image
    plan = WindowPlan(**STACK, classes=2, batch=4, padding=-7, padding_mode=mode, mirror_axes=(1, 2))
    scores = predict_in_windows(given, above_and_below, windows=plan)
    outside = {"constant": (np.full((7, 5), -7), np.full((7, 5), -7)), "replicate": (image[0], image[-1])}
    first, last = outside.get(mode, (image[1], image[-2]))
    assert scores[0] == pytest.approx(np.stack([first, *image[:-1]]), abs=1e-5)
    assert scores[1] == pytest.approx(np.stack([*image[1:], last]), abs=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"slice_stack": 2}, {"shape": (2, 3, 4)}, {"mirror_axes": (0,)}, {"input_layout": "byx"}]
)
def test_a_stack_of_other_windows_is_refused(wrong):
    with pytest.raises(SettingsError, match="a stack is an odd number of slices"):
        WindowPlan(**{**STACK, "classes": 1, **wrong})


def test_labels_become_scores_of_1():
    image = np.zeros((4, 4, 4), np.float32)
    image[1, 2, 3] = 2
    scores = predict(image, lambda w: w.astype(np.uint8), classes=3, activation="labels")
    assert scores[:, 1, 2, 3].tolist() == [0, 0, 1]
    assert scores[:, 0, 0, 0].tolist() == [1, 0, 0]


def test_an_answer_is_gone_before_the_next_is_there():
    given = []

    def predictor(windows):
        assert not given or given[-1]() is None
        answer = windows + 1
        given.append(weakref.ref(answer))
        return answer

    predict(random_image(9, 4, 4), predictor, (2, 4, 4), in_flight=1)
    assert len(given) > 3


def test_half_precision_answers_are_blended_in_single_precision():
    image = random_image(6, 4, 4)
    scores = predict(image.astype(np.float16), lambda windows: windows)
    assert scores.dtype == np.float32
    assert np.abs(scores[0] - image).max() < 2e-3


# Against MONAI


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize("overlap", [0.25, 0.5, 0.625])
@pytest.mark.parametrize(("shape", "window"), [((30, 41, 27), (16, 12, 20)), ((9, 40, 20), (16, 16, 16))])
def test_scores_are_those_of_monai(mode, overlap, shape, window):
    inferers = pytest.importorskip("monai.inferers", reason="MONAI, the oracle, is not installed")
    torch = pytest.importorskip("torch", reason="torch, which MONAI needs, is not installed")
    image = random_image(*shape)

    def uneven(windows):
        """Answer by value and by place in the window, so that every weight counts."""
        ramp = np.linspace(-1, 1, windows.shape[-1], dtype=np.float32)
        return np.concatenate([windows * ramp, windows**2 + ramp], axis=1)

    def for_torch(windows):
        return torch.from_numpy(uneven(windows.numpy()))

    ours = predict(
        image,
        uneven,
        window,
        classes=2,
        overlap=overlap,
        blending=mode,
        placement="stepped",
        padding=0.25,
        batch=3,
        in_flight=2,
    )
    theirs = inferers.sliding_window_inference(
        torch.from_numpy(image)[None, None], window, 3, for_torch, overlap=overlap, mode=mode, cval=0.25
    )
    assert np.abs(ours - theirs[0].numpy()).max() < 1e-4
