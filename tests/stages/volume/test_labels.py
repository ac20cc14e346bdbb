"""The one type of a label: what may stand in it, and which labels are spoken of."""

from dataclasses import replace

import pytest

from stages import Code, InputError, Label, read_volume, write_volume
from stages.volume.labels import require_named, spoken_of
from tests import phantoms
from tests.phantoms import LABELS

LIVER, TUMOUR = LABELS
SPLEEN = Label(value=1, name="Spleen", type=Code("78961009", "SCT", "Spleen"), rgb=(157, 108, 162))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": ""}, "name: expected 1 to 64 printable ASCII characters"),
        ({"name": "x" * 65}, "name: expected 1 to 64"),
        ({"name": "Leber\\Milz"}, "no backslash"),
        ({"name": "Müller", "rgb": (0, 0, 256)}, r"name: .*; rgb: expected three numbers from 0 to 255"),
        ({"name": " Liver"}, "no blanks around"),
        ({"name": "Li\x1bver"}, "printable"),
        ({"value": 0}, "value: expected 1 to 255, found 0"),
        ({"rgb": (1, 2)}, r"rgb: expected three numbers from 0 to 255, found \[1, 2\]"),
    ],
)
def test_what_cannot_stand_in_every_result_is_no_label(change, said):
    with pytest.raises(ValueError, match=said):
        replace(LIVER, **change)


@pytest.mark.parametrize("parts", [("", "SCT", "Liver"), ("1" * 17, "SCT", "Liver"), ("1", "SCT", "")])
def test_a_code_has_a_short_value_and_a_meaning(parts):
    with pytest.raises(ValueError, match="expected 1 to"):
        Code(*parts)


@pytest.mark.parametrize(
    ("values", "own", "stated", "otherwise", "names", "nameless"),
    [
        ((1, 2), LABELS, (), (), ["Liver", "Liver tumour"], ()),
        ((1,), LABELS, (), (), ["Liver"], ()),
        ((1, 5), LABELS, (), (), ["Liver"], (5,)),
        ((1,), [LIVER], [SPLEEN, TUMOUR], (), ["Spleen"], ()),
        ((1,), [LIVER], (), [SPLEEN], ["Liver"], ()),
        ((), (), (), [SPLEEN], ["Spleen"], ()),
        ((), [LIVER], [TUMOUR], [SPLEEN], ["Liver"], ()),
        ((), (), (), (), [], ()),
    ],
)
def test_the_labels_that_are_spoken_of(values, own, stated, otherwise, names, nameless):
    found, without = spoken_of(values, own, stated=stated, otherwise=otherwise)
    assert ([label.name for label in found], without) == (names, nameless)


@pytest.mark.parametrize(
    ("labels", "nameless", "said"),
    [
        ([LIVER], [5], "nobody said what label 5 of the mask means; say it as label_meanings in"),
        ([], [], "nobody said what the labels of the mask mean"),
        (
            [LIVER, replace(TUMOUR, name="Liver")],
            [],
            "labels 1, 2 of the mask are all called 'Liver'; say it",
        ),
        ([replace(LIVER, name="Liver tumour 2"), TUMOUR], [], "'Liver tumour 2', as a lesion of label 2"),
        ([LIVER], [5, 7], "nobody said what labels 5, 7 of the mask mean"),
    ],
)
def test_labels_without_a_meaning_are_refused(labels, nameless, said):
    with pytest.raises(InputError, match=said):
        require_named(labels, nameless)


def test_things_are_the_same_by_their_codes(tmp_path):
    assert LIVER.same_thing(replace(LIVER, value=9, name="Leber", rgb=(0, 0, 0)))
    assert not TUMOUR.same_thing(replace(TUMOUR, region=None))
    assert not LIVER.same_thing(SPLEEN)


def test_a_mask_keeps_what_its_labels_mean_in_its_json(tmp_path):
    mask = phantoms.mask()
    mask = replace(mask, origin=replace(mask.origin, label_values=(1, 2), warnings=("cut off",)))
    found = read_volume(write_volume(mask, tmp_path)).origin
    assert (found.labels, found.label_values, found.warnings) == (LABELS, (1, 2), ("cut off",))


def test_a_damaged_label_in_the_json_is_told(tmp_path):
    path = write_volume(phantoms.mask(), tmp_path).with_suffix(".json")
    path.write_text(path.read_text().replace('"Liver"', '"Li\\\\ver"', 1))
    with pytest.raises(InputError, match=r"not the description of a volume: .*name: expected 1 to 64"):
        read_volume(path.with_suffix(".mhd"))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (("78961009", "sct"), "scheme: expected the designator 'SCT', found 'sct'"),
        (("78961009", "SNOMED-CT"), "expected the designator 'SCT', found 'SNOMED-CT'"),
        (("T-C3000", "SCT"), "a code of SNOMED CT .SCT. has digits only, found 'T-C3000'"),
        (("789 61009", "SCT"), "has digits only"),
    ],
)
def test_a_code_that_nobody_would_know_is_refused(parts, said):
    with pytest.raises(ValueError, match=said):
        Code(*parts, "Spleen")


def test_other_schemes_are_taken_as_they_are_and_lesions_known_by_the_older_code_too():
    old = Code("M-01000", "SRT", "Morphologically Altered Structure")
    assert replace(TUMOUR, category=old).marks_lesions
    assert Code("C3262", "NCIt", "Neoplasm").scheme == "NCIt"
    assert not replace(TUMOUR, category=Code("1", "99X", "Mine")).marks_lesions
