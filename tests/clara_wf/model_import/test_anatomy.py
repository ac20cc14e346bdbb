"""Names of labels get the codes that the table has, and no others."""

import pytest

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
