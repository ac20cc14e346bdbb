"""What a label measures: its volume, its centroid and the box around it, in patient coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages import OutputError, Volume
from stages.volume.geometry import spacing_of
from stages.volume.labels import Label
from stages.volume.original_slices import SliceMasks, on_original_slices

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
class PlaneMeasurement:
    """What one plane holds of a label.

    Attributes
    ----------
    mm3
        Its volume, mm3.
    centroid
        LPS mm, shape (3,).
    box
        The lowest and the highest coordinate of a pixel's centre, LPS mm, shape (2, 3).
    """

    mm3: float
    centroid: NDArray[np.float64]
    box: NDArray[np.float64]


def measure_plane(
    plane: NDArray[Any], pixel_mm3: float, positions: PixelPositions
) -> PlaneMeasurement | None:
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
    return PlaneMeasurement(
        count * pixel_mm3, positions(np.array(centre)), np.stack([at.min(axis=0), at.max(axis=0)])
    )


def combine_planes(planes: Iterable[PlaneMeasurement | None]) -> Measurement:
    """Return what a label measures whose planes measure this.

    Parameters
    ----------
    planes
        What each plane holds of it; None where a plane holds nothing.
    """
    there = [plane for plane in planes if plane is not None]
    total = sum(plane.mm3 for plane in there)
    if not total:
        return Measurement(0.0, None)
    centroid = np.sum([plane.mm3 * plane.centroid for plane in there], axis=0) / total
    boxes = np.stack([plane.box for plane in there])
    return Measurement(total / 1000, centroid, np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)]))


def measure_label(masks: SliceMasks, value: int) -> Measurement:
    """Measure a label of a mask through the affine of its volume.

    Parameters
    ----------
    masks
        Label values on the original slices.
    value
        Of the label.
    """
    _, row_mm, column_mm = spacing_of(masks.affine)
    thickness = masks.thickness_mm

    def measured(n: int, plane: NDArray[np.uint8]) -> PlaneMeasurement | None:
        pixel_mm3 = row_mm * column_mm * float(thickness[n])
        return measure_plane(plane == value, pixel_mm3, lambda pixels: masks.positions(n, pixels))

    return combine_planes(measured(n, plane) for n, plane in enumerate(masks.array))


def require_same_centroids(mask: Volume, masks: SliceMasks, labels: Sequence[Label]) -> None:
    """Check that what was drawn on the original slices lies where the mask on its corrected grid has it.

    Parameters
    ----------
    mask
        Label values on the grid of its volume.
    masks
        The same on the original slices.
    labels
        Which labels.

    Raises
    ------
    OutputError
        If a label is gone, or its centroid lies further away than the thickest slice is thick.
    """
    if mask.origin.correction is None:
        return
    tolerance_mm = float(masks.thickness_mm.max())
    on_grid = on_original_slices(replace(mask, origin=replace(mask.origin, correction=None)))
    for label in labels:
        meant = measure_label(on_grid, label.value).centroid_mm
        drawn = measure_label(masks, label.value).centroid_mm
        if meant is None:
            continue
        apart = np.inf if drawn is None else float(np.linalg.norm(drawn - meant))
        if not apart <= tolerance_mm:
            raise OutputError(
                f"segment {label.name} came to lie {apart:.2f} mm from where the mask has it "
                f"when it was drawn on the original slices; at most {tolerance_mm:.2f} mm are expected"
            )
