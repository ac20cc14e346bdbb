"""What a chart's schema refuses, told with a path and an advice."""

import json
import random
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from clara_wf.yaml.json_schema import problems_of

CHARTS = Path(__file__).parents[3]
CHART = CHARTS / "clara-reference-workflows/charts/clara-workflow"
ODD = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2.5,
    1e3,
    "",
    "x",
    "Clara/X",
    "1.10",
    "20Gi",
    "../x",
    "/x",
    [],
    ["a", "a"],
    {},
]


def told(value, schema):
    return [f"{'/'.join(map(str, p.path))}: {p.message}; {p.advice}" for p in problems_of(value, schema)]


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        (
            "7",
            {"type": "integer"},
            'expected a whole number, found "7"; write a whole number, without quotes',
        ),
        (1.10, {"type": "string"}, "expected text, found 1.1; quote it"),
        (True, {"type": "number"}, "expected a number, found true; write a number, without quotes"),
        (4, {"minimum": 5}, "expected at least 5, found 4; "),
        (0, {"exclusiveMinimum": 0}, "expected more than 0, found 0; "),
        (
            "always",
            {"enum": ["Always", "Never"]},
            "expected one of Always, Never; found \"always\"; write 'Always'",
        ),
        ("A", {"pattern": "^[a-z]$", "description": "A letter."}, 'found "A"; expected: a letter'),
        ("a\n", {"pattern": "^[a-z]$"}, 'found "a\\n"; '),
        (["b", "b"], {"uniqueItems": True}, '"b" stands there twice; write each once'),
    ],
)
def test_a_wrong_value_is_told_with_what_was_expected(value, schema, expected):
    assert told(value, schema) == [f": {expected}"]


def test_a_typing_mistake_in_a_key_is_told_with_the_key_that_was_meant():
    schema = {"properties": {"job": {"properties": {"backoffLimit": {}}, "additionalProperties": False}}}
    assert told({"job": {"backofLimit": 2}}, schema) == [
        "job/backofLimit: unknown key 'backofLimit'; write 'backoffLimit'"
    ]


def test_every_mistake_is_told_and_not_only_the_first():
    schema = {"additionalProperties": {"type": "integer"}}
    assert [p.path for p in problems_of({"a": "x", "b": 1, "c": None}, schema)] == [("a",), ("c",)]


def test_it_refuses_exactly_what_a_whole_validator_refuses():
    """Hundreds of changes of the shipped values: something odd in the place of a leaf, a list or a block."""
    from jsonschema import Draft7Validator

    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    text = json.dumps(YAML(typ="safe").load(CHART / "values.yaml"))
    whole, chance = Draft7Validator(schema), random.Random(14)
    refused = 0
    for _ in range(120):
        values = json.loads(text)
        where, key = chance.choice(list(places(values)))
        where[key] = chance.choice(ODD)
        valid = whole.is_valid(values)
        assert (problems_of(values, schema) == []) == valid, (key, where[key])
        refused += not valid
    assert 40 < refused < 118, "both verdicts are held"


def places(node):
    """Yield every dictionary or list of a structure with each of its keys."""
    for key, value in list(node.items()) if isinstance(node, dict) else list(enumerate(node)):
        yield node, key
        if isinstance(value, dict | list):
            yield from places(value)
