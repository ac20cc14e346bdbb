"""What the labels of a mask mean: said by the mask or stated beside it, never guessed."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest

from dicom_writer import write_results
from dicom_writer.__main__ import with_labels
from stages import Algorithm, InputError
from stages.volume.labels import Code, Label
from tests import phantoms
from tests.phantoms import LABELS

SPLEEN_AND_CYST = (
    Label(value=5, name="Spleen", type=Code("78961009", "SCT", "Spleen"), rgb=(157, 108, 162)),
    Label(
        value=7,
        name="Kidney cyst",
        type=Code("367643001", "SCT", "Cyst"),
        category=Code("49755003", "SCT", "Morphologically Abnormal Structure"),
        region=Code("64033007", "SCT", "Kidney"),
        rgb=(1, 2, 3),
    ),
)
SPLEEN = replace(SPLEEN_AND_CYST[0], value=1)


def mask_of(array, *, values=(), labels=(), model="organs"):
    """Return a mask whose JSON says so much of its labels."""
    mask = phantoms.mask(array, meanings=labels)
    algorithm = Algorithm(name=model, version="1")
    return replace(mask, origin=replace(mask.origin, label_values=values, algorithm=algorithm))


def named(paths):
    return [segment.SegmentLabel for segment in pydicom.dcmread(paths[0]).SegmentSequence]


def test_values_with_gaps_become_segments_from_1_and_keep_their_value_in_a_label_map(written, tmp_path):
    array = phantoms.labels()
    array[array == 2] = 7
    array[array == 1] = 5
    path = written(array, labels=SPLEEN_AND_CYST)
    dataset = pydicom.dcmread(path)
    assert [(s.SegmentNumber, s.SegmentLabel) for s in dataset.SegmentSequence] == [
        (1, "Spleen"),
        (2, "Kidney cyst"),
    ]
    assert np.array_equal(phantoms.read_back(path), phantoms.labels())
    dataset = pydicom.dcmread(written(array, labels=SPLEEN_AND_CYST, results=["labelmap"]))
    assert [s.SegmentNumber for s in dataset.SegmentSequence] == [5, 7]
    assert np.array_equal(dataset.pixel_array, array[1:3])


def test_only_what_the_model_can_give_is_spoken_of(source, tmp_path):
    mask = mask_of((phantoms.labels() > 0).astype(np.uint8), values=(1,), labels=LABELS)
    paths = write_results(mask, source, tmp_path / "out")
    assert named(paths) == ["Liver"]
    assert pydicom.dcmread(paths[0]).SeriesDescription == "AI segmentation: Liver"


def test_what_the_model_can_give_and_did_not_find_is_said_to_be_absent(source, tmp_path, empty):
    mask = mask_of(empty, values=(1, 2), labels=LABELS)
    paths = write_results(mask, source, tmp_path / "out")
    assert named(paths) == ["Liver", "Liver tumour"]
    assert pydicom.dcmread(paths[0]).SeriesDescription.endswith("No liver or liver tumour found")


@pytest.mark.parametrize("array", [phantoms.labels(), np.zeros(phantoms.SHAPE, np.uint8)])
def test_a_label_without_a_meaning_is_refused_also_where_no_voxel_has_it(source, tmp_path, array):
    mask = mask_of(array, values=(1, 2), labels=LABELS[:1])
    with pytest.raises(InputError, match="nobody said what label 2 of the mask means") as caught:
        write_results(mask, source, tmp_path / "out")
    for place in ("label_meanings in the config.pbtxt of model 'organs'", "values.yaml", "--labels FILE"):
        assert place in str(caught.value)
    assert caught.value.exit_code == 3
    assert not (tmp_path / "out").exists()


def test_a_mask_of_which_nobody_said_anything_is_refused(source, tmp_path):
    with pytest.raises(InputError, match="nobody said what the labels of the mask mean; say it"):
        write_results(phantoms.mask(meanings=()), source, tmp_path / "out")


def test_a_voxel_that_the_model_cannot_give_is_refused(source, tmp_path):
    mask = mask_of(phantoms.labels(), values=(1,), labels=LABELS[:1])
    with pytest.raises(InputError, match=r"values \[2\], known are \[0, 1\], which are all"):
        write_results(mask, source, tmp_path / "out")


def test_sides_that_are_swapped_by_what_is_stated_are_told_though_their_code_is_the_same(
    source, tmp_path, caplog
):
    left = replace(SPLEEN, name="Left lung", type=Code("39607008", "SCT", "Lung"))
    right = replace(left, value=2, name="Right lung")
    stated = [replace(left, value=2), replace(right, value=1)]
    mask = mask_of(phantoms.labels(), values=(1, 2), labels=(left, right))
    assert named(write_results(mask, source, tmp_path / "out", labels=stated)) == ["Right lung", "Left lung"]
    assert "label 1 is written as Right lung, as stated; what made the mask calls it Left lung" in caplog.text


def test_what_is_stated_takes_precedence_label_by_label_and_a_contradiction_is_told(source, tmp_path, caplog):
    mask = mask_of(phantoms.labels(), values=(1, 2), labels=LABELS)
    paths = write_results(mask, source, tmp_path / "out", labels=[SPLEEN])
    assert named(paths) == ["Spleen", "Liver tumour"]
    assert "label 1 is written as Spleen, as stated; what made the mask calls it Liver" in caplog.text


def test_nothing_is_said_of_a_stated_label_that_the_model_cannot_give(source, tmp_path):
    mask = mask_of((phantoms.labels() > 0).astype(np.uint8), values=(1,), labels=LABELS[:1])
    assert named(write_results(mask, source, tmp_path / "out", labels=SPLEEN_AND_CYST)) == ["Liver"]


def test_the_workflow_speaks_where_the_mask_does_not_and_the_mask_counts_more():
    cyst = SPLEEN_AND_CYST[1]
    mask = mask_of(phantoms.labels(), values=(1, 7), labels=[SPLEEN])
    known = with_labels(mask, [LABELS[0], cyst]).origin.labels
    assert [(label.value, label.name) for label in known] == [(1, "Spleen"), (7, "Kidney cyst")]
    foreign = with_labels(phantoms.mask(meanings=()), LABELS)
    assert foreign.origin.labels == LABELS
