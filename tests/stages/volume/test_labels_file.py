"""Users say what the values of their masks mean."""

import json
from pathlib import Path

import pytest

from stages import SettingsError
from stages.volume.labels import Code
from stages.volume.labels_file import read_labels, write_labels
from tests.phantoms import LABELS

ROOT = Path(__file__).parents[3]
SPLEEN = """
labels:
  - value: 7
    name: Kidney cyst
    type: {value: 367643001, meaning: Cyst}
    category: {value: "49755003", scheme: SCT, meaning: Morphologically Abnormal Structure}
    region: {value: "64033007", meaning: Kidney}
    rgb: [1, 2, 3]
  - value: 5
    name: Spleen
    type: {value: "78961009", scheme: SCT, meaning: Spleen}
    rgb: "#9d6ca2"
"""


@pytest.fixture
def file(tmp_path):
    """Return what writes a text as a file of labels."""

    def write(text):
        path = tmp_path / "labels.yaml"
        path.write_text(text)
        return path

    return write


def test_labels_come_by_rising_value_with_their_codes(file):
    spleen, cyst = read_labels(file(SPLEEN))
    assert (spleen.value, spleen.name, spleen.rgb) == (5, "Spleen", (157, 108, 162))
    assert spleen.category == Code("123037004", "SCT", "Anatomical Structure")
    assert (cyst.value, cyst.type) == (7, Code("367643001", "SCT", "Cyst"))
    assert (cyst.region, cyst.rgb) == (Code("64033007", "SCT", "Kidney"), (1, 2, 3))


def test_a_file_may_be_json_and_say_what_ships(file):
    def as_dict(code):
        return code and {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}

    stored = [
        {
            **{key: getattr(label, key) for key in ("value", "name", "description")},
            **{key: as_dict(getattr(label, key)) for key in ("category", "type", "region")},
            "rgb": list(label.rgb),
        }
        for label in LABELS
    ]
    assert read_labels(file(json.dumps({"labels": stored}))) == LABELS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("value: 7", "value: 0"), r"labels\[1\]\.value: expected 1 to 255, found 0"),
        (("value: 7", "value: 5"), "two labels have the value 5"),
        (("name: Kidney cyst", "name: Spleen"), "two labels have the name 'Spleen'"),
        (("name: Spleen", "nom: Spleen"), r"labels\[2\]\.name: it is missing"),
        (("Spleen}", r"Spl\een}"), r"labels\[2\]\.type\.meaning: expected .* no backslash"),
        (("name: Spleen", "name: Müller"), r"labels\[2\]\.name: expected 1 to 64 printable ASCII"),
        (("[1, 2, 3]", "[1, 2]"), r"labels\[1\]\.rgb"),
        (("meaning: Cyst", "meaning: " + "x" * 65), "expected 1 to 64 printable"),
        (("labels:", "labels: ["), "are no YAML"),
        (
            ("value: 7", "value: 7\n    value: 8"),
            r'no YAML: line \d+, column 5: the key "value" stands there twice$',
        ),
        (("labels:", "labels: !!python/name:os.system"), r"no YAML: line 2, column 9$"),
        (("labels:", "labels:\n  - 1"), r"labels\[1\]: found 1, expected a block of keys"),
        (("labels:", "label:"), "expected the one key 'labels' and below it a list, found label"),
        (("labels:", "labels: 3\nnotes:"), "found labels, notes"),
        (("rgb: [1, 2, 3]", "rgb: green"), r"labels\[1\]\.rgb: found 'green', expected three numbers"),
        (("rgb: [1, 2, 3]", "rgb: [1, 2, 256]"), r"labels\[1\]\.rgb: expected three numbers from 0 to 255"),
        (("value: 5", "value: spleen"), r"labels\[2\]\.value: found 'spleen', expected a label from 1"),
        (
            ("rgb: [1, 2, 3]", "rgb: [1, 2, 3]\n    colour: 3"),
            r"colour: there is no such key",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(file, change, said):
    path = file(SPLEEN.replace(*change))
    with pytest.raises(SettingsError, match=said) as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_all_mistakes_are_said_at_once(file):
    text = SPLEEN.replace("value: 7", "value: 256").replace("name: Spleen", "name: Müller")
    with pytest.raises(SettingsError) as caught:
        read_labels(file(text.replace("[1, 2, 3]", "[1]")))
    for place in ("labels[1].value: expected 1 to 255, found 256", "labels[1].rgb", "labels[2].name"):
        assert place in str(caught.value)


def test_what_is_written_is_read_back(tmp_path):
    path = write_labels(LABELS, tmp_path, "1.2.3")
    assert path.name == "1.2.3.labels.json"
    assert read_labels(path) == LABELS


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"cannot read the labels .*none\.yaml: No such file"):
        read_labels(tmp_path / "none.yaml")


def test_the_file_in_the_reference_is_one(file):
    page = (ROOT / "docs/reference/labels.md").read_text(encoding="utf-8")
    example = page.partition("```yaml\n")[2].partition("```")[0]
    assert [label.name for label in read_labels(file(example))] == ["Spleen", "Kidney cyst"]
