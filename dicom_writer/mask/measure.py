"""What a label measures: its volume, its centroid and the box around it, in patient coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages import OutputError
from stages.volume.geometry import spacing_of
from stages.volume.labels import Label
from stages.volume.original_slices import SliceMasks

TOLERANCE_MM = 0.1
VOLUME_TOLERANCE = 1e-3  # relative; a spacing is written as a decimal of 16 characters

PixelPositions = Callable[[NDArray[Any]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Measurement:
    """What one label measures.

    Attributes
    ----------
    volume_ml
        0 where there is no voxel.
    centroid_mm
        Where its centre of mass lies, LPS mm; None without a voxel.
    box_mm
        The lowest and the highest coordinate of a voxel's centre, LPS mm, shape (2, 3); None without one.
    """

    volume_ml: float
    centroid_mm: NDArray[np.float64] | None
    box_mm: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """What one plane holds of a label: mm3, centroid, and box (2, 3)."""

    mm3: float
    centroid: NDArray[np.float64]
    box: NDArray[np.float64]


def part_of(plane: NDArray[Any], pixel_mm3: float, positions: PixelPositions) -> Part | None:
    """Measure the pixels of a plane that are not 0; None where there are none.

    Parameters
    ----------
    plane
        Shape (rows, columns).
    pixel_mm3
        What one pixel stands for.
    positions
        Takes pixels (..., 2), row and column, to LPS mm.
    """
    if not plane.any():
        return None
    there = plane != 0 if plane.dtype != np.bool_ else plane
    columns = np.flatnonzero(there.any(axis=0))
    first, last = int(columns[0]), int(columns[-1])
    strip = np.ascontiguousarray(there[:, first : last + 1])
    in_rows = np.add.reduce(strip.view(np.uint8), axis=1, dtype=np.uint32)
    in_columns = np.add.reduce(strip.view(np.uint8), axis=0, dtype=np.uint32)
    count = int(in_rows.sum())
    centre = (
        in_rows @ np.arange(len(in_rows)) / count,
        first + in_columns @ np.arange(len(in_columns)) / count,
    )
    rows = np.flatnonzero(in_rows)
    lines = strip[rows]
    left = first + lines.argmax(axis=1)
    right = last - np.ascontiguousarray(lines[:, ::-1]).argmax(axis=1)
    ends = np.stack([np.tile(rows, 2), np.concatenate([left, right])], axis=1)
    at = positions(ends)
    return Part(count * pixel_mm3, positions(np.array(centre)), np.stack([at.min(axis=0), at.max(axis=0)]))


def whole_of(parts: Iterable[Part | None]) -> Measurement:
    """Put the parts of a label together."""
    there = [part for part in parts if part is not None]
    total = sum(part.mm3 for part in there)
    if not total:
        return Measurement(0.0, None)
    centroid = np.sum([part.mm3 * part.centroid for part in there], axis=0) / total
    boxes = np.stack([part.box for part in there])
    return Measurement(total / 1000, centroid, np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)]))


def measure_masks(masks: SliceMasks, value: int) -> Measurement:
    """Measure a label of a mask through the affine of its volume."""
    _, row_mm, column_mm = spacing_of(masks.affine)
    thickness = masks.thickness_mm

    def part(n: int, plane: NDArray[np.uint8]) -> Part | None:
        pixel_mm3 = row_mm * column_mm * float(thickness[n])
        return part_of(plane == value, pixel_mm3, lambda pixels: masks.positions(n, pixels))

    return whole_of(part(n, plane) for n, plane in enumerate(masks.array))


def require_same_measurements(
    written: Mapping[int, Measurement],
    meant: Mapping[int, Measurement],
    labels: Sequence[Label],
    *,
    what: str = "segment",
    volume_tolerance: float = VOLUME_TOLERANCE,
    tolerance_mm: float = TOLERANCE_MM,
) -> None:
    """Refuse a result that measures something else than the mask.

    Parameters
    ----------
    written, meant
        What each label measures, by its value: in the file, and in the mask.
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
