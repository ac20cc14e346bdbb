import json

import pytest

from stages import InputError, read_volume, write_volume
from tests import phantoms

LABEL = {"value": 1, "name": "Spleen", "type": {"value": "78961009", "meaning": "Spleen"}, "rgb": [1, 2, 3]}


@pytest.fixture
def read_with(tmp_path):
    """Return what reads a mask in whose JSON some keys say something else."""

    def read(**keys):
        path = write_volume(phantoms.mask(), tmp_path)
        beside = path.with_suffix(".json")
        beside.write_text(json.dumps(json.loads(beside.read_text()) | keys))
        return read_volume(path).origin

    return read


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"junk": 1}, 'there is no key "junk"; known are series_instance_uid'),
        ({"warnings": "slices may be missing"}, "warnings: expected a list"),
        ({"warnings": [1]}, r"warnings\[1\]: expected a text, found 1"),
        ({"label_values": ["1"]}, r'label_values\[1\]: expected a whole number, found "1"'),
        ({"label_values": [0, 1]}, "label_values: expected numbers from 1 to 255, found 0"),
        ({"labels": {"1": "Spleen"}}, "labels: expected a list"),
        ({"labels": [LABEL, {**LABEL, "name": "Liver"}]}, "two labels have the value 1"),
        ({"labels": [LABEL, {**LABEL, "value": 2}]}, "two labels have the name 'Spleen'"),
        ({"labels": [{**LABEL, "colour": 1}]}, r"labels\[1\].colour: there is no such key"),
        ({"algorithm": {"name": "x", "version": 1}}, "algorithm.version: expected a text, found 1"),
        ({"body_part": 3}, "body_part: expected a text, found 3"),
        ({"selection": {"1.2": 3}}, "selection.1.2: expected a text"),
    ],
)
def test_what_is_wrong_beside_a_mask_is_told_with_its_place(read_with, keys, said):
    with pytest.raises(InputError, match=f"not the description of a volume: {said}"):
        read_with(**keys)


def test_labels_beside_a_mask_may_be_written_as_in_any_file_of_labels(read_with):
    (label,) = read_with(label_values=[1], labels=[{**LABEL, "rgb": "#0a0b0c"}]).labels
    assert (label.rgb, label.type.scheme) == ((10, 11, 12), "SCT")
