import json
from dataclasses import replace

import pytest

from stages import InferenceError
from stages.model.description import ModelDescription

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


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (
            {"spacing_mm": "null", "size": "[8, 16, 16]", "grid_alignment": '"first_voxel"'},
            "with a size there",
        ),
        (
            {"padding_mode": '"reflect"', "padding_value": "0", "without": ["padding_value_hu"]},
            "'reflect' has",
        ),
        ({"activation": '"labels"', "ensemble": '["b"]'}, "parameter ensemble: labels have no mean"),
    ],
)
def test_a_choice_that_others_rule_out_is_refused(served, texts, problem):
    assert problem in refusal(served(**texts))


def test_a_mode_of_padding_needs_no_value(served):
    model = ModelDescription.from_server(served(padding_mode='"replicate"', without=["padding_value_hu"]))
    assert model.padding_value_hu is None


def test_percentiles_are_the_bounds_that_a_scale_maps(served):
    texts = {"intensity_clip_percentile": "[0, 100]", "without": ["intensity_clip_hu"]}
    assert ModelDescription.from_server(served(**texts)).intensity_clip_percentile == (0, 100)


def test_spacing_of_one_axis_may_be_the_volumes_own(served):
    model = ModelDescription.from_server(served(spacing_mm='["native", 1.5, 1]'))
    assert model.spacing_mm == ("native", 1.5, 1.0)


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
        ("spacing_mm", "[1, 1, 0]", "parameter spacing_mm[2]: expected a number above 0, found 0"),
        ("spacing_mm", "[1, 1, Infinity]", "finite"),
        ("intensity_clip_hu", "[400, -200]", "lower bound 400 is not below the upper -200"),
        ("intensity_clip_hu", "[NaN, 400]", "finite"),
        ("intensity_scale", "0", "parameter intensity_scale"),
        ("padding_value_hu", "NaN", "finite"),
        ("padding_value_hu", '"air"', "parameter padding_value_hu"),
        ("window_shape", "[96, 96]", "parameter window_shape"),
        ("window_shape", "[96, 96, 0]", "parameter window_shape[2]: expected a number above 0"),
        ("window_shape", "[96, 96, 96.5]", "parameter window_shape"),
        ("overlap", "1", "parameter overlap: expected a number below 1, found 1"),
        ("overlap", "-0.5", "expected a number from 0 up, found -0.5"),
        ("blending", '"max"', "'gaussian' or 'constant'"),
        ("activation", '"relu"', "'softmax', 'sigmoid', 'none' or 'labels'"),
        ("channel_labels", "[0]", "expected background, 0, and at least one label more; found [0]"),
        ("channel_labels", "[1, 2, 0]", "expected background, 0, and at least one label more"),
        ("channel_labels", "[0, null, null]", "no channel has a label above 0"),
        ("size", "[8, 16, 16]", "spacing_mm and size: give one of them"),
        (
            "spacing_mm",
            '"own"',
            "parameter spacing_mm: expected 'native' or a list in brackets, found \"own\"",
        ),
        ("spacing_mm", "[1, 0, 1]", "parameter spacing_mm[1]: expected a number above 0, found 0"),
        (
            "intensity_zscore",
            '{"mean": 1, "std": 2}',
            "intensity_scale and intensity_zscore: give one of them",
        ),
        (
            "intensity_zscore",
            '{"mean": 1, "std": 0}',
            "parameter intensity_zscore.std: expected a number above 0, found 0",
        ),
        ("intensity_zscore", '{"mean": 1}', "parameter intensity_zscore.std is missing"),
        ("crop", '"liver"', "'none', 'body', 'foreground' or 'nonzero'"),
        ("spacing_mm", '["own", 1, 1]', "parameter spacing_mm[0]: expected 'native' or a number, found"),
        ("anisotropy_threshold", "0.5", "expected a number from 1 up, found 0.5"),
        ("interpolation_edge", '"mirror"', "interpolation_edge: only a spline has such"),
        ("interpolation_overshoot", '"keep"', "interpolation_overshoot: only a spline has such"),
        ("interpolation", '"lanczos"', "'linear', 'cubic' or 'nearest'"),
        ("padding_value", "0", "padding_value_hu and padding_value: give one of them"),
        ("intensity_clip_percentile", "[5, 95]", "intensity_clip_hu and intensity_clip_percentile: give one"),
        ("intensity_clip_percentile", "[95, 5]", "the lower bound 95 is not below the upper 5"),
        ("intensity_clip_percentile", "[5, 101]", "expected a number up to 100, found 101"),
        ("intensity_before_resampling", "1", "expected true or false, found 1"),
        ("gaussian_floor", "1", "expected a number below 1, found 1"),
        ("gaussian_sigma", "0", "expected a number above 0, found 0"),
        ("slice_stack", "4", "parameter slice_stack: 4 slices have none in their middle"),
        ("ensemble", '["a", "a"]', "names a model twice"),
        ("ensemble", "[1]", "expected a text in quotes"),
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
        ("crop_margin_percent", "[-100, 0, 0, 0, 0, 0]", "expected a number above -100"),
        ("crop_margin_percent", "[0, 0, -60, -40, 0, 0]", "-60 and -40 leave nothing of the rows"),
        ("mirror_axes", "[3]", "expected a number up to 2, found 3"),
        ("threshold", "1", "expected a number below 1"),
        ("fill_holes", "[5]", "labels [5] are none of channel_labels [0, 1, 2]"),
        ("minimum_volume_ml", '{"1": 0}', "expected a number above 0"),
        ("minimum_volume_ml", '{"4": 1}', "labels [4] are none of channel_labels"),
        ("channel_labels", "[0, 256, 2]", "expected a number up to 255, found 256"),
        ("channel_labels", "{0: 1}", "is not JSON"),
        ("largest_component", "[3]", "labels [3] are none of channel_labels"),
        ("inside", '{"2": 7}', "labels [7] are none of channel_labels"),
        ("inside", '{"tumour": 1}', "parameter inside"),
    ],
)
def test_wrong_parameter_is_refused_and_told(served, name, text, problem):
    message = refusal(served(**{name: text}))
    assert problem in message
    assert name in message or "labels" in message


@pytest.mark.parametrize(
    "name", ["gpu_mem_limit", "INFERENCE_MODE", "TARGET_DEVICE", "x_trained_by", "x_crop"]
)
def test_a_parameter_of_a_backend_or_of_the_authors_own_is_none_of_ours(served, name):
    assert ModelDescription.from_server(served(**{name: "not json"})) == ModelDescription.from_server(
        served()
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("chanel_labels", "channel_labels"),
        ("crop_margin", "crop_margin_percent"),
        ("mirror", "mirror_axes"),
        ("window", "window_shape"),
        ("clip_hu", "intensity_clip_hu"),
        ("Overlap", "overlap"),
        ("spacing-mm", "spacing_mm"),
        ("intra_op_threads", "intra_op_thread_count"),
    ],
)
def test_a_misspelt_parameter_is_refused_with_the_one_that_was_meant(served, name, meant):
    assert f"there is no parameter {name}; write {meant}, or x_{name} for a note of your own" in refusal(
        served(**{name: "[1]"})
    )


def test_an_unknown_parameter_that_is_like_none_is_refused_too(served):
    assert "there is no parameter remark; take it out, or write x_remark for a note" in refusal(
        served(remark="[1]")
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ({"overlap": "true"}, "parameter overlap: expected a number, found true"),
        ({"overlap": '"0.5"'}, 'parameter overlap: expected a number, found "0.5"'),
        ({"overlap": "0,5"}, "parameter overlap: '0,5' is not JSON (from ',5' on); write a JSON text"),
        ({"overlap": " "}, "parameter overlap: ' ' is not JSON (it is empty)"),
        ({"overlap": "1e999"}, "parameter overlap: expected a finite number, found Infinity"),
        ({"activation": "softmax"}, "is not JSON (from 'softmax' on)"),
        ({"activation": '"softmax'}, "is not JSON"),
        ({"orientation": '"spl"'}, 'expected three letters of L R P A S I, such as "SPL", found "spl"'),
        ({"orientation": '["S", "P", "L"]'}, 'expected a text in quotes, found ["S", "P", "L"]'),
        ({"spacing_mm": "2"}, "expected 'native' or a list in brackets, found 2"),
        ({"spacing_mm": "[2, 1]"}, "parameter spacing_mm[2] is missing"),
        ({"spacing_mm": "[2, 1, 1, 1]"}, "parameter spacing_mm: expected 3 entries at most"),
        (
            {"spacing_mm": '["2", 1, 1]'},
            "parameter spacing_mm[0]: expected 'native' or a number, found \"2\"",
        ),
        ({"crop": "true"}, "parameter crop: expected 'none', 'body', 'foreground' or 'nonzero', found true"),
        ({"channel_labels": "[0, 1.5]"}, "parameter channel_labels[1]: expected a whole number, found 1.5"),
        ({"mirror_axes": "[0, 0]"}, "parameter mirror_axes: [0, 0] names an axis twice"),
        ({"inside": "[2, 1]"}, "parameter inside: expected an object in braces, found [2, 1]"),
        ({"inside": '{"tumour": 1}'}, 'expected a whole number as key, found "tumour"'),
        ({"inside": '{"2": 1, "2": 1}'}, 'is not JSON ("2" stands there twice)'),
        ({"inside": '{"2": 1, "02": 1}'}, 'parameter inside: the key "02" is no label; write it as "5"'),
        ({"inside": '{" 2": 1}'}, 'parameter inside: the key " 2" is no label'),
        ({"inside": '{"2": 0}'}, "labels [0] are none of channel_labels [0, 1, 2], where 0 is background"),
        (
            {"weights_sha256": '"abc"'},
            'parameter weights_sha256: expected 64 hexadecimal digits, found "abc"',
        ),
        ({"activation": "[" * 100_000}, "is not JSON (nested too deep)"),
        ({"activation": '"\\ud800"'}, "is not JSON (half a character, a lone surrogate)"),
        ({"window\x1b[2J": "1"}, "there is no parameter window\\x1b[2J; take it out"),
        (
            {"label_meanings": '{"1": {"name": "Liver", "rgb": [1, 2, 300], "type": 5}}'},
            "parameter label_meanings.1.type: expected an object in braces, found 5; "
            "parameter label_meanings.1.rgb: expected three numbers from 0 to 255, found [1, 2, 300]",
        ),
    ],
)
def test_a_mistake_is_told_in_a_sentence(served, text, sentence):
    message = refusal(served(**text))
    assert sentence in message
    assert [word for word in ("Value error", "Input should", "_error", "pydantic") if word in message] == []


def test_mistakes_of_every_kind_are_told_in_one_round(served):
    message = refusal(
        served(
            without=["padding_value_hu"],
            crop_margin="[1]",  # no parameter
            activation="softmax",  # no JSON
            overlap="2",  # out of range
            size="[8, 16, 16]",  # contradicts spacing_mm
            fill_holes="[9]",  # no label
        )
    )
    told = [
        "there is no parameter crop_margin",
        "parameter activation: 'softmax' is not JSON",
        "parameter overlap: expected a number below 1, found 2",
        "parameter padding_value_hu is missing",
        "spacing_mm and size: give one of them",
        "parameter fill_holes: labels [9]",
    ]
    assert [each for each in told if message.count(each) != 1] == []
    assert "activation is missing" not in message


def test_an_unknown_name_and_a_contradiction_are_each_told_once(served):
    message = refusal(served(mirror="[0]", size="[8, 16, 16]"))
    assert message.count("no parameter mirror") == message.count("give one of them") == 1


def test_nothing_is_said_of_what_depends_on_a_parameter_that_is_wrong(served):
    message = refusal(served(channel_labels="[0, 1", fill_holes="[9]"))
    assert "channel_labels: '[0, 1' is not JSON (it ends too early)" in message
    assert "fill_holes" not in message


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


def test_a_stack_of_slices_is_the_channels_of_a_model_of_slices(served):
    texts = {"slice_stack": "3", "image": (-1, 3, 16, 16), "scores": (-1, 3, 16, 16)}
    model = ModelDescription.from_server(given := served(**texts, without=["window_shape"]))
    assert model.window_shape == (1, 16, 16)
    tensors = model.tensors_of(given)
    assert (tensors.input_layout, tensors.input_shape(2, (1, 16, 16))) == ("bcyx", (2, 3, 16, 16))


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ({"window_shape": "[8, 16, 16]"}, "more than the one slice that slice_stack gives neighbours"),
        ({"without": ["window_shape"]}, "has slices of its own; expected rows and columns alone"),
        ({"window_shape": "[1, 16, 16]", "mirror_axes": "[0]"}, "have no slices to mirror (0)"),
        (
            {"without": ["window_shape"], "image": (-1, 1, 16, 16), "scores": (-1, 3, 16, 16)},
            "expected 3 channels, as slice_stack says",
        ),
    ],
)
def test_a_stack_that_contradicts_windows_or_tensors_is_refused(served, texts, problem):
    assert problem in refusal(served(slice_stack="3", **texts))


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
