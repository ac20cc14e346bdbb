"""Windows by the CUDA kernels, whose text is compiled for the host: the same as without a device."""

import numpy as np
import pytest

import stages.windows.device as device
from stages import InferenceError
from stages.windows.activation import activate
from stages.windows.plan import WindowPlan, from_layout, to_layout
from stages.windows.sliding import predict_in_windows
from stages.windows.source import LazyImage, layers
from tests.stages.cuda_host import HostKernels

NAMES = ("cut_float32", "cut_float16", *(f"add_{kind}" for kind in device._OUTPUTS))


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    return HostKernels(device.SOURCE, tmp_path_factory.mktemp("windows"), names=NAMES)


@pytest.fixture(params=["forward", "reversed", "random"])
def run(request, kernels):
    order = {"forward": None, "reversed": "reversed", "random": np.random.default_rng(1)}[request.param]

    def launch(name, threads, arguments):
        assert all(isinstance(each, (np.ndarray, np.generic)) for each in arguments)
        kernels.launch(name, (-(-threads // 32),), (32,), arguments, order=order)

    return launch


@pytest.fixture
def emulated(run, monkeypatch):
    """Let `predict_in_windows` do on NumPy arrays what it does on those of the device."""
    monkeypatch.setattr(
        "stages.windows.sliding._source", lambda image, plan: device.DeviceSource(image, plan, np, run=run)
    )
    monkeypatch.setattr(
        "stages.windows.sliding._blender",
        lambda source, plan, place, answer: device.DeviceBlender(source, plan, place, np, run=run),
    )
    return predict_in_windows


def random_image(*shape):
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def plan_of(**options):
    return WindowPlan(**{"shape": (4, 5, 3), "classes": 1, **options})


def cut_by(run, image, plan, dtype=np.float32):
    """Return all windows of an image as the device writes them into a tensor."""
    source = device.DeviceSource(image, plan, np, run=run)
    batch = list(source.in_order())
    out = np.full(plan.input_shape(len(batch)), 77, dtype)
    source.write(batch, from_layout(out, plan.input_layout))
    return out


def cut_on_host(image, plan):
    asked = []
    predict_in_windows(
        image, lambda windows: asked.append(windows.copy()) or np.zeros_like(windows), windows=plan
    )
    return np.concatenate(asked)


@pytest.mark.parametrize("shape", [(9, 11, 7), (2, 9, 1), (4, 5, 3), (17, 3, 8)])
@pytest.mark.parametrize("lazy", [False, True])
def test_device_cuts_the_windows_that_the_host_cuts(run, shape, lazy):
    image, plan = random_image(*shape), plan_of(padding=-5.0, mirror_axes=(0, 2))
    given = LazyImage(shape, lambda start, stop: image[start:stop].copy()) if lazy else image
    assert np.array_equal(cut_by(run, given, plan), cut_on_host(image, plan))


@pytest.mark.parametrize("mode", ["replicate", "reflect"])
@pytest.mark.parametrize("shape", [(2, 9, 1), (3, 1, 2), (4, 5, 3)])
def test_device_goes_on_beyond_the_edges_as_the_host_does(run, mode, shape):
    image, plan = random_image(*shape), plan_of(shape=(6, 7, 4), padding_mode=mode, mirror_axes=(1,))
    assert np.array_equal(cut_by(run, image, plan), cut_on_host(image, plan))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("layout", ["bcxyz", "bzyxc", "byxz"])
def test_windows_are_cut_into_the_tensor_as_the_model_has_it(run, dtype, layout):
    image = 1000 * random_image(6, 7, 5)
    image[0, 0, :4] = [1e9, -1e-7, np.inf, 65519.9]
    cut = cut_by(run, image, plan_of(input_layout=layout), dtype)
    with np.errstate(over="ignore"):
        expected = to_layout(cut_on_host(image, plan_of()).astype(dtype), layout)
    assert cut.dtype == dtype
    assert np.array_equal(cut, expected)


@pytest.mark.parametrize("mode", ["constant", "replicate", "reflect"])
@pytest.mark.parametrize(("slices", "lazy"), [(2, False), (9, True)])
def test_device_cuts_the_stacks_that_the_host_cuts(run, mode, slices, lazy):
    image = random_image(slices, 9, 7)
    given = LazyImage(image.shape, lambda start, stop: image[start:stop].copy()) if lazy else image
    plan = plan_of(shape=(1, 5, 3), slice_stack=5, padding=-5.0, padding_mode=mode, mirror_axes=(1, 2))
    seen = []
    answer = lambda windows: seen.append(windows.copy()) or windows[:, 2:3]  # noqa: E731
    predict_in_windows(image, answer, windows=plan)
    assert np.array_equal(cut_by(run, given, plan), np.concatenate(seen))


def test_each_slice_of_a_lazy_image_is_made_once(run):
    made = []
    image = random_image(19, 6, 4)
    plan = plan_of(overlap=0.7)
    lazy = LazyImage(image.shape, lambda start, stop: made.extend(range(start, stop)) or image[start:stop])
    cut_by(run, lazy, plan)
    assert made == list(range(19))


@pytest.mark.parametrize("shape", [(9, 11, 7), (2, 9, 1), (4, 5, 3), (30, 5, 4)])
@pytest.mark.parametrize("options", [{}, {"batch": 3}, {"batch": 64, "overlap": 0.8, "in_flight": 1}])
def test_scores_are_those_of_the_host(emulated, shape, options):
    def three(windows):
        return np.concatenate([windows, -windows, windows**2], axis=1)

    image, plan = random_image(*shape), plan_of(classes=3, **options)
    found = emulated(image, three, windows=plan)
    assert found.flags.c_contiguous
    assert found == pytest.approx(np.stack([image, -image, image**2]), abs=1e-5)


@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_answers_are_activated_and_turned_back_as_on_the_host(emulated, run, activation, dtype):
    def uneven(windows):
        ramp = np.linspace(-9, 9, windows[0].size).reshape(windows.shape[1:])
        return np.concatenate([5 * windows, windows + ramp, ramp * windows], axis=1).astype(dtype)

    image = random_image(9, 8, 7)
    plan = plan_of(classes=3, activation=activation, mirror_axes=(0, 1, 2), batch=5)
    expected = predict_on_host(image, uneven, plan)
    assert emulated(image, uneven, windows=plan) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_what_was_blended_is_activated_as_on_the_host(emulated):
    image = random_image(9, 8, 7)
    late = plan_of(classes=2, activation="softmax", activation_after="blending")
    logits = np.stack([image, 3 * image])
    found = emulated(image, lambda w: np.concatenate([w, 3 * w], axis=1), windows=late)
    assert found == pytest.approx(activate(logits[None], "softmax", 2)[0], abs=1e-5)


def predict_on_host(image, predictor, plan):
    """Return the scores by hand: each window activated, weighted, added; divided at the end."""
    sums, total = np.zeros((plan.classes, *image.shape)), np.zeros(image.shape)
    for z in plan.starts(image.shape)[0]:
        for y in plan.starts(image.shape)[1]:
            for x in plan.starts(image.shape)[2]:
                place = tuple(slice(o, o + n) for o, n in zip((z, y, x), plan.shape, strict=True))
                for flip in plan.flips:
                    answer = predictor(np.flip(image[place], flip)[None, None])
                    scores = activate(answer, plan.activation, plan.classes)[0]
                    sums[(slice(None), *place)] += np.flip(scores, [1 + a for a in flip]) * plan.weights()
                    total[place] += plan.weights()
    return sums / total


@pytest.mark.parametrize("layout", ["bcyxz", "bzyxc", "xcbzy"])
def test_answers_are_read_in_the_layout_of_the_model(emulated, layout):
    image = random_image(6, 7, 5)
    plan = plan_of(classes=2, output_layout=layout, batch=2)
    found = emulated(image, lambda w: to_layout(np.concatenate([w, 2 * w], 1), layout), windows=plan)
    assert found == pytest.approx(np.stack([image, 2 * image]), abs=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "float32", "float16"])
def test_labels_of_any_type_become_scores_of_1(emulated, dtype):
    image = np.zeros((6, 5, 4), np.float32)
    image[1, 2, 3], image[5, 0, 0] = 2, 1
    plan = plan_of(classes=3, activation="labels", output_layout="bzyx")
    found = emulated(image, lambda windows: windows[:, 0].astype(dtype), windows=plan)
    assert np.array_equal(found.argmax(0), image)
    assert np.array_equal(found.sum(0), np.ones(image.shape))


@pytest.mark.parametrize("wrong", [3, -1])
def test_label_that_no_class_has_is_refused(emulated, wrong):
    with pytest.raises(InferenceError, match=f"a label of {wrong}, expected 0 to 2"):
        emulated(
            random_image(5, 5, 5),
            lambda windows: np.full_like(windows, wrong, dtype=np.int64),
            windows=plan_of(classes=3, activation="labels"),
        )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_answer_that_is_no_number_is_refused_at_the_end(emulated, value):
    def broken(windows):
        answer = windows.copy()
        answer[-1, 0, 1, 2, 1] = value
        return answer

    with pytest.raises(InferenceError, match="not finite"):
        emulated(random_image(5, 5, 5), broken, windows=plan_of())


def test_what_lies_in_the_padding_may_be_no_number(emulated):
    image = random_image(2, 5, 3)  # one slice of padding on each side
    scores = emulated(
        image, lambda w: np.where(w == -5, np.float32(np.nan), w), windows=plan_of(padding=-5.0)
    )
    assert scores[0] == pytest.approx(image, abs=1e-6)


def test_windows_of_one_layer_go_in_one_launch(kernels):
    launched = []

    def counting(name, threads, arguments):
        launched.append(name)
        kernels.launch(name, (-(-threads // 32),), (32,), arguments)

    image, plan = random_image(8, 10, 6), plan_of(batch=64)  # 3 layers of 4 x 4 windows
    source = device.DeviceSource(image, plan, np, run=counting)
    batch = list(source.in_order())
    out = np.empty((len(batch), 1, *plan.shape), np.float32)
    source.write(batch, out)
    assert (len(batch), len(layers(batch))) == (48, 3)
    assert launched == ["cut_float32"] * 3
