"""What a mask holds: the volume of each label, and how far it agrees with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.volume.labels import Code, Label
from stages.volume.overlap import dice

if TYPE_CHECKING:
    from stages.volume.volume import Volume


@dataclass(frozen=True, kw_only=True)
class LabelMeasurement:
    """A label of the mask.

    Attributes
    ----------
    label
        Its value.
    name, type, region, rgb
        What it means; ``label 5`` without codes where nobody said.
    volume_ml
        Its volume.
    dice
        Overlap with the truth, from 0 to 1; None where there is no truth of the same thing.
    """

    label: int
    name: str
    type: Code | None
    region: Code | None
    rgb: tuple[int, int, int]
    volume_ml: float
    dice: float | None


def compare(
    mask: Volume, labels: Sequence[Label], nameless: Sequence[int] = (), *, truth: Volume | None = None
) -> list[LabelMeasurement]:
    """Return volume and Dice of each label that is spoken of.

    Labels of the mask and of the truth are compared by what they mean, whatever their values are; where
    several mean the same, such as the left and the right lung, those of the same name.

    Parameters
    ----------
    mask, labels
        The mask and the labels that are spoken of.
    nameless
        Values that nobody gave a meaning to; they are measured, and compared with nothing.
    truth
        On the mask's grid; its origin says what its labels mean.
    """
    found = [
        LabelMeasurement(
            label=label.value,
            name=label.name,
            type=label.type,
            region=label.region,
            rgb=label.drawn_rgb,
            volume_ml=_volume_ml(mask, label.value),
            dice=None if truth is None else _dice_by_meaning(mask, label, truth, labels),
        )
        for label in labels
    ]
    found += [
        LabelMeasurement(
            label=value,
            name=f"label {value}",
            type=None,
            region=None,
            rgb=_COLOURS_WITHOUT_MEANING[value % len(_COLOURS_WITHOUT_MEANING)],
            volume_ml=_volume_ml(mask, value),
            dice=None,
        )
        for value in nameless
    ]
    return sorted(found, key=lambda finding: finding.label)


_COLOURS_WITHOUT_MEANING = ((90, 160, 255), (200, 120, 255), (60, 220, 220), (255, 140, 190), (190, 220, 80))


def _volume_ml(mask: Volume, value: int) -> float:
    return round(int((mask.array == value).sum()) * mask.voxel_volume_mm3 / 1000, 6)


def _dice_by_meaning(mask: Volume, label: Label, truth: Volume, labels: Sequence[Label]) -> float | None:
    """Return the Dice with the truth of the same thing; where there are several, of the same name."""
    same = [other for other in truth.origin.labels if label.same_thing(other)]
    if len(same) > 1 or sum(label.same_thing(own) for own in labels) > 1:
        same = [other for other in same if other.name == label.name]
    if len(same) != 1:
        return None
    return round(dice(mask.array == label.value, truth.array == same[0].value), 4)
