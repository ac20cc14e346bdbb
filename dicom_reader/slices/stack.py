"""The geometry gate: slices become a stack on a regular grid, or are refused with millimetres.

Order comes from positions along the normal, never from *Instance Number* (0020,0013); spacing comes
from positions, never from *Slice Thickness* (0018,0050).

References
----------
DICOM PS3.3 C.7.6.2.1.1, Image Position and Image Orientation; PS3.3 10.7.1.3, Pixel Spacing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_reader.files.headers import ImageHeader
from dicom_reader.slices.duplicates import drop_duplicates
from dicom_reader.slices.slice import COSINE_TOLERANCE, Slice, normal_of
from dicom_reader.slices.spacing import TOLERANCE_MM, SliceSpacing, find_spacing
from stages import GeometryError, Grid

MAX_TILT_DEGREES = 45.0
_OFF_LINE = 0.1  # of a pixel


@dataclass(frozen=True)
class Stack:
    """Slices in the order of the volume, and the grid they form or are put on.

    Attributes
    ----------
    slices
        From the lowest along the normal to the highest.
    grid
        Of the volume.
    kinds
        What must be corrected for the slices to lie on the grid; empty when they do.
    first_pixels
        Where the first pixel of each slice lies: index (slice, row, column) on the grid.
    repairs
        One sentence for each correction, and for each file that was left out.
    """

    slices: list[Slice]
    grid: Grid
    kinds: tuple[str, ...]
    first_pixels: tuple[tuple[float, float, float], ...]
    repairs: tuple[str, ...]


def stack_slices(
    headers: Sequence[ImageHeader],
    *,
    tolerance_mm: float = TOLERANCE_MM,
    fill_missing: int = 0,
    left_out: str = "",
) -> Stack:
    """Return the slices of one series in order along their common normal, toward Superior for axial slices.

    Parameters
    ----------
    headers
        Single-frame images of one series, in any order.
    tolerance_mm
        How far a slice may lie from where a regular stack would have it; more is corrected.
    fill_missing
        How many slices in a row may be missing and are interpolated.
    left_out
        Which images of the series are not among the slices, in words for a refusal; empty if none.

    Raises
    ------
    InputError
        If an attribute is missing or no sensible number, naming file and attribute.
    GeometryError
        If the slices are no stack: one slice only, one instance with two contents, two slices at one
        position, mixed orientation, matrix or pixel spacing, slices shifted aside, a missing slice.
        The message names slices and millimetres.
    """
    slices, duplicates = drop_duplicates([Slice.from_header(header) for header in headers])
    _refuse_single(slices, left_out)
    _refuse_mixed(slices)
    normal = normal_of(slices[0].orientation)
    positions = np.array([s.position for s in slices])
    order = np.argsort(positions @ normal, kind="stable")
    slices = [slices[n] for n in order]
    positions = positions[order] - positions[order[0]]
    along = positions @ normal
    _refuse_shared_positions(slices, along, tolerance_mm)
    tilt = _tilt(slices, positions, along, normal, tolerance_mm)
    spacing = find_spacing(
        along,
        name_pair=lambda n: _pair(slices, n),
        tolerance_mm=tolerance_mm,
        fill_missing=fill_missing,
        left_out=left_out,
    )
    return _on_grid(
        slices, spacing, normal, positions if tilt else np.zeros_like(positions), (tilt, duplicates)
    )


def _on_grid(
    slices: list[Slice],
    spacing: SliceSpacing,
    normal: NDArray[np.float64],
    aside: NDArray[np.float64],
    repairs: tuple[str, Sequence[str]],
) -> Stack:
    """Return the stack whose grid is wide enough for every slice."""
    first = slices[0]
    tilt, duplicates = repairs
    cosines = np.reshape(first.orientation, (2, 3))[::-1]  # along a column (rows grow), along a row
    offsets = aside @ cosines.T / first.pixel_spacing
    offsets[:, np.ptp(offsets, axis=0) * first.pixel_spacing <= TOLERANCE_MM / np.sqrt(2)] = 0  # of two axes
    lowest = offsets.min(axis=0)
    lowest -= np.ceil(offsets[0] - lowest - 1e-6) - (offsets[0] - lowest)  # the first slice keeps its pixels
    offsets -= lowest
    affine = np.eye(4)
    affine[:3, 0] = spacing.step_mm * normal
    affine[:3, 1:3] = (cosines * np.reshape(first.pixel_spacing, (2, 1))).T
    affine[:3, 3] = np.asarray(first.position) + affine[:3, 1:3] @ lowest
    rows, columns = (
        n + int(np.floor(widest + 0.5)) for n, widest in zip(first.matrix, offsets.max(axis=0), strict=True)
    )
    indices = np.column_stack([spacing.indices, offsets])
    return Stack(
        slices,
        Grid((spacing.count, rows, columns), affine),
        (*(("gantry tilt",) if tilt else ()), *spacing.kinds),
        tuple((float(k), float(r), float(c)) for k, r, c in indices),
        (*duplicates, *((tilt,) if tilt else ()), *spacing.repairs),
    )


def _refuse_single(slices: Sequence[Slice], left_out: str) -> None:
    if len(slices) < 2:
        raise GeometryError(
            f"the series has one slice only ({slices[0].header.name}), so its spacing is unknown; "
            f"at least 2 slices make a volume{f'; {left_out}' if left_out else ''}"
        )


def _refuse_mixed(slices: Sequence[Slice]) -> None:
    first = slices[0]
    for s in slices[1:]:
        if s.matrix != first.matrix:
            raise _mixed("a matrix", first, s, first.matrix, s.matrix)
        if _differ(s.pixel_spacing, first.pixel_spacing, TOLERANCE_MM / max(s.matrix)):
            raise _mixed("a pixel spacing (mm)", first, s, first.pixel_spacing, s.pixel_spacing)
        if _differ(s.orientation, first.orientation, COSINE_TOLERANCE):
            raise _mixed("an orientation", first, s, first.orientation, s.orientation)


def _differ(a: tuple[float, ...], b: tuple[float, ...], tolerance: float) -> bool:
    return a != b and max(abs(x - y) for x, y in zip(a, b, strict=True)) > tolerance


def _mixed(what: str, first: Slice, other: Slice, a: object, b: object) -> GeometryError:
    return GeometryError(
        f"{first.header.name} has {what} of {a}, {other.header.name} of {b}; "
        "the slices of a volume share one, split the series"
    )


def _refuse_shared_positions(
    slices: Sequence[Slice], along: NDArray[np.float64], tolerance_mm: float
) -> None:
    shared = np.flatnonzero(np.diff(along) <= tolerance_mm)
    if not len(shared):
        return
    n = int(shared[0])
    more = f" ({len(shared)} such pairs)" if len(shared) > 1 else ""
    raise GeometryError(
        f"{_pair(slices, n)} lie at the same position, {along[n + 1] - along[n]:.3f} mm apart{more}; "
        "the series holds several stacks (phases, reconstructions) that no attribute looked at tells apart "
        "(docs/reference/geometry.md lists them), split it"
    )


def _tilt(
    slices: Sequence[Slice],
    positions: NDArray[np.float64],
    along: NDArray[np.float64],
    normal: NDArray[np.float64],
    tolerance_mm: float,
) -> str:
    """Return by how much slices advance sideways, in words; empty where they do not."""
    aside = positions - np.outer(along, normal)
    distance = np.linalg.norm(aside, axis=1)
    if distance.max() <= tolerance_mm:
        return ""
    slope = aside[-1] / along[-1]
    off_line = np.linalg.norm(aside - np.outer(along, slope), axis=1)
    if off_line.max() > max(tolerance_mm, _OFF_LINE * min(slices[0].pixel_spacing)):
        worst = int(np.argmax(off_line if distance[-1] > tolerance_mm else distance))
        raise GeometryError(
            f"{_name(slices, worst)} lies {off_line[worst]:.2f} mm aside of the line through the other "
            "slices; the slices were not taken in one scan"
        )
    degrees = float(np.degrees(np.arctan(np.linalg.norm(slope))))
    if degrees > MAX_TILT_DEGREES:
        raise GeometryError(
            f"the slices advance {along[-1]:.2f} mm along their normal and {distance[-1]:.2f} mm sideways: a "
            f"gantry does not tilt by {degrees:.1f} degrees; their positions or orientation are wrong"
        )
    return (
        f"gantry tilt of {degrees:.1f} degrees corrected: slices moved sideways by up to "
        f"{distance.max():.2f} mm onto a right-angled grid"
    )


def _name(slices: Sequence[Slice], n: int) -> str:
    return f"slice {n + 1} ({slices[n].header.name})"


def _pair(slices: Sequence[Slice], n: int) -> str:
    return f"slices {n + 1} and {n + 2} ({slices[n].header.name}, {slices[n + 1].header.name})"
