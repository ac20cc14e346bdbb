"""What the names of labels in foreign models mean: SNOMED CT codes, from a table of facts.

A name that is not in the table gets no meaning: codes are never guessed.

References
----------
``anatomy.csv`` beside this module: SNOMED CT concepts as DICOM PS3.16 has them (CID 7151, 7159 and those that
they include), by the class names of TotalSegmentator, whose ``totalsegmentator_snomed_mapping.csv``
(Apache-2.0) is the source of which concept a class is, but for the subclavian arteries: it has the code of
the right one for both, here it is that of either. Sides are modifiers, PS3.16 CID 244.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).with_suffix(".csv")
_SIDES = {"left": ("7771000", "Left"), "right": ("24028007", "Right")}
_CATEGORIES = {
    "structure": ("123037004", "Anatomical Structure"),
    "abnormality": ("49755003", "Morphologically Abnormal Structure"),
    "object": ("260787004", "Physical object"),
    "tissue": ("85756007", "Tissue"),
}
_SPELLINGS = {
    "tumour": "tumor",
    "tumors": "tumor",
    "tumours": "tumor",
    "cancer": "tumor",
    "hepatic": "liver",
    "pancreatic": "pancreas",
    "oesophagus": "esophagus",
    "kideny": "kidney",  # so written in metadata of the public zoo
    "kidneys": "kidney",
    "lungs": "lung",
    "cysts": "cyst",
    "veins": "vein",
}
"""Of single words in a name."""

_OTHER_NAMES = {
    "gall_bladder": "gallbladder",
    "bladder": "urinary_bladder",
    "ivc": "inferior_vena_cava",
    "postcava": "inferior_vena_cava",
    "portal_and_splenic_vein": "portal_vein_and_splenic_vein",
    "small_intestine": "small_bowel",
    "thyroid": "thyroid_gland",
    "adrenal": "adrenal_gland",
}
"""Of whole names, without their side."""

_LONGEST = 64


def meanings_of(names: Mapping[int, str]) -> tuple[dict[str, Any], tuple[tuple[int, str], ...]]:
    """Return what labels mean, as ``label_meanings`` has it, and those whose names have no code here.

    Parameters
    ----------
    names
        By label, what its model calls it.
    """
    found, unnamed = {}, []
    for label, name in sorted(names.items()):
        meaning = meaning_of(name, label)
        if meaning:
            found[str(label)] = meaning
        else:
            unnamed.append((label, name))
    return found, tuple(unnamed)


def meaning_of(name: str, label: int) -> dict[str, Any] | None:
    """Return what a name means, as ``label_meanings`` has it; None where the table does not know it.

    Parameters
    ----------
    name
        As a model has it, such as ``kidney_left``, ``Left kidney`` or ``liver tumour``.
    label
        Its value, which decides its colour.
    """
    word = _word(name)
    side = ""
    if word not in _table():
        word, side = _without_side(word)
    row = _table().get(word)
    if row is None:
        return None
    shown = " ".join(re.split(r"[\s_]+", name.strip()))
    meaning: dict[str, Any] = {"name": (shown[:1].upper() + shown[1:])[:_LONGEST].strip()}
    if row["category"] != "structure":
        meaning["category"] = _code(*_CATEGORIES[row["category"]])
    meaning["type"] = _code(row["code"], row["meaning"])
    if row["region"]:
        meaning["region"] = _code(row["region"], row["region_meaning"])
    if side:
        meaning["modifier"] = _code(*_SIDES[side])
    meaning["rgb"] = _colour(label)
    return meaning


def _code(value: str, meaning: str) -> dict[str, str]:
    return {"value": value, "meaning": meaning}


def _word(name: str) -> str:
    """Return a name as the table spells names: words joined by underscores, in their usual spelling."""
    parts = re.split(r"[\s_-]+", name.strip().lower())
    word = "_".join(_SPELLINGS.get(part, part) for part in parts)
    return _OTHER_NAMES.get(word, word)


def _without_side(word: str) -> tuple[str, str]:
    """Return a word without its side, and the side; "" where it has none."""
    parts = word.split("_")
    sides = [part for part in parts if part in _SIDES]
    rest = "_".join(part for part in parts if part not in _SIDES)
    return (_OTHER_NAMES.get(rest, rest), sides[0]) if len(sides) == 1 else (word, "")


@cache
def _table() -> dict[str, dict[str, str]]:
    with _TABLE.open(encoding="utf-8", newline="") as file:
        return {row["name"].lower(): row for row in csv.DictReader(file)}


def _colour(label: int) -> tuple[int, int, int]:
    """Return a colour of its own for a label: hues by the golden angle, in three degrees of lightness."""
    hue, light = (label * 0.381966) % 1.0, (0.95, 0.75, 0.85)[label % 3]
    sector, part = divmod(hue * 6, 1)
    low, falling, rising = light * 0.35, light * (1 - 0.65 * part), light * (1 - 0.65 * (1 - part))
    red, green, blue = (
        (light, rising, low),
        (falling, light, low),
        (low, light, rising),
        (low, falling, light),
        (rising, low, light),
        (light, low, falling),
    )[int(sector)]
    return round(red * 255), round(green * 255), round(blue * 255)
