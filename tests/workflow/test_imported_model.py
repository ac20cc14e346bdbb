"""An imported model of 24 classes, from DICOM to a segmentation that highdicom opens: all names and codes."""

import json
import shutil
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest

from clara_wf.model_import.anatomy import meaning_of
from clara_wf.model_import.totalsegmentator.tasks import TASKS
from clara_wf.run.demo import write_phantom
from clara_wf.workspace import Places
from phantoms import make_abdomen
from tests.workflow.conftest import ROOT, clara_wf

pytestmark = [pytest.mark.workflow, pytest.mark.triton]

ORGANS = TASKS[291].classes


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a series and a repository with the 24 organs of TotalSegmentator's model of 6 mm."""
    folder = tmp_path_factory.mktemp("imported")
    write_phantom(
        make_abdomen(900_001, shape=(24, 96, 96), spacing_mm=(8.0, 4.0, 4.0)),
        folder / "series",
        truth_folder=folder / "truth",
    )
    (folder / "models").mkdir()
    (weights,) = (ROOT / "tests/frameworks/totalsegmentator").glob("Dataset298_*")
    shutil.copytree(weights, folder / weights.name)
    done = clara_wf(
        *("models", "add", folder / weights.name, "--models", folder / "models", "--name", "organs"),
        *("--only", ",".join(ORGANS)),
    )
    assert done.code == 0, done.err
    return folder


def test_24_classes_come_out_with_their_names_and_codes(place, tmp_path):
    values = tmp_path / "values.yaml"
    args = json.dumps(["", ["--model", "organs"], ["--results", "seg"]])
    text = Places.here({}).values.read_text().replace('args: ["", "", ""]', f"args: {args}", 1)
    assert args in text
    values.write_text(text)
    done = clara_wf(
        *("test", "liver-seg", "--json", "--values", values, "--models", place / "models"),
        *("--input", place / "series", "--payloads", tmp_path / "payloads"),
    )
    assert done.code == 0, done.err
    (path,) = Path(done.report["payload"], "dicom-writer/output").rglob("*.dcm")
    segmentation = hd.seg.segread(path)
    assert segmentation.number_of_segments == 24
    for number, name in enumerate(ORGANS, 1):
        described = segmentation.get_segment_description(number)
        meaning = meaning_of(name, number)
        assert described.segment_label == meaning["name"]
        assert described.segmented_property_type.value == meaning["type"]["value"]
        item = described.SegmentedPropertyTypeCodeSequence[0]
        if "region" in meaning:  # a cyst: the side is that of the kidney
            item = described.AnatomicRegionSequence[0]
            assert item.CodeValue == meaning["region"]["value"]
            sides = item.AnatomicRegionModifierSequence
        else:
            sides = item.get("SegmentedPropertyTypeModifierCodeSequence", [])
        side = [meaning["modifier"]["value"]] if "modifier" in meaning else []
        assert [each.CodeValue for each in sides] == side
    masks = segmentation.get_volume(combine_segments=True, skip_overlap_checks=True)
    assert len(np.unique(masks.array)) > 2
