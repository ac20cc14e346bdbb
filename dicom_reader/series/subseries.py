"""A series that is several volumes: phases, stacks, acquisitions, told apart by what its images say.

A series is split only where it has to be: where slices share positions, differ in matrix, pixel
spacing or orientation, or lie in regions far from one another, and only by an attribute that leaves
every part whole. What cannot be told apart is left as it is, for the geometry gate to refuse.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dicom_files.uids import ExplicitVRBigEndian
from dicom_reader.files.headers import ATTRIBUTES, ImageHeader
from dicom_reader.slices.duplicates import are_duplicates, instance_of
from dicom_reader.slices.slice import COSINE_TOLERANCE, Slice, normal_of
from dicom_reader.slices.spacing import TOLERANCE_MM
from stages import InputError

LEAST_SLICES = 3
_FEW_OUTLIERS = 0.2  # of the slices of a stack: more images of another geometry are no accident
_LABELS = {
    "StackID": "stack",
    "TemporalPositionIdentifier": "phase",
    "TemporalPositionIndex": "phase",
    "TemporalPositionTimeOffset": "phase",
    "NominalPercentageOfCardiacPhase": "cardiac",
    "NominalCardiacTriggerDelayTime": "trigger",
    "ActualCardiacTriggerDelayTime": "trigger",
    "NominalPercentageOfRespiratoryPhase": "respiratory",
    "StartingRespiratoryPhase": "respiratory",
    "AcquisitionNumber": "acquisition",
    "TriggerTime": "trigger",
    "ContrastBolusAgentPhase": "contrast",
    "ContrastBolusAgent": "contrast",
    "ConvolutionKernel": "kernel",
    "KVP": "kvp",
    "MultienergySourceTechnique": "energy",
    "XRayDetectorLabel": "detector",
    "FilterType": "filter",
    "ReconstructionAlgorithm": "algorithm",
    "ImageFilter": "filter",
    "ImageType": "type",
}
_LABELS_OF_SHARED = {  # that may change within one scan, so only where slices share positions
    "ReconstructionDiameter": "diameter",
    "DataCollectionDiameter": "diameter",
    "SliceThickness": "thickness",
    "SpiralPitchFactor": "pitch",
    "ExposureModulationType": "exposure",
    "ExposureTime": "exposure",
    "XRayTubeCurrent": "current",
    "Exposure": "exposure",
    "FocalSpots": "focus",
    "TableHeight": "table",
    "PatientPosition": "patient-position",
    "NominalInterval": "interval",
    "SeriesNumber": "series",
    "SeriesDescription": "description",
    "ProtocolName": "protocol",
    "ScanOptions": "options",
    "DerivationDescription": "derivation",
    "ImageComments": "comment",
    "AcquisitionUID": "acquisition",
    "IrradiationEventUID": "exposure",
    "ContrastBolusStartTime": "contrast",
    "AcquisitionDateTime": "time",
    "AcquisitionDate": "date",
    "AcquisitionTime": "time",
    "SeriesDate": "date",
    "SeriesTime": "time",
    "ContentDate": "date",
    "ContentTime": "time",
    "InstanceCreationTime": "time",
}
_BINARY = {  # the other labels are text
    "TemporalPositionIndex": "L",
    "TemporalPositionTimeOffset": "d",
    "NominalPercentageOfCardiacPhase": "f",
    "NominalCardiacTriggerDelayTime": "d",
    "ActualCardiacTriggerDelayTime": "d",
    "NominalPercentageOfRespiratoryPhase": "f",
    "SpiralPitchFactor": "d",
}
_UNNAMED = ("date", "time", "contrast")
_COUNTERS = {"AcquisitionTime": "phase", "ContentTime": "phase", "InstanceNumber": "phase"}


@dataclass(frozen=True)
class Subseries:
    """Images of one volume; the name is empty where the series is one volume only.

    Attributes
    ----------
    name
        Such as "acquisition-2".
    headers
        Its slices.
    excluded
        How many images of the series were set apart for their geometry, by what it is.
    """

    name: str
    headers: list[ImageHeader]
    excluded: Counter[str] = field(default_factory=Counter)


def split_series(headers: Sequence[ImageHeader]) -> list[Subseries]:
    """Return the volumes of a series, in an order that its images alone decide.

    Parameters
    ----------
    headers
        Of the CT images of one series whose pixels are of one kind.
    """
    try:
        slices = [Slice.from_header(header) for header in headers]
    except InputError:
        return [Subseries("", list(headers))]
    stacks, excluded = _by_geometry(slices)
    found: list[Subseries] = []
    for n, stack in enumerate(stacks, start=1):
        prefix = f"stack-{n}" if len(stacks) > 1 else ""
        groups = _by_attribute(stack)
        if len(groups) == 1:
            groups, outliers = _without_outliers(stack)
            excluded = excluded + outliers
        for name, group in groups:
            found.append(
                Subseries("-".join(filter(None, (prefix, name))), [s.header for s in group], excluded)
            )
    return found


def _by_geometry(slices: Sequence[Slice]) -> tuple[list[list[Slice]], Counter[str]]:
    """Return slices grouped by matrix, pixel spacing and orientation, the largest group first.

    A few images that differ are set apart; where they are many, all stay together for the gate to refuse.
    """
    groups: list[list[Slice]] = []
    for s in sorted(slices, key=lambda s: instance_of(s.header)):
        group = next((g for g in groups if _alike(g[0], s)), None)
        if group is None:
            groups.append([s])
        else:
            group.append(s)
    groups.sort(key=lambda g: -len(g))
    least = min(LEAST_SLICES, len(groups[0]))
    stacks = [group for group in groups if len(group) >= least]
    outliers = [s for group in groups if len(group) < least for s in group]
    if len(groups[0]) < 2 or len(outliers) > _most_outliers(groups[0]):
        return [list(slices)], Counter()
    return stacks, Counter(_otherness(groups[0][0], s) for s in outliers)


def _otherness(usual: Slice, s: Slice) -> str:
    """Return by what a slice differs in geometry from others, in words."""
    if s.matrix != usual.matrix:
        return f"of another matrix ({s.matrix[0]} x {s.matrix[1]} pixels)"
    if not _same(s.pixel_spacing, usual.pixel_spacing):
        return f"of another pixel spacing ({s.pixel_spacing[0]:g} x {s.pixel_spacing[1]:g} mm)"
    return "of another orientation"


def _alike(a: Slice, b: Slice) -> bool:
    return (
        a.matrix == b.matrix
        and _same(a.orientation, b.orientation)
        and _same(a.pixel_spacing, b.pixel_spacing)
    )


def _same(a: Sequence[float], b: Sequence[float]) -> bool:
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) <= COSINE_TOLERANCE


def _by_attribute(stack: list[Slice], *, attributes: int = 2) -> list[tuple[str, list[Slice]]]:
    """Return slices that share positions, or lie apart, grouped by the first attribute that makes volumes.

    Where no attribute can alone and positions are shared, two are tried.
    """
    if _is_whole(_heights(stack)):
        return [("", stack)]
    shared = _shares_positions(stack)
    if shared and _are_duplicates(stack):
        return [("", stack)]
    found = _by_one_attribute(stack, shared=shared)
    if len(found) == 1 and shared and attributes > 1:
        return _by_two_attributes(stack) or found
    return found


def _without_outliers(stack: list[Slice]) -> tuple[list[tuple[str, list[Slice]]], Counter[str]]:
    """Return slices without a few at places of others, where a label tells them from a whole volume."""
    if _shares_positions(stack):
        for keyword, word in _labels_of(stack, shared=False):
            groups = _by_label(stack, keyword).values()
            rest = [s for group in groups if len(group) >= LEAST_SLICES for s in group]
            few = len(stack) - len(rest)
            if rest and 0 < few <= _most_outliers(rest) and _is_whole(_heights(rest)):
                return [("", rest)], Counter({f"at places of other slices, of another {word}": few})
    return [("", stack)], Counter()


def _most_outliers(usual: Sequence[Slice]) -> float:
    return max(LEAST_SLICES - 1, _FEW_OUTLIERS * len(usual))


def _by_two_attributes(stack: list[Slice]) -> list[tuple[str, list[Slice]]]:
    for keyword, word in _labels_of(stack, shared=True):
        labelled = _by_label(stack, keyword)
        found = [
            ("-".join(filter(None, (label, name))), group)
            for label, groups in _named(word, labelled)
            for name, group in _by_attribute(groups, attributes=1)
        ]
        if len(labelled) > 1 and _tells_apart([group for _, group in found], shared=True):
            return found
    return []


def _by_one_attribute(stack: list[Slice], *, shared: bool) -> list[tuple[str, list[Slice]]]:
    """Return slices grouped by the first label that gives whole volumes, or volumes, or by a counter."""
    candidates = []
    for keyword, word in _labels_of(stack, shared=shared):
        groups = _by_label(stack, keyword)
        if _tells_apart(groups.values(), shared=shared):
            candidates.append((word, groups))
    whole = [
        c for c in candidates if all(_is_whole(_without_duplicates(p, _heights(p))) for p in c[1].values())
    ]
    for word, groups in (whole or candidates)[:1]:
        return _named(word, groups)
    if shared:
        for keyword, word in _COUNTERS.items():
            runs = _by_counter(stack, keyword)
            if _tells_apart(runs, shared=True):
                return [(f"{word}-{n}", group) for n, group in enumerate(runs, 1)]
    return [("", stack)]


def _labels_of(stack: Sequence[Slice], *, shared: bool) -> list[tuple[str, str]]:
    """Return the labels, and the words for them, whose values differ between slices, but not in each."""
    found = []
    for keyword, word in ({**_LABELS, **_LABELS_OF_SHARED} if shared else _LABELS).items():
        tag, _ = ATTRIBUTES[keyword]
        if 1 < len({s.header.values.get(tag, b"") for s in stack}) < len(stack):
            found.append((keyword, word))
    return found


def _shares_positions(stack: Sequence[Slice]) -> bool:
    return bool((np.diff(np.sort(_without_duplicates(stack, _heights(stack)))) <= TOLERANCE_MM).any())


def _are_duplicates(stack: Sequence[Slice]) -> bool:
    """Return whether all slices that share a position have the same pixels: some were sent twice."""
    heights = _heights(stack)
    pairs = pairwise(np.argsort(heights, kind="stable"))
    return all(
        are_duplicates(stack[a], stack[b]) for a, b in pairs if heights[b] - heights[a] <= TOLERANCE_MM
    )


def _heights(stack: Sequence[Slice]) -> NDArray[np.float64]:
    return np.array([s.position for s in stack]) @ normal_of(stack[0].orientation)


def _without_duplicates(stack: Sequence[Slice], heights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array(list({instance_of(s.header): h for s, h in zip(stack, heights, strict=True)}.values()))


def _is_whole(heights: NDArray[np.float64]) -> bool:
    """Return whether slices follow one another without sharing a position, and about evenly."""
    gaps = np.diff(np.sort(heights))
    return len(gaps) == 0 or bool(gaps.min() > TOLERANCE_MM and gaps.max() <= 1.5 * gaps.min())


def _by_label(stack: Sequence[Slice], keyword: str) -> dict[str, list[Slice]]:
    groups: dict[str, list[Slice]] = {}
    labelled = [(_label(s.header, keyword), s) for s in stack]
    for label, s in sorted(labelled, key=lambda pair: (_number(pair[0]), pair[0])):
        groups.setdefault(label, []).append(s)
    return groups


def _label(header: ImageHeader, keyword: str) -> str:
    """Return a value as text, the same for every way to write a whole number."""
    raw = header.values.get(ATTRIBUTES[keyword][0], b"")
    code = _BINARY.get(keyword)
    if code is not None and len(raw) == struct.calcsize(f"<{code}"):
        (value,) = struct.unpack((">" if header.transfer_syntax == ExplicitVRBigEndian else "<") + code, raw)
        return f"{value:.10g}"
    number = re.fullmatch(r"\+?0*([0-9]{1,8})(\.0*)?", header.text(keyword))
    return number[1] if number else header.text(keyword)


def _by_counter(stack: Sequence[Slice], keyword: str) -> list[list[Slice]]:
    """Return slices in runs of one per position, in the order of a time or a number."""
    values = [_number(s.header.text(keyword)) for s in stack]
    if not np.isfinite(values).all() or len(set(values)) < len(values):
        return []
    in_order = [stack[n] for n in np.argsort(values)]
    heights = _heights(in_order)
    positions = 1 + int((np.diff(np.sort(heights)) > TOLERANCE_MM).sum())
    if len(stack) % positions:
        return []
    return [in_order[n : n + positions] for n in range(0, len(stack), positions)]


def _tells_apart(groups: Iterable[Sequence[Slice]], *, shared: bool) -> bool:
    """Return whether groups are volumes: each whole, and overlapping if that was why to split them."""
    groups = list(groups)
    if len(groups) < 2 or any(len(group) < LEAST_SLICES for group in groups):
        return False
    heights = [_without_duplicates(group, _heights(group)) for group in groups]
    if shared:
        return all(bool((np.diff(np.sort(h)) > TOLERANCE_MM).all()) for h in heights)
    ranges = sorted((float(h.min()), float(h.max())) for h in heights)
    widest = max(float(np.diff(np.sort(h)).max()) for h in heights)
    separate = all(b[0] - a[1] > 3 * widest for a, b in pairwise(ranges))
    interleaved = any(b[0] < a[1] for a, b in pairwise(ranges))
    return all(map(_is_whole, heights)) and (separate or interleaved)


def _named(word: str, groups: Mapping[str, list[Slice]]) -> list[tuple[str, list[Slice]]]:
    """Return groups, named after their labels where all are numbers, else counted; no days and times."""
    by_label = word not in _UNNAMED and all(re.fullmatch("[0-9]{1,8}", label) for label in groups)
    named = enumerate(groups.items(), start=1)
    return [(f"{word}-{label if by_label else n}", group) for n, (label, group) in named]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf") if text else float("-inf")
