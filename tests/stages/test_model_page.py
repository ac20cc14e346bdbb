"""The page about models names every parameter, and its examples are taken."""

import json
import re
from pathlib import Path

import pytest

from stages.model import ModelDescription

PAGE = (Path(__file__).parents[2] / "docs/reference/model.md").read_text()
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


def test_the_page_has_a_row_for_each_parameter_and_no_other():
    assert set(ROWS) == set(ModelDescription.model_fields)


@pytest.mark.parametrize("name", ROWS)
def test_the_example_of_a_parameter_is_taken(name):
    instead = {"size": "spacing_mm", "intensity_zscore": "intensity_scale"}.get(name)
    given = {key: value for key, value in REST.items() if key != instead}
    assert ModelDescription.model_validate({**given, name: json.loads(ROWS[name])})
