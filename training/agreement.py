"""How far a mask agrees with labels: overlap, volume and distance between the surfaces, label by label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

from stages import Volume
from stages.volume.overlap import dice

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class LabelAgreement:
    """One label of one volume.

    Attributes
    ----------
    dice
        Overlap from 0 to 1; None where the truth has none of it.
    true_ml, found_ml
        Volumes.
    surface_95_mm
        The larger of the two 95 % quantiles of the distance from one surface to the other (95 % Hausdorff
        distance); None where either has none of it.
    """

    dice: float | None
    true_ml: float
    found_ml: float
    surface_95_mm: float | None

    @property
    def volume_error(self) -> float | None:
        """(found - true) / true; None where there is nothing to find."""
        return (self.found_ml - self.true_ml) / self.true_ml if self.true_ml else None

    def __str__(self) -> str:
        """Part of a line of a report."""
        volumes = f"{self.found_ml:.1f} ml of {self.true_ml:.1f} ml"
        if self.dice is None:
            return f"none there, {self.found_ml:.1f} ml found"
        surface = "-" if self.surface_95_mm is None else f"{self.surface_95_mm:.1f} mm"
        return f"Dice {self.dice:.3f}, {volumes} ({self.volume_error:+.1%}), 95 % surface {surface}"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """A mask beside the truth; the liver includes the tumours in it."""

    name: str
    liver: LabelAgreement
    tumour: LabelAgreement

    def __str__(self) -> str:
        """Return one line of a report."""
        return f"{self.name}: liver {self.liver}; tumour {self.tumour}"


def agreement(
    mask: Volume, labels: NDArray[np.integer], *, liver: int = 1, tumour: int | None = 2
) -> Agreement:
    """Compare a mask (1 liver, 2 tumour) with labels of the given values on the same grid."""
    found = np.asarray(mask.array)
    is_tumour = labels == tumour if tumour is not None else np.zeros(labels.shape, bool)
    spacing = mask.spacing
    return Agreement(
        name=mask.origin.series_instance_uid,
        liver=compare(found > 0, (labels == liver) | is_tumour, spacing),
        tumour=compare(found == 2, is_tumour, spacing),
    )


def compare(found: Mask, truth: Mask, spacing_mm: Sequence[float]) -> LabelAgreement:
    """Compare two masks on one grid."""
    ml = float(np.prod(spacing_mm)) / 1000
    there = bool(truth.any())
    return LabelAgreement(
        dice=dice(found, truth) if there else None,
        true_ml=float(truth.sum()) * ml,
        found_ml=float(found.sum()) * ml,
        surface_95_mm=surface_distance(found, truth, spacing_mm) if there and bool(found.any()) else None,
    )


def surface_distance(
    first: Mask, second: Mask, spacing_mm: Sequence[float], *, quantile: float = 0.95
) -> float:
    """Return the larger of the two directed quantiles of distances between surfaces, mm.

    A surface is what of a mask has a face to the outside; where it meets the edge of the image it has none.
    """
    either = np.nonzero(first | second)
    box = tuple(slice(max(0, int(a.min()) - 1), int(a.max()) + 2) for a in either)
    surfaces = [mask[box] & ~binary_erosion(mask[box], border_value=1) for mask in (first, second)]
    directed = []
    for one, other in (surfaces, surfaces[::-1]):
        if not one.any() or not other.any():
            return float("nan")
        distances = distance_transform_edt(~other, sampling=spacing_mm)
        directed.append(float(np.quantile(distances[one], quantile)))
    return max(directed)


def summary(results: Sequence[Agreement]) -> str:
    """Means over many volumes."""
    lines = []
    for name in ("liver", "tumour"):
        each: list[LabelAgreement] = [getattr(result, name) for result in results]
        there = [label for label in each if label.dice is not None]
        scores = [label.dice for label in there if label.dice is not None]
        if not scores:
            continue
        errors = [abs(label.volume_error) for label in there if label.volume_error is not None]
        surfaces = [label.surface_95_mm for label in there if label.surface_95_mm is not None]
        lines.append(
            f"{name}: Dice mean {np.mean(scores):.3f}, median {np.median(scores):.3f}, "
            f"min {min(scores):.3f}; "
            f"volume error median {np.median(errors):.1%}; 95 % surface median {np.median(surfaces):.1f} mm "
            f"({len(scores)} volumes)"
        )
    without = [result.tumour.found_ml for result in results if result.tumour.dice is None]
    if without:
        lines.append(f"without tumours: {np.mean(without):.1f} ml found on average ({len(without)} volumes)")
    return "\n".join(lines)
