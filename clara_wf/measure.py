"""What a mask holds: the volume of each label, and how far it agrees with the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.volume import Volume

LABEL_NAMES = {1: "liver", 2: "tumour"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A label of the mask.

    Attributes
    ----------
    volume_ml
        Its volume.
    dice
        Overlap with the truth, from 0 to 1; None where there is no truth.
    """

    label: int
    name: str
    volume_ml: float
    dice: float | None


def compare(mask: Volume, truth: Volume | None) -> list[Finding]:
    """Return volume and Dice of each label."""
    true_labels = truth.array if truth is not None else None
    return [
        Finding(
            label=label,
            name=name,
            volume_ml=round(int((mask.array == label).sum()) * mask.voxel_volume_mm3 / 1000, 3),
            dice=None if true_labels is None else dice(mask.array == label, true_labels == label),
        )
        for label, name in LABEL_NAMES.items()
    ]


def dice(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """Return 2 |A and B| / (|A| + |B|); 1 if both are empty (Dice, Ecology 1945)."""
    total = int(found.sum()) + int(true.sum())
    return round(2 * int((found & true).sum()) / total, 4) if total else 1.0
