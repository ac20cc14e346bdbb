import json

import numpy as np
import pytest

from stages import OutputError
from stages.label_meanings import write_label_meanings

SPLEEN = {"name": "Spleen", "type": {"value": "78961009", "meaning": "Spleen"}, "rgb": [157, 108, 162]}


@pytest.fixture
def mask(place):
    return place(np.ones((2, 2, 2), np.uint8))


def test_what_the_model_says_of_a_label_lies_beside_the_mask(mask, describe, tmp_path):
    path = write_label_meanings(mask, describe(label_meanings={"1": SPLEEN}).label_meanings, tmp_path)
    assert path == tmp_path / "1.2.3.labels.json"
    (label,) = json.loads(path.read_text())["labels"]
    assert (label["value"], label["name"], label["rgb"]) == (1, "Spleen", [157, 108, 162])
    assert label["type"] == {"value": "78961009", "scheme": "SCT", "meaning": "Spleen"}
    assert label["category"]["meaning"] == "Anatomical Structure"
    assert "region" not in label
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_that_says_nothing_of_its_labels_leaves_no_file(mask, tmp_path):
    assert write_label_meanings(mask, {}, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_told(mask, describe, tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*1\.2\.3\.labels\.json: No such file"):
        write_label_meanings(mask, describe(label_meanings={"1": SPLEEN}).label_meanings, tmp_path / "gone")
