"""A series that is several volumes: phases, stacks, acquisitions, told apart by what its images say.

A series is split only where it has to be: where slices share positions, differ in matrix, pixel
spacing or orientation, or lie in regions far from one another, and only by an attribute that leaves
every part whole. What cannot be told apart is left as it is, for the geometry gate to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dicom_reader.copies import instance_of
from dicom_reader.headers import Header
from dicom_reader.lattice import TOLERANCE_MM
from dicom_reader.slices import COSINE_TOLERANCE, Slice, normal_of
from stages import InputError

LEAST_SLICES = 3
_LABELS = {
    "StackID": "stack",
    "TemporalPositionIdentifier": "phase",
    "AcquisitionNumber": "acquisition",
    "TriggerTime": "trigger",
    "ConvolutionKernel": "kernel",
    "ImageType": "type",
}
_COUNTERS = {"AcquisitionTime": "phase", "ContentTime": "phase", "InstanceNumber": "phase"}


@dataclass(frozen=True)
class Part:
    """Images of one volume; the name is empty where the series is one volume only."""

    name: str
    headers: list[Header]


def split(headers: Sequence[Header]) -> list[Part]:
    """Return the volumes of a series, in an order that its images alone decide."""
    try:
        slices = [Slice.from_header(header) for header in headers]
    except InputError:
        return [Part("", list(headers))]
    stacks = _by_geometry(slices)
    found: list[Part] = []
    for n, stack in enumerate(stacks, start=1):
        prefix = f"stack-{n}" if len(stacks) > 1 else ""
        for name, part in _by_attribute(stack):
            found.append(Part("-".join(filter(None, (prefix, name))), [s.header for s in part]))
    return found


def _by_geometry(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Part slices of different matrix, pixel spacing or orientation, the largest part first."""
    groups: list[list[Slice]] = []
    for s in sorted(slices, key=lambda s: instance_of(s.header)):
        group = next((g for g in groups if _alike(g[0], s)), None)
        if group is None:
            groups.append([s])
        else:
            group.append(s)
    if any(len(group) < LEAST_SLICES for group in groups):
        return [list(slices)]
    return sorted(groups, key=lambda g: -len(g))


def _alike(a: Slice, b: Slice) -> bool:
    numbers = [(*s.orientation, *s.pixel_spacing) for s in (a, b)]
    return a.matrix == b.matrix and max(abs(x - y) for x, y in zip(*numbers, strict=True)) <= COSINE_TOLERANCE


def _by_attribute(stack: list[Slice], *, attributes: int = 2) -> list[tuple[str, list[Slice]]]:
    """Part slices that share positions, or lie in separate regions, by the first attribute that can.

    Where no attribute can alone and positions are shared, two are tried.
    """
    if _is_whole(_heights(stack)):
        return [("", stack)]
    shared = _shares_positions(stack)
    found = _by_one_attribute(stack, shared=shared)
    if len(found) == 1 and shared and attributes > 1:
        return _by_two_attributes(stack) or found
    return found


def _by_two_attributes(stack: list[Slice]) -> list[tuple[str, list[Slice]]]:
    for keyword, word in _LABELS.items():
        labelled = _by_label(stack, keyword)
        found = [
            ("-".join(filter(None, (_part_name(word, label, n), name))), part)
            for n, (label, parts) in enumerate(labelled.items(), 1)
            for name, part in _by_attribute(parts, attributes=1)
        ]
        if len(labelled) > 1 and _tells_apart([part for _, part in found], shared=True):
            return found
    return []


def _by_one_attribute(stack: list[Slice], *, shared: bool) -> list[tuple[str, list[Slice]]]:
    for keyword, word in _LABELS.items():
        parts = _by_label(stack, keyword)
        if _tells_apart(parts.values(), shared=shared):
            return [(_part_name(word, label, n), part) for n, (label, part) in enumerate(parts.items(), 1)]
    if shared:
        for keyword, word in _COUNTERS.items():
            runs = _by_counter(stack, keyword)
            if _tells_apart(runs, shared=True):
                return [(f"{word}-{n}", part) for n, part in enumerate(runs, 1)]
    return [("", stack)]


def _shares_positions(stack: Sequence[Slice]) -> bool:
    return bool((np.diff(np.sort(_without_copies(stack, _heights(stack)))) <= TOLERANCE_MM).any())


def _heights(stack: Sequence[Slice]) -> NDArray[np.float64]:
    return np.array([s.position for s in stack]) @ normal_of(stack[0].orientation)


def _without_copies(stack: Sequence[Slice], heights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array(list({instance_of(s.header): h for s, h in zip(stack, heights, strict=True)}.values()))


def _is_whole(heights: NDArray[np.float64]) -> bool:
    """Tell whether slices follow one another without sharing a position, and about evenly."""
    gaps = np.diff(np.sort(heights))
    return len(gaps) == 0 or bool(gaps.min() > TOLERANCE_MM and gaps.max() <= 1.5 * gaps.min())


def _by_label(stack: Sequence[Slice], keyword: str) -> dict[str, list[Slice]]:
    parts: dict[str, list[Slice]] = {}
    for s in sorted(stack, key=lambda s: (_number(s.header.text(keyword)), s.header.text(keyword))):
        parts.setdefault(s.header.text(keyword), []).append(s)
    return parts


def _by_counter(stack: Sequence[Slice], keyword: str) -> list[list[Slice]]:
    """Part slices into runs of one per position, in the order of a time or a number."""
    values = [_number(s.header.text(keyword)) for s in stack]
    if not np.isfinite(values).all() or len(set(values)) < len(values):
        return []
    in_order = [stack[n] for n in np.argsort(values)]
    heights = _heights(in_order)
    positions = 1 + int((np.diff(np.sort(heights)) > TOLERANCE_MM).sum())
    if len(stack) % positions:
        return []
    return [in_order[n : n + positions] for n in range(0, len(stack), positions)]


def _tells_apart(parts: Iterable[Sequence[Slice]], *, shared: bool) -> bool:
    """Tell whether parts are volumes: each whole, and overlapping if that was why they are to be parted."""
    parts = list(parts)
    if len(parts) < 2 or any(len(part) < LEAST_SLICES for part in parts):
        return False
    heights = [_without_copies(part, _heights(part)) for part in parts]
    if shared:
        return all(bool((np.diff(np.sort(h)) > TOLERANCE_MM).all()) for h in heights)
    ranges = sorted((float(h.min()), float(h.max())) for h in heights)
    widest = max(float(np.diff(np.sort(h)).max()) for h in heights)
    apart = all(b[0] - a[1] > 3 * widest for a, b in pairwise(ranges))
    interleaved = any(b[0] < a[1] for a, b in pairwise(ranges))
    return all(map(_is_whole, heights)) and (apart or interleaved)


def _part_name(word: str, label: str, n: int) -> str:
    return f"{word}-{label}" if re.fullmatch(r"[0-9]{1,8}", label) else f"{word}-{n}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan") if not text else float("inf")
