"""Which of TotalSegmentator's weights are what: facts that its folders do not hold.

References
----------
TotalSegmentator 2 (Apache-2.0): ``python_api.py`` for datasets, spacings and steps, ``map_to_binary.py`` for
the classes, ``nnunet.py`` for what happens to images and masks, README.md for the licences.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

OPEN = "Apache-2.0, as TotalSegmentator says of the weights of this task"
RESTRICTED = "not open: TotalSegmentator asks for a licence of its own for the weights of this task"

_NAMED = re.compile(r"Dataset(\d+)_(?:TotalSegmentator|body|vertebrae_body|face|tissue_types)\w*")


def _sided(name: str) -> tuple[str, str]:
    return f"{name}_left", f"{name}_right"


_ORGANS = (
    *("spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach", "pancreas"),
    *("adrenal_gland_right", "adrenal_gland_left", "lung_upper_lobe_left", "lung_lower_lobe_left"),
    *("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right", "esophagus", "trachea"),
    *("thyroid_gland", "small_bowel", "duodenum", "colon", "urinary_bladder", "prostate"),
    *_sided("kidney_cyst"),
)
_VERTEBRAE = (
    *("sacrum", "vertebrae_S1"),
    *(f"vertebrae_L{n}" for n in range(5, 0, -1)),
    *(f"vertebrae_T{n}" for n in range(12, 0, -1)),
    *(f"vertebrae_C{n}" for n in range(7, 0, -1)),
)
_CARDIAC = (
    *("heart", "aorta", "pulmonary_vein", "brachiocephalic_trunk"),
    *("subclavian_artery_right", "subclavian_artery_left"),
    *("common_carotid_artery_right", "common_carotid_artery_left"),
    *_sided("brachiocephalic_vein"),
    *("atrial_appendage_left", "superior_vena_cava", "inferior_vena_cava", "portal_vein_and_splenic_vein"),
    *_sided("iliac_artery"),
    *_sided("iliac_vena"),
)
_MUSCLES = (
    *(each for name in ("humerus", "scapula", "clavicula", "femur", "hip") for each in _sided(name)),
    "spinal_cord",
    *(f"gluteus_{name}_{side}" for name in ("maximus", "medius", "minimus") for side in ("left", "right")),
    *_sided("autochthon"),
    *_sided("iliopsoas"),
    *("brain", "skull"),
)
_RIBS = (
    *(f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13)),
    *("sternum", "costal_cartilages"),
)
TOTAL = (*_ORGANS, *_VERTEBRAE, *_CARDIAC, *_MUSCLES, *_RIBS)
"""The classes of the task ``total``; the first is label 1."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A set of weights of TotalSegmentator.

    Attributes
    ----------
    name
        Of the task, and of the part.
    spacing_mm
        What it resamples to along each axis.
    classes
        Of its channels after the background.
    first
        Label of the first class in the result.
    step
        Share of a window from one to the next.
    licence
        Of its weights.
    is_part
        Whether others belong to the same result.
    """

    name: str
    spacing_mm: float
    classes: tuple[str, ...]
    first: int = 1
    step: float = 0.5
    licence: str = OPEN
    is_part: bool = False


def _part(name: str, classes: tuple[str, ...]) -> Task:
    first = TOTAL.index(classes[0]) + 1
    return Task(name=f"total_{name}", spacing_mm=1.5, classes=classes, first=first, step=0.8, is_part=True)


TASKS = {
    291: _part("organs", _ORGANS),
    292: _part("vertebrae", _VERTEBRAE),
    293: _part("cardiac", _CARDIAC),
    294: _part("muscles", _MUSCLES),
    295: _part("ribs", _RIBS),
    297: Task(name="total_3mm", spacing_mm=3.0, classes=TOTAL),
    298: Task(name="total_6mm", spacing_mm=6.0, classes=TOTAL),
    303: Task(name="face", spacing_mm=1.5, classes=("face",), licence=RESTRICTED),
    305: Task(
        name="vertebrae_body",
        spacing_mm=1.5,
        classes=("vertebrae_body", "intervertebral_discs"),
        licence=RESTRICTED,
    ),
    481: Task(
        name="tissue_types",
        spacing_mm=1.5,
        classes=("subcutaneous_fat", "torso_fat", "skeletal_muscle"),
        licence=RESTRICTED,
    ),
}
"""By the number of its dataset; tasks that crop by another model's mask, or of MR, are not among them."""

PARTS = tuple(number for number, task in TASKS.items() if task.is_part)


def dataset_number(folder: Path) -> int | None:
    """Return the number of a dataset of TotalSegmentator; None for another folder.

    Parameters
    ----------
    folder
        Such as ``Dataset291_TotalSegmentator_part1_organs_1559subj``.
    """
    found = _NAMED.fullmatch(folder.name)
    return int(found[1]) if found else None
