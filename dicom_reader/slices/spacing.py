"""The distances between slices: one spacing, several that one can replace, or slices that are missing.

References
----------
docs/reference/geometry.md has the tolerances and their reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages import GeometryError

TOLERANCE_MM = 0.05
_SAME_SPACING = 0.01  # of the spacing
_STEADY_RUN = 3  # gaps in a row that are a spacing of the scanner's, not an accident
_WHOLE = 0.1  # how near to a multiple of its neighbours a gap is that slices are missing from
_WIDEST = 3.0  # times its neighbours a gap may be that is interpolated
_MOST_PLANES = 4  # for each slice
_MOST_ADVISED = 3  # slices in a row: what is invented between others stays small


@dataclass(frozen=True, eq=False)
class SliceSpacing:
    """Evenly spaced planes, and where the slices lie among them.

    Attributes
    ----------
    step_mm
        Distance between planes.
    count
        How many planes there are; the first and the last are at the first and the last slice.
    indices
        The plane of each slice, a fractional one where the spacing was uneven, shape (slices,).
    kinds
        What was corrected: "missing slices", "uneven spacing".
    repairs
        One sentence for each.
    """

    step_mm: float
    count: int
    indices: NDArray[np.float64]
    kinds: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True)
class _MissingSlices:
    """A gap that slices seem to be missing from."""

    after: int
    mm: float
    neighbour_mm: float

    @property
    def missing(self) -> int:
        return round(self.mm / self.neighbour_mm) - 1


def find_spacing(
    along: NDArray[np.float64],
    *,
    name_pair: Callable[[int], str],
    tolerance_mm: float = TOLERANCE_MM,
    fill_missing: int = 0,
    left_out: str = "",
) -> SliceSpacing:
    """Return the planes of a volume for slices at given heights.

    Parameters
    ----------
    along
        Height of each slice along the normal, mm, growing, the first 0.
    name_pair
        Names slices n and n + 1 for messages.
    tolerance_mm
        How far a slice may lie from where even spacing would have it.
    fill_missing
        How many slices in a row may be missing and are interpolated.
    left_out
        Which images of the series are not among the slices, in words for a refusal; empty if none. Nobody
        is advised to interpolate what may be there.

    Raises
    ------
    GeometryError
        If slices are missing, or a gap is too wide to be interpolated.
    """
    even = _even(along, tolerance_mm)
    if even is not None:
        return even
    gaps = np.diff(along)
    missing = _missing_slices(gaps, tolerance_mm)
    _refuse_missing_slices(missing, name_pair, fill_missing, left_out)
    repairs = [
        f"{gap.missing} missing slice(s) interpolated between {name_pair(gap.after)}" for gap in missing
    ]
    usual = _usual_gap(gaps, tolerance_mm)
    count = min(round(along[-1] / usual), _MOST_PLANES * len(along) + sum(gap.missing for gap in missing)) + 1
    step = along[-1] / (count - 1)
    indices, nearest = along / step, np.rint(along / step)
    fits = bool(np.abs(along - nearest * step).max() <= tolerance_mm)
    wide = np.flatnonzero(np.diff(nearest) > 1)
    is_uneven = not fits or len(np.setdiff1d(wide, [gap.after for gap in missing])) > 0
    if is_uneven:
        repairs.append(_uneven(along, count, tolerance_mm))
    kinds = [*(["missing slices"] if missing else []), *(["uneven spacing"] if is_uneven else [])]
    return SliceSpacing(step, count, nearest if fits else indices, tuple(kinds), tuple(repairs))


def _even(along: NDArray[np.float64], tolerance_mm: float) -> SliceSpacing | None:
    if np.abs(along - np.linspace(0, along[-1], len(along))).max() > tolerance_mm:
        return None
    return SliceSpacing(along[-1] / (len(along) - 1), len(along), np.arange(len(along), dtype=np.float64))


def _usual_gap(gaps: NDArray[np.float64], tolerance_mm: float) -> float:
    """Return the smallest spacing that a tenth of the gaps keeps, so that the finest part stays fine."""
    low = float(np.quantile(gaps, 0.1, method="lower"))
    like_it = gaps[np.abs(gaps - low) <= _tolerance_of(low, tolerance_mm)]
    return float(like_it.mean())


def _tolerance_of(gap_mm: float, tolerance_mm: float) -> float:
    return max(tolerance_mm, _SAME_SPACING * gap_mm)


def _runs(gaps: NDArray[np.float64], tolerance_mm: float) -> list[tuple[int, int]]:
    """Return start and end of each run of equal gaps."""
    starts = [0]
    for n in range(1, len(gaps)):
        if abs(gaps[n] - gaps[starts[-1]]) > _tolerance_of(gaps[starts[-1]], tolerance_mm):
            starts.append(n)
    return list(zip(starts, [*starts[1:], len(gaps)], strict=True))


def _missing_slices(gaps: NDArray[np.float64], tolerance_mm: float) -> list[_MissingSlices]:
    """Return gaps that stand alone and are a multiple of those beside them, or far wider than they."""
    runs = _runs(gaps, tolerance_mm)
    middle = float(np.quantile(gaps, 0.5, method="lower"))
    found = []
    for n, (start, end) in enumerate(runs):
        beside = [
            gaps[first]
            for first, last in (*runs[max(n - 1, 0) : n], *runs[n + 1 : n + 2])
            if last - first > 1
        ]
        reference = float(max(beside, default=middle))
        times = gaps[start] / reference
        is_multiple = times > 1.5 and abs(times - round(times)) <= _WHOLE
        if end - start < _STEADY_RUN and (is_multiple or times > _WIDEST):
            found += [_MissingSlices(k, float(gaps[k]), reference) for k in range(start, end)]
    return found


def _refuse_missing_slices(
    gaps: Sequence[_MissingSlices], name_pair: Callable[[int], str], fill_missing: int, left_out: str
) -> None:
    refused = [gap for gap in gaps if gap.missing > fill_missing]
    if not refused:
        return
    gap = refused[0]
    more = f" ({len(refused)} such gaps)" if len(refused) > 1 else ""
    most = max(h.missing for h in refused)
    to_do = "send the series again"
    if left_out:
        to_do = f"{left_out} and may be what is missing; {to_do}"
    elif most <= _MOST_ADVISED:
        to_do += f", or have them interpolated with --fill-missing {most}"
    raise GeometryError(
        f"{name_pair(gap.after)} are {gap.mm:.2f} mm apart, the rest of the series "
        f"{gap.neighbour_mm:.2f} mm{more}; {gap.missing} slice(s) may be missing, {to_do}"
    )


def _uneven(along: NDArray[np.float64], count: int, tolerance_mm: float) -> str:
    gaps = np.diff(along)
    listed = [f"{end - start} x {gaps[start:end].mean():.2f}" for start, end in _runs(gaps, tolerance_mm)]
    some = ", ".join(listed) if len(listed) <= 8 else f"from {gaps.min():.2f} to {gaps.max():.2f}"
    return (
        f"uneven spacing ({some} mm) resampled: {len(along)} slices onto {count} planes "
        f"{along[-1] / (count - 1):.3f} mm apart"
    )
