import json
from dataclasses import replace

import pytest

from stages import InferenceError
from stages.model import ModelDescription

REQUIRED = ["orientation", "padding_value_hu", "activation", "channel_labels"]
ONE_OF = ["spacing_mm", "intensity_scale", "intensity_clip_hu"]


def refusal(served):
    with pytest.raises(InferenceError, match="model 'liver'") as refused:
        ModelDescription.from_server(served)
    assert refused.value.exit_code == 6
    return str(refused.value)


def test_description_is_read_from_the_parameters(served):
    model = ModelDescription.from_server(served())
    assert model.orientation == "SPL"
    assert model.spacing_mm == (2.0, 1.0, 1.0)
    assert model.window_shape == (8, 16, 16)
    assert model.channel_labels == (0, 1, 2)
    assert model.inside == {2: 1}


def test_post_processing_may_be_left_out(served):
    model = ModelDescription.from_server(served(without=["largest_component", "inside"]))
    assert model.largest_component == ()
    assert model.inside == {}


def test_parameter_of_the_backend_is_none_of_ours(served):
    model = ModelDescription.from_server(served(EXECUTION_ENV_PATH="not json"))
    assert model == ModelDescription.from_server(served())


@pytest.mark.parametrize("name", REQUIRED + ONE_OF)
def test_missing_parameter_is_named(served, name):
    assert f"parameter {name} is missing" in refusal(served(without=[name]))


def test_all_missing_parameters_are_named_at_once(served):
    message = refusal(served(without=REQUIRED))
    assert [name for name in REQUIRED if f"parameter {name} is missing" not in message] == []


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("orientation", "SPL", "is not JSON"),
        ("orientation", '"axial"', "axial"),
        ("orientation", '"SPA"', "names an axis twice"),
        ("spacing_mm", "[1, 1]", "parameter spacing_mm"),
        ("spacing_mm", "[1, 1, 0]", "greater than 0"),
        ("spacing_mm", "[1, 1, Infinity]", "finite"),
        ("intensity_clip_hu", "[400, -200]", "lower bound 400 is not below the upper -200"),
        ("intensity_clip_hu", "[NaN, 400]", "finite"),
        ("intensity_scale", "0", "parameter intensity_scale"),
        ("padding_value_hu", "NaN", "finite"),
        ("padding_value_hu", '"air"', "parameter padding_value_hu"),
        ("window_shape", "[96, 96]", "parameter window_shape"),
        ("window_shape", "[96, 96, 0]", "greater than 0"),
        ("window_shape", "[96, 96, 96.5]", "parameter window_shape"),
        ("overlap", "1", "less than 1"),
        ("overlap", "-0.5", "greater than or equal to 0"),
        ("blending", '"max"', "'gaussian' or 'constant'"),
        ("activation", '"relu"', "'softmax', 'sigmoid', 'none' or 'labels'"),
        ("channel_labels", "[0]", "expected background, 0, and at least one label more; found [0]"),
        ("channel_labels", "[1, 2, 0]", "expected background, 0, and at least one label more"),
        ("channel_labels", "[0, null, null]", "no channel has a label above 0"),
        ("size", "[8, 16, 16]", "spacing_mm and size: give one of them"),
        ("spacing_mm", '"own"', "parameter spacing_mm: Input should be 'native', found 'own'"),
        ("spacing_mm", "[1, 0, 1]", "parameter spacing_mm.1: Input should be greater than 0, found 0"),
        (
            "intensity_zscore",
            '{"mean": 1, "std": 2}',
            "intensity_scale and intensity_zscore: give one of them",
        ),
        (
            "intensity_zscore",
            '{"mean": 1, "std": 0}',
            "intensity_zscore.std: Input should be greater",
        ),
        ("intensity_zscore", '{"mean": 1}', "parameter intensity_zscore.std is missing"),
        ("crop", '"liver"', "'none', 'body' or 'foreground'"),
        ("foreground_hu", '"air"', "parameter foreground_hu"),
        (
            "label_meanings",
            '{"1": {"name": "Liver", "rgb": [1, 2, 3]}}',
            "parameter label_meanings.1.type is missing",
        ),
        (
            "label_meanings",
            '{"7": {"name": "A", "rgb": [1, 2, 3], "type": {"value": "1", "meaning": "A"}}}',
            "labels [7]",
        ),
        ("crop_margin_percent", "[0, 0]", "parameter crop_margin_percent"),
        ("crop_margin_percent", "[-100, 0, 0, 0, 0, 0]", "greater than -100"),
        ("crop_margin_percent", "[0, 0, -60, -40, 0, 0]", "-60 and -40 leave nothing of the rows"),
        ("mirror_axes", "[3]", "less than or equal to 2"),
        ("threshold", "1", "less than 1"),
        ("fill_holes", "[5]", "labels [5] are used but are not in channel_labels"),
        ("minimum_volume_ml", '{"1": 0}', "greater than 0"),
        ("minimum_volume_ml", '{"4": 1}', "labels [4] are used"),
        ("channel_labels", "[0, 256, 2]", "less than or equal to 255"),
        ("channel_labels", "{0: 1}", "is not JSON"),
        ("largest_component", "[3]", r"labels [3] are used but are not in channel_labels"),
        ("inside", '{"2": 7}', r"labels [7] are used but are not in channel_labels"),
        ("inside", '{"tumour": 1}', "parameter inside"),
    ],
)
def test_wrong_parameter_is_refused_and_told(served, name, text, problem):
    message = refusal(served(**{name: text}))
    assert problem in message
    assert name in message or "labels" in message


def test_a_parameter_that_is_nearly_one_of_ours_is_refused(served):
    assert "there is no parameter chanel_labels; write channel_labels" in refusal(
        served(chanel_labels="[0, 1]")
    )


def test_all_mistakes_are_told_at_once(served):
    message = refusal(served(size="[8, 16, 16]", intensity_clip_hu="[4, 2]", fill_holes="[9]"))
    assert "spacing_mm and size" in message
    assert "intensity_clip_hu" in message
    assert "labels [9]" in message


# The tensors


@pytest.mark.parametrize(
    ("tensor", "shape", "problem"),
    [
        ("image", (-1, 1, 8, 16, 32), "its input has 32 columns, its output 16"),
        ("image", (-1, 2, 8, 16, 16), "expected one channel, the CT"),
        ("image", (-1, 1), "expected a batch, one channel, and slices, rows, columns"),
        ("image", (-1, 1, 16, 16), "expected 3 channels, as many as channel_labels has"),
        ("scores", (-1, 2, 8, 16, 16), "expected 3 channels, as many as channel_labels has"),
        ("scores", (-1, 3, 4, 8, 8), "its input has 8 slices, its output 4"),
        ("scores", (-1, 3, 8, 16, 3), "its input has 16 columns, its output 3"),
    ],
)
def test_description_that_contradicts_a_tensor_is_refused(served, tensor, shape, problem):
    message = refusal(served(**{tensor: shape}))
    assert problem in message


def test_window_that_contradicts_the_tensors_is_refused(served):
    message = refusal(served(window_shape="[8, 16, 32]"))
    assert "parameter window_shape is [8, 16, 32]" in message
    assert "windows of [8, 16, 16]" in message


def test_window_that_nobody_tells_is_missed(served):
    free = (-1, 1, -1, -1, -1)
    message = refusal(served(without=["window_shape"], image=free, scores=(-1, 3, -1, -1, -1)))
    assert "parameter window_shape is missing" in message


def test_channels_that_could_be_first_or_last_are_asked_for(served):
    message = refusal(served(image=(-1, 1, 8, 16, 1), scores=(-1, 3, 8, 16, 1), window_shape="[8, 16, 1]"))
    assert "both would fit" in message


def test_tensor_of_another_type_is_refused(served):
    assert "tensor 'scores' is INT32 [-1, 3, 8, 16, 16]; expected FP32 or FP16" in refusal(
        served(datatype="INT32")
    )


def test_free_axes_of_a_tensor_fit_every_window(served):
    free = (-1, -1, -1, -1, -1)
    assert ModelDescription.from_server(served(image=free, scores=free)).window_shape == (8, 16, 16)


@pytest.mark.parametrize(
    ("image", "scores", "more", "layouts", "window"),
    [
        ((-1, 1, 8, 16, 16), (-1, 3, 8, 16, 16), {}, ("bczyx", "bczyx"), (8, 16, 16)),
        ((-1, 8, 16, 16, 1), (-1, 8, 16, 16, 3), {}, ("bzyxc", "bzyxc"), (8, 16, 16)),
        ((1, 1, -1, -1, -1), (1, 3, -1, -1, -1), {"size": "[9, 8, 7]"}, ("bczyx", "bczyx"), (9, 8, 7)),
        ((-1, 1, 64, 48), (-1, 3, 64, 48), {}, ("bcyx", "bcyx"), (1, 64, 48)),
        ((-1, 64, 48, 1), (-1, 64, 48, 3), {}, ("byxc", "byxc"), (1, 64, 48)),
        ((-1, 1, 8, 9, 9), (-1, 1, 8, 9, 9), {"activation": '"labels"'}, ("bczyx", "bczyx"), (8, 9, 9)),
        ((-1, 1, 8, 9, 9), (-1, 8, 9, 9), {"activation": '"labels"'}, ("bczyx", "bzyx"), (8, 9, 9)),
    ],
)
def test_the_order_of_the_axes_and_the_window_come_from_the_tensors(
    served, image, scores, more, layouts, window
):
    without = ["window_shape", *(["spacing_mm"] if "size" in more else [])]
    asked = served(without=without, image=image, scores=scores, **more)
    model = ModelDescription.from_server(asked)
    tensors = model.tensors_of(asked)
    assert (tensors.input_layout, tensors.output_layout) == layouts
    assert model.window_shape == window


@pytest.mark.parametrize(
    ("first", "most", "window", "batch"),
    [
        (-1, 4, (8, 16, 16), 4),  # as the server's batching says
        (-1, 0, (8, 16, 16), 64),
        (1, 0, (8, 16, 16), 1),
        (-1, 32, (1, 512, 512), 8),  # 2**21 voxels
        (-1, 4, (64, 96, 96), 3),
        (-1, 4, (256, 256, 256), 1),
    ],
)
def test_small_windows_go_together_as_far_as_the_model_takes_them(served, first, most, window, batch):
    free = (-1, -1, -1)
    asked = served(image=(first, 1, *free), scores=(first, 3, *free), window_shape=json.dumps(window))
    tensors = ModelDescription.from_server(asked).tensors_of(replace(asked, max_batch_size=most))
    assert tensors.batch(window) == batch


def test_a_batch_of_a_fixed_size_is_refused(served):
    message = refusal(served(image=(2, 1, 8, 16, 16), scores=(2, 3, 8, 16, 16)))
    assert "for exactly 2 windows at a time; expected 1, or a free batch (-1)" in message


@pytest.mark.parametrize("datatype", ["UINT8", "INT64", "FP16"])
def test_labels_may_be_integers_of_any_size(served, datatype):
    asked = served(activation='"labels"', scores=(-1, 1, 8, 16, 16), datatype=datatype)
    assert ModelDescription.from_server(asked).tensors_of(asked).output_type == datatype
