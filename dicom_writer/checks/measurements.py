"""Whether a written result measures what the mask measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dicom_writer.mask.measure import Measurement
from stages import OutputError
from stages.volume.labels import Label

TOLERANCE_MM = 0.1
VOLUME_TOLERANCE = 1e-3  # relative; a spacing is written as a decimal of 16 characters


def require_same_measurements(
    written: Mapping[int, Measurement],
    meant: Mapping[int, Measurement],
    labels: Sequence[Label],
    *,
    what: str = "segment",
    volume_tolerance: float = VOLUME_TOLERANCE,
    tolerance_mm: float = TOLERANCE_MM,
) -> None:
    """Check that a result measures what the mask measures.

    Parameters
    ----------
    written, meant
        What each label measures, by its value: in the file, and in the mask.
    labels
        Which labels are compared.
    what
        What a label is called in the result, such as "segment" or "contour of".
    volume_tolerance
        Relative; how far the volumes may be apart.
    tolerance_mm
        How far centroids, and faces of the boxes, may be apart.

    Raises
    ------
    OutputError
        At the first label that differs; the message says by how much.
    """
    for label in labels:
        have, want = written[label.value], meant[label.value]
        name = f"{what} {label.name}"
        if not abs(have.volume_ml - want.volume_ml) <= volume_tolerance * want.volume_ml:
            raise OutputError(
                f"{name}: {have.volume_ml:.3f} ml were written, the mask has {want.volume_ml:.3f} ml"
            )
        for place, one, other in (
            ("centroid", have.centroid_mm, want.centroid_mm),
            ("bounding box", have.box_mm, want.box_mm),
        ):
            apart = _apart(one, other)
            if not apart <= tolerance_mm:
                raise OutputError(f"{name}: its {place} was written {apart:.2f} mm from that of the mask")


def _apart(one: NDArray[np.float64] | None, other: NDArray[np.float64] | None) -> float:
    if one is None or other is None:
        return 0.0 if one is other else float("inf")
    return float(np.linalg.norm(np.subtract(one, other), axis=-1).max())
