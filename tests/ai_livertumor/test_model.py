import pytest

from ai_livertumor import ModelDescription
from stages import InferenceError

REQUIRED = [
    "orientation",
    "spacing_mm",
    "intensity_clip_hu",
    "intensity_scale",
    "padding_value_hu",
    "window_shape",
    "overlap",
    "blending",
    "activation",
    "channel_labels",
]


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


@pytest.mark.parametrize("name", REQUIRED)
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
        ("activation", '"sigmoid"', "'softmax' or 'none'"),
        ("channel_labels", "[0]", "at least 2"),
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


@pytest.mark.parametrize(
    ("tensor", "shape", "named"),
    [
        ("image", (-1, 1, 8, 16, 32), "window_shape"),
        ("image", (-1, 2, 8, 16, 16), "window_shape"),
        ("image", (-1, 8, 16, 16), "window_shape"),
        ("scores", (-1, 2, 8, 16, 16), "channel_labels"),
        ("scores", (-1, 3, 4, 8, 8), "channel_labels and window_shape"),
    ],
)
def test_description_that_contradicts_a_tensor_is_refused(served, tensor, shape, named):
    message = refusal(served(**{tensor: shape}))
    assert f"tensor '{tensor}' is FP32 {list(shape)}" in message
    assert named in message


def test_tensor_of_another_type_is_refused(served):
    assert "tensor 'scores' is FP16" in refusal(served(datatype="FP16"))


def test_free_axes_of_a_tensor_fit_every_window(served):
    free = (-1, -1, -1, -1, -1)
    assert ModelDescription.from_server(served(image=free, scores=free)).window_shape == (8, 16, 16)
