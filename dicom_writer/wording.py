"""What captures and pages say in words: one line a label, and one a lesion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicom_writer.lesions import Lesion

if TYPE_CHECKING:
    from dicom_writer.results import Given

NOTICE = "Made by software, not verified by a physician"


@dataclass(frozen=True)
class Line:
    """What is said of one label.

    Attributes
    ----------
    rgb
        Its colour, as it is drawn.
    name, said
        Of the label, and of what was found: ``12.3 ml, 2 lesions``.
    """

    rgb: tuple[int, int, int]
    name: str
    said: str


def lines(given: Given) -> list[Line]:
    """Return what is said of each label."""
    counts = {found.label.value: found.count for found in given.lesions}
    found = []
    for label in given.labels:
        ml = given.measured[label.value].volume_ml
        said = volume(ml) if ml else "examined, none found"
        if ml and label.value in counts:
            count = counts[label.value]
            said += f", {count} {'lesion' if count == 1 else 'lesions'}"
        found.append(Line(label.drawn_rgb, label.name, said))
    return found


def largest(given: Given, most: int) -> Iterator[tuple[Lesion, str]]:
    """Yield the largest lesions of all labels and what is said of each: ``3.1 ml, 21.4 mm``."""
    listed = [lesion for found in given.lesions for lesion in found.listed]
    for lesion in sorted(listed, key=lambda one: -one.volume_ml)[:most]:
        yield lesion, f"{volume(lesion.volume_ml)}, longest diameter {lesion.diameter.mm:.1f} mm"


def volume(ml: float) -> str:
    """Return a volume as it is read: one decimal, or two significant digits below 1 ml."""
    return f"{ml:.1f} ml" if ml >= 1 else f"{ml:.2g} ml"
