"""The geometry gate: slices become a stack only when it is regular, and refused with millimetres when not.

Order comes from positions along the normal, never from *Instance Number* (0020,0013); spacing comes
from positions, never from *Slice Thickness* (0018,0050).

References
----------
DICOM PS3.3 C.7.6.2.1.1, Image Position and Image Orientation; PS3.3 10.7.1.3, Pixel Spacing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dicom_reader.headers import Header
from stages import GeometryError, Grid
from stages.geometry import affine_from_slices, slice_normal

TOLERANCE_MM = 0.05
_MAX_MATRIX = 8192
_COSINE_TOLERANCE = 1e-4


@lru_cache(maxsize=64)
def normal_of(orientation: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the normal of an orientation; all slices of a series ask for the same."""
    return slice_normal(orientation)


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One slice and its place.

    Attributes
    ----------
    header
        What it was read from.
    position
        *Image Position (Patient)* (0020,0032), mm.
    orientation
        *Image Orientation (Patient)* (0020,0037), six cosines.
    pixel_spacing
        *Pixel Spacing* (0028,0030): between rows, between columns, mm.
    matrix
        *Rows* (0028,0010) and *Columns* (0028,0011).
    """

    header: Header
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    matrix: tuple[int, int]

    @classmethod
    def from_header(cls, header: Header) -> Slice:
        """Read the place of a slice.

        Raises
        ------
        InputError
            If an attribute is missing or is no number that makes sense, naming file and attribute.
        """
        header.uid("SOPInstanceUID")
        spacing = header.numbers("PixelSpacing", 2)
        if min(spacing) <= 0:
            raise header.refuse("PixelSpacing", f"must be positive, found {spacing}")
        matrix = header.integer("Rows"), header.integer("Columns")
        for keyword, size in zip(("Rows", "Columns"), matrix, strict=True):
            if not 1 < size <= _MAX_MATRIX:
                raise header.refuse(keyword, f"must be 2 to {_MAX_MATRIX}, found {size}")
        orientation = header.numbers("ImageOrientationPatient", 6)
        try:
            normal_of(orientation)
        except GeometryError as error:
            raise GeometryError(f"{header.name}: {error}") from error
        return cls(
            header=header,
            position=header.numbers("ImagePositionPatient", 3),
            orientation=orientation,
            pixel_spacing=spacing,
            matrix=matrix,
        )


@dataclass(frozen=True)
class Stack:
    """Slices in the order of the volume, and the grid they form."""

    slices: list[Slice]
    grid: Grid


def stack_slices(headers: Sequence[Header], *, tolerance_mm: float = TOLERANCE_MM) -> Stack:
    """Order the slices of one series along their common normal, toward Superior for axial slices.

    Parameters
    ----------
    headers
        Single-frame images of one series, in any order.
    tolerance_mm
        How far a slice may lie from where a regular stack would have it.

    Raises
    ------
    InputError
        If an attribute is missing or no sensible number, naming file and attribute.
    GeometryError
        If the slices are no regular stack: one slice only, an instance twice, two slices at one
        position, mixed orientation, matrix or pixel spacing, gantry tilt, a missing slice, uneven
        spacing. The message names slices and millimetres.
    """
    slices = [Slice.from_header(header) for header in headers]
    _refuse_single(slices)
    _refuse_duplicate_instances(slices)
    _refuse_mixed(slices)
    normal = normal_of(slices[0].orientation)
    positions = np.array([s.position for s in slices])
    order = np.argsort(positions @ normal, kind="stable")
    slices = [slices[n] for n in order]
    positions = positions[order]
    along = (positions - positions[0]) @ normal
    problems = _shared_positions(slices, along, tolerance_mm)
    if not problems:
        problems = _sideways(slices, positions, along, normal, tolerance_mm)
        problems += _irregular(slices, along, tolerance_mm)
    if problems:
        raise GeometryError("; ".join(problems))
    last = positions[0] + along[-1] * normal
    affine = affine_from_slices(
        positions[0],
        last,
        len(slices),
        image_orientation=slices[0].orientation,
        pixel_spacing=slices[0].pixel_spacing,
    )
    return Stack(slices, Grid((len(slices), *slices[0].matrix), affine))


def _refuse_single(slices: Sequence[Slice]) -> None:
    if len(slices) < 2:
        raise GeometryError(
            f"the series has one slice only ({slices[0].header.name}), so its spacing is unknown; "
            "at least 2 slices make a volume"
        )


def _refuse_duplicate_instances(slices: Sequence[Slice]) -> None:
    seen: dict[str, Slice] = {}
    for s in slices:
        uid = s.header.uid("SOPInstanceUID")
        if uid in seen:
            raise GeometryError(
                f"{seen[uid].header.name} and {s.header.name} are the same instance ({uid}); "
                "remove one of them"
            )
        seen[uid] = s


def _refuse_mixed(slices: Sequence[Slice]) -> None:
    first = slices[0]
    for s in slices[1:]:
        if s.matrix != first.matrix:
            raise _mixed("a matrix", first, s, first.matrix, s.matrix)
        if _differ(s.pixel_spacing, first.pixel_spacing, TOLERANCE_MM / max(s.matrix)):
            raise _mixed("a pixel spacing (mm)", first, s, first.pixel_spacing, s.pixel_spacing)
        if _differ(s.orientation, first.orientation, _COSINE_TOLERANCE):
            raise _mixed("an orientation", first, s, first.orientation, s.orientation)


def _differ(a: tuple[float, ...], b: tuple[float, ...], tolerance: float) -> bool:
    return a != b and max(abs(x - y) for x, y in zip(a, b, strict=True)) > tolerance


def _mixed(what: str, first: Slice, other: Slice, a: object, b: object) -> GeometryError:
    return GeometryError(
        f"{first.header.name} has {what} of {a}, {other.header.name} of {b}; "
        "the slices of a volume share one, split the series"
    )


def _shared_positions(slices: Sequence[Slice], along: NDArray[np.float64], tolerance_mm: float) -> list[str]:
    shared = np.flatnonzero(np.diff(along) <= tolerance_mm)
    if not len(shared):
        return []
    n = int(shared[0])
    more = f" ({len(shared)} such pairs)" if len(shared) > 1 else ""
    return [
        f"{_pair(slices, n)} lie at the same position, {along[n + 1] - along[n]:.3f} mm apart{more}; "
        "the series holds several stacks (phases, reconstructions) or a slice twice, split it"
    ]


def _sideways(
    slices: Sequence[Slice],
    positions: NDArray[np.float64],
    along: NDArray[np.float64],
    normal: NDArray[np.float64],
    tolerance_mm: float,
) -> list[str]:
    """Find slices that do not lie straight above one another: gantry tilt, or a shift."""
    aside = positions - positions[0] - np.outer(along, normal)
    distance = np.linalg.norm(aside, axis=1)
    worst = int(np.argmax(distance))
    if distance[worst] <= tolerance_mm:
        return []
    slope = aside[-1] / along[-1] if along[-1] > 0 else np.zeros(3)
    if np.linalg.norm(aside - np.outer(along, slope), axis=1).max() <= tolerance_mm:
        degrees = float(np.degrees(np.arctan(np.linalg.norm(slope))))
        return [
            f"gantry tilt of {degrees:.1f} degrees: the slices advance {along[-1]:.2f} mm along their normal "
            f"and {distance[-1]:.2f} mm sideways; reconstruct the series without tilt"
        ]
    return [
        f"{_name(slices, worst)} lies {distance[worst]:.2f} mm aside of the line through {_name(slices, 0)} "
        "along the normal; the slices were not taken in one scan"
    ]


def _irregular(slices: Sequence[Slice], along: NDArray[np.float64], tolerance_mm: float) -> list[str]:
    """Find missing slices and uneven spacing."""
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    lattice = np.linspace(0, along[-1], len(along))
    if np.abs(along - lattice).max() <= tolerance_mm:
        return []
    wide = np.flatnonzero(gaps > usual + max(tolerance_mm, usual / 100))
    narrow = np.flatnonzero(gaps < usual - max(tolerance_mm, usual / 100))
    multiples = gaps[wide] / usual
    if len(wide) and not len(narrow) and np.abs(multiples - np.rint(multiples)).max() < 0.05:
        n = int(wide[0])
        count = round(gaps[n] / usual) - 1
        more = f" ({len(wide)} such gaps)" if len(wide) > 1 else ""
        return [
            f"{_pair(slices, n)} are {gaps[n]:.2f} mm apart, the rest of the series {usual:.2f} mm{more}; "
            f"{count} slice(s) may be missing, send the series again"
        ]
    low, high = int(np.argmin(gaps)), int(np.argmax(gaps))
    return [
        f"uneven spacing: {_pair(slices, low)} are {gaps[low]:.2f} mm apart, {_pair(slices, high)} "
        f"{gaps[high]:.2f} mm; a volume needs one spacing (to {tolerance_mm} mm), "
        "send the series of even spacing"
    ]


def _name(slices: Sequence[Slice], n: int) -> str:
    return f"slice {n + 1} ({slices[n].header.name})"


def _pair(slices: Sequence[Slice], n: int) -> str:
    return f"slices {n + 1} and {n + 2} ({slices[n].header.name}, {slices[n + 1].header.name})"
