"""The page about models names every parameter, and its examples are taken."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from stages.model.description import ModelDescription

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/model.md").read_text(encoding="utf-8")
SCHEMA = json.loads((ROOT / "docs/reference/model.schema.json").read_text(encoding="utf-8"))
ROWS = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", PAGE, re.MULTILINE))
REST = {
    "orientation": "SPL",
    "spacing_mm": [1, 1, 1],
    "intensity_clip_hu": [-160, 240],
    "intensity_scale": [0, 1],
    "padding_value_hu": -1000,
    "activation": "softmax",
    "channel_labels": [0, 1, 2],
}
INSTEAD = {
    "size": "spacing_mm",
    "intensity_zscore": "intensity_scale",
    "intensity_clip_percentile": "intensity_clip_hu",
    "padding_value": "padding_value_hu",
}
"""What an example takes the place of."""


def test_the_page_has_a_row_for_each_parameter_and_no_other():
    assert set(ROWS) == set(ModelDescription.model_fields)


def with_example(name):
    instead = INSTEAD.get(name)
    given = {key: value for key, value in REST.items() if key != instead}
    if name == "channel_labels":
        return {**given, name: json.loads(ROWS[name])}
    if name.startswith("interpolation_"):
        given["interpolation"] = "cubic"
    return {**given, "channel_labels": [0, 1, 2], name: json.loads(ROWS[name])}


@pytest.mark.parametrize("name", ROWS)
def test_the_example_of_a_parameter_is_taken_and_fits_the_schema(name):
    assert ModelDescription.model_validate(with_example(name))
    jsonschema.validate(with_example(name), SCHEMA)


def test_the_schema_is_that_of_the_description():
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts/model_schema.py"], capture_output=True, text=True, check=True
    )
    written = (ROOT / "docs/reference/model.schema.json").read_text(encoding="utf-8")
    assert written == printed.stdout, "run scripts/model_schema.py > docs/reference/model.schema.json"


def test_the_schema_describes_every_parameter():
    assert {name for name, each in SCHEMA["properties"].items() if each["description"]} == set(ROWS)


@pytest.mark.parametrize(
    "change",
    [
        {"orientation": "SPX"},
        {"spacing_mm": [1, 1]},
        {"overlap": 1},
        {"crop": "liver"},
        {"chanel_labels": [0]},
    ],
)
def test_the_schema_refuses_what_the_description_refuses(change):
    with pytest.raises(ValueError):
        ModelDescription.model_validate({**REST, **change})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**REST, **change}, SCHEMA)


def test_the_messages_of_the_page_are_those_of_the_code():
    names = ("contradictions", "parameter_texts", "problems", "tensors")
    modules = [*(f"model/{name}" for name in names), "triton/types"]
    code = "".join((ROOT / f"stages/{name}.py").read_text() for name in modules)
    fixed = [
        "names an axis twice",
        "give one of them",
        "which intensity_scale maps",
        "there is no spacing that 'first_voxel' could keep",
        "only a spline has such",
        "labels have no mean",
        "is not below the upper",
        "leave nothing of the",
        "expected background, 0, and at least one label more",
        "are none of channel_labels",
        "is none of the terms for Body Part Examined that are",
        "as many as channel_labels has",
        "there is no parameter",
        "is not JSON",
        "needs one input and one output tensor",
    ]
    assert [each for each in fixed if each not in PAGE or each not in code] == []
