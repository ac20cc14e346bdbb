"""Names of labels get the codes that the table has, and no others."""

import csv
import re
from pathlib import Path

import pytest
from pydicom.sr._concepts_dict import concepts

from clara_wf.model_import import anatomy
from clara_wf.model_import.anatomy import meaning_of, meanings_of
from stages.volume.labels import ANATOMICAL_STRUCTURE, Code, Label

LEFT = {"value": "7771000", "meaning": "Left"}


@pytest.mark.parametrize(
    ("name", "code", "side"),
    [
        ("liver", "10200004", None),
        ("Liver Tumour", "108369006", None),
        ("cancer", "108369006", None),
        ("kidney_left", "64033007", LEFT),
        ("Left Kideny", "64033007", LEFT),  # so written in the public zoo
        ("left adrenal gland", "23451007", LEFT),
        ("Portal and Splenic Veins", "110765007", None),
        ("IVC", "64131007", None),
        ("rib_left_7", "24915002", LEFT),
        ("vertebrae_T12", "23215003", None),
        ("heart_ventricle_left", "87878005", None),  # its concept says the side
    ],
)
def test_names_are_found(name, code, side):
    meaning = meaning_of(name, 1)
    assert meaning["type"]["value"] == code
    assert meaning.get("modifier") == side


def test_a_lesion_is_one_in_its_organ():
    meaning = meaning_of("kidney_cyst_left", 23)
    assert meaning["category"]["value"] == "49755003"
    assert (meaning["region"]["value"], meaning["modifier"]) == ("64033007", LEFT)


@pytest.mark.parametrize("name", ["organs", "label 3", "lateral", ""])
def test_no_code_is_guessed(name):
    assert meanings_of({4: name}) == ({}, ((4, name),))


def test_meanings_are_whole():
    left, right = (
        Label(
            value=value,
            name=meaning["name"],
            type=Code(meaning["type"]["value"], meaning=meaning["type"]["meaning"]),
            rgb=tuple(meaning["rgb"]),
            modifier=Code(meaning["modifier"]["value"], meaning=meaning["modifier"]["meaning"]),
        )
        for value, meaning in ((2, meaning_of("kidney_right", 2)), (3, meaning_of("kidney_left", 3)))
    )
    assert left.category == ANATOMICAL_STRUCTURE
    assert not left.same_thing(right)


def meanings_in_dicom():
    """Return by code of SNOMED CT all that DICOM PS3.16 calls it, as pydicom has it."""
    found = {}
    for terms in concepts["SCT"].values():
        for code, (meaning, _) in terms.items():
            found.setdefault(code, []).append(meaning.lower())
    return found


def codes_of_table():
    text = Path(anatomy.__file__).with_suffix(".csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        yield row["name"], row["code"], row["meaning"].lower()
        if row["region"]:
            yield row["name"], row["region"], row["region_meaning"].lower()


@pytest.mark.parametrize("side", ["left", "right"])
def test_codes_have_the_side_in_dicom_that_they_have_here(side):
    known = meanings_in_dicom()
    table = [each for each in codes_of_table() if each[1] in known]
    assert len(table) > 100
    assert [each for each in table if (side in " ".join(known[each[1]])) != (side in each[2])] == []


def test_codes_mean_in_dicom_what_they_mean_here():
    known, left = meanings_in_dicom(), []
    for name, code, meaning in codes_of_table():
        if code in known and not any(stem(meaning) & stem(each) for each in known[code]):
            left.append((name, meaning, known[code]))
    assert left == []


def stem(meaning):
    """Return the beginnings of the words that say something."""
    return {word[:4] for word in re.findall("[a-z0-9]+", meaning)} - {"stru", "body", "of"}
