"""What a volume may lack, told by the numbers of its images and by what lies beside it.

Positions that are evenly spaced hide that every second slice was lost, or the last ones. Each function
yields sentences without identities, and none where there is an innocent reason: another numbering
that all series of the study have, images in another subseries, other intervals.

References
----------
DICOM PS3.3 C.7.6.1, General Image (Instance Number); C.8.2.1, CT Image (Acquisition Number).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from dicom_reader.files.headers import ImageHeader
from dicom_reader.series.attributes import SeriesAttributes
from dicom_reader.series.merge import describe_possible_slices, images_at_missing_slices, possible_slices_of
from dicom_reader.series.series import Series
from dicom_reader.series.subseries import LEAST_SLICES
from dicom_reader.slices.slice import COSINE_TOLERANCE, Slice

_MOST_LOCALIZERS = 3
_LISTED = 5
_SAME_SPACING = 0.01  # of the spacing
_BEYOND = 2  # slices of another volume that lie beyond this one, to be told


def missing_image_warnings(
    series: Series, slices: Sequence[Slice], every: Sequence[Series], left_out: Mapping[str, int]
) -> list[str]:
    """Return one sentence for each thing that the volume of a series may lack.

    Parameters
    ----------
    series
        What was read.
    slices
        Those of the volume, in its order, duplicates left out.
    every
        All series of the folder, this one and its other subseries among them.
    left_out
        How many files of the folder were left out, by the reason.
    """
    return [
        *(f"{n} file(s) of the input were left out: {why}" for why, n in sorted(left_out.items())),
        *_excluded(series),
        *_single_images(series, every),
        *_of_other_characteristics(series, every),
        *_localizers(series),
        *_skipped_numbers(series, slices, every),
        *_uncounted(series, every),
        *_ends_early(series, every),
        *_other_volumes(series, every),
    ]


def unit_warnings(series: Series) -> list[str]:
    """Return one sentence where a rule took values that are no Hounsfield units; none otherwise.

    Parameters
    ----------
    series
        What is read.
    """
    pixels, found = _attributes(series).pixels, []
    if pixels.units:
        found.append(f"Rescale Type (0028,1054) is {pixels.units}, not HU: values may be no Hounsfield units")
    if pixels.colour:
        found.append(
            f"Photometric Interpretation (0028,0004) is {pixels.colour}: values may be no Hounsfield units"
        )
    return found


def _excluded(series: Series) -> Iterator[str]:
    for why, n in sorted(series.excluded.items()):
        yield f"{n} image(s) of the series were left out, {why}; the volume is made of {len(series.slices)}"


def _single_images(series: Series, every: Sequence[Series]) -> Iterator[str]:
    if found := possible_slices_of(series, every):
        yield f"{describe_possible_slices(found)}: they may be missing slices"


def _of_other_characteristics(series: Series, every: Sequence[Series]) -> Iterator[str]:
    """Yield a sentence on images of other values that were set apart, where the volume has no slice."""
    for other in every:
        if (
            other.uid != series.uid
            or other.attributes is None
            or other.attributes.pixels == _attributes(series).pixels
        ):
            continue
        if lost := images_at_missing_slices(series, other.slices):
            adjective = other.attributes.pixels.adjective or "acquired"
            yield (
                f"{len(lost)} {adjective} image(s) of the series were left out, and lie where the volume has "
                "no slice: they may be missing slices"
            )


def _localizers(series: Series) -> Iterator[str]:
    """Yield a sentence on more localizers than a scan has: they may be slices."""
    count = series.kinds["CT localizer"]
    if count > _MOST_LOCALIZERS:
        yield (
            f"{count} images of the series say that they are localizers and were left out; a scan has one to "
            f"{_MOST_LOCALIZERS}, so they may be missing slices"
        )


def _skipped_numbers(series: Series, slices: Sequence[Slice], every: Sequence[Series]) -> Iterator[str]:
    """Yield a sentence on instance numbers that no image has, where slices may be missing."""
    known = _numbers_of_series(series, every)
    lowest = _lowest_numbers(series)
    missing = {n for group in _by_acquisition(slices) for n in _missing_between(group, lowest, known)}
    if not missing or _count_of_scanner(series) == _count_here(series, every):
        return
    siblings = [s for s in _siblings(series, every) if s.uid != series.uid]
    if _is_habit(slices, siblings) or _is_shared_numbering(series, missing, siblings, every):
        return
    some = ", ".join(map(str, sorted(missing)[:_LISTED])) + (", ..." if len(missing) > _LISTED else "")
    left_out = series.left_out(every)
    yield (
        f"no slice of the volume has the instance number {some}: {len(missing)} slice(s) may be missing"
        + (f"; {left_out}" if left_out else "")
    )


def _by_acquisition(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Return slices grouped by *Acquisition Number* (0020,0012), unless nearly each has its own."""
    groups: dict[str, list[Slice]] = {}
    for s in slices:
        groups.setdefault(s.header.text("AcquisitionNumber"), []).append(s)
    return list(groups.values()) if min(map(len, groups.values())) >= LEAST_SLICES else [list(slices)]


def _lowest_numbers(series: Series) -> dict[str, int]:
    """Return the lowest instance number at each position, since of duplicates any one is kept."""
    found: dict[str, int] = {}
    for header in series.slices:
        number, place = _number(header, "InstanceNumber"), header.text("ImagePositionPatient")
        if number is not None:
            found[place] = min(number, found.get(place, number))
    return found


def _missing_between(slices: Sequence[Slice], lowest: Mapping[str, int], known: set[int]) -> set[int]:
    """Return the numbers without an image that can belong to slices between those of one acquisition.

    Where numbers rise along the scan, only a gap that is wider than one with all its numbers can hide
    a slice.
    """
    numbers = [lowest.get(s.header.text("ImagePositionPatient")) for s in slices]
    found = [n for n in numbers if n is not None]
    if len(found) < len(numbers) or len(set(found)) < len(found) or len(found) < 2:
        return set()
    steps = np.diff(found)
    if not (steps > 0).all() and not (steps < 0).all():
        return set(range(min(found), max(found))) - known
    gaps = np.linalg.norm(np.diff([s.position for s in slices], axis=0), axis=1)
    between = [set(range(min(a, b) + 1, max(a, b))) - known for a, b in pairwise(found)]
    usual = max((gap for gap, lost in zip(gaps, between, strict=True) if not lost), default=0.0)
    jumps = [lost for gap, lost in zip(gaps, between, strict=True) if gap > (1 + _SAME_SPACING) * usual]
    return set().union(*jumps)


def _is_habit(slices: Sequence[Slice], siblings: Sequence[Series]) -> bool:
    """Return whether another series of the study has numbers in steps as well."""
    step = _least_step([s.header for s in slices])
    return step > 1 and any(_least_step(sibling.slices) == step for sibling in siblings)


def _least_step(headers: Sequence[ImageHeader]) -> int:
    numbers = sorted({n for header in headers if (n := _number(header, "InstanceNumber")) is not None})
    return min((b - a for a, b in pairwise(numbers)), default=0) if len(numbers) > 2 else 0


def _is_shared_numbering(
    series: Series, missing: set[int], siblings: Sequence[Series], every: Sequence[Series]
) -> bool:
    """Return whether other series of the study have the missing numbers, and none of those that are here."""
    own = _numbers_of_series(series, every)
    left = set(missing)
    for uid in {sibling.uid for sibling in siblings}:
        numbers = set().union(*(_numbers(s.slices) for s in siblings if s.uid == uid))
        if numbers.isdisjoint(own):
            left -= numbers
    return not left


def _uncounted(series: Series, every: Sequence[Series]) -> Iterator[str]:
    """Yield a sentence where the scanner counted more images than are here."""
    said, here = _count_of_scanner(series), _count_here(series, every)
    if said <= here:
        return
    same = [s for s in _siblings(series, every) if _count_of_scanner(s) == said and _same_scan(s, series)]
    if len(_instances_of(same)) == said:
        return
    whole = [s for s in same if s.uid != series.uid and len(s.slices) >= said]
    if any(_covers(series, s) for s in whole):
        return
    yield (
        f"the scanner counted {said} images in the acquisition (0020,1002), {here} are here: "
        f"{said - here} may be missing"
    )


def _ends_early(series: Series, every: Sequence[Series]) -> Iterator[str]:
    """Yield a sentence where another series of the acquisition begins with this one, and reaches further."""
    spacing = _spacing(series)
    if not spacing:
        return
    further = 0.0
    for other in _siblings(series, every):
        if other.uid == series.uid or not _same_scan(other, series):
            continue
        if not _spacing(other) or abs(_spacing(other) - spacing) > _SAME_SPACING * spacing:
            continue
        (low, high), (other_low, other_high) = _range(series), _range(other)
        below, above = low - other_low, other_high - high
        if min(abs(below), abs(above)) <= spacing / 2:
            further = max(further, below, above)
    if further > 0.9 * spacing:
        yield (
            f"another series of the same acquisition reaches {further:.1f} mm further: "
            f"{round(further / spacing)} slice(s) may be missing"
        )


def _other_volumes(series: Series, every: Sequence[Series]) -> Iterator[str]:
    """Yield a sentence where another subseries overlaps this one, or joins it, and reaches further."""
    spacing = _spacing(series)
    if not spacing:
        return
    low, high = _range(series)
    for other in _siblings(series, every):
        if other.uid != series.uid or other.subseries == series.subseries:
            continue
        heights = other.attributes.heights if other.attributes is not None else None
        if heights is None or heights[0] > high + 1.5 * spacing or heights[-1] < low - 1.5 * spacing:
            continue
        beyond = heights[(heights < low - spacing / 2) | (heights > high + spacing / 2)]
        if len(beyond) >= _BEYOND:
            reach = max(low - float(heights[0]), float(heights[-1]) - high)
            yield (
                f"the series holds another volume, {other.subseries}, that overlaps or joins this one, "
                f"{series.subseries}, and "
                f"reaches {reach:.1f} mm beyond: {len(beyond)} slice(s) of it lie outside"
            )


def _siblings(series: Series, every: Sequence[Series]) -> list[Series]:
    """Return acquired volumes of the same study and frame of reference in parallel planes, this one too."""
    attributes = _attributes(series)
    assert attributes.normal is not None, "its slices are in order along it"
    return [
        other
        for other in every
        if other.attributes is not None
        and other.attributes.pixels == attributes.pixels
        and other.attributes.heights is not None
        and all(
            other.attributes.text(keyword) == attributes.text(keyword)
            for keyword in ("StudyInstanceUID", "FrameOfReferenceUID")
        )
        and other.attributes.normal is not None
        and float(other.attributes.normal @ attributes.normal) > 1 - COSINE_TOLERANCE
    ]


def _same_scan(a: Series, b: Series) -> bool:
    """Return whether two series say that they are of one acquisition, and not at different times."""
    number = [_attributes(s).text("AcquisitionNumber") for s in (a, b)]
    if not number[0] or number[0] != number[1]:
        return False
    times = [sorted(filter(None, (h.text("AcquisitionTime") for h in s.slices))) for s in (a, b)]
    dates = [_attributes(s).text("AcquisitionDate") for s in (a, b)]
    if dates[0] != dates[1]:
        return False
    return not all(times) or (times[0][0] <= times[1][-1] and times[1][0] <= times[0][-1])


def _covers(series: Series, other: Series) -> bool:
    """Return whether a series reaches as far as another one, to the wider of their spacings."""
    (low, high), (other_low, other_high) = _range(series), _range(other)
    tolerance = max(_spacing(series), _spacing(other))
    return low <= other_low + tolerance and high >= other_high - tolerance


def _attributes(series: Series) -> SeriesAttributes:
    assert series.attributes is not None  # siblings have slices
    return series.attributes


def _range(series: Series) -> tuple[float, float]:
    heights = _attributes(series).heights
    return (0.0, 0.0) if heights is None else (float(heights[0]), float(heights[-1]))


def _spacing(series: Series) -> float:
    return _attributes(series).spacing_mm or 0.0


def _number(header: ImageHeader, keyword: str) -> int | None:
    text = header.text(keyword)
    return int(text) if text.isdecimal() and len(text) <= 9 else None


def _numbers(headers: Sequence[ImageHeader]) -> set[int]:
    return {n for header in headers if (n := _number(header, "InstanceNumber")) is not None}


def _numbers_of_series(series: Series, every: Sequence[Series]) -> set[int]:
    """Return the instance numbers of all subseries whose pixels are of the kind of this one."""
    same = [
        s
        for s in every
        if s.uid == series.uid and s.attributes and s.attributes.pixels == _attributes(series).pixels
    ]
    return set().union(*(_numbers(s.slices) for s in same))


def _count_here(series: Series, every: Sequence[Series]) -> int:
    """Return how many images of a series are here, those among them that are no slices."""
    slices = _instances_of([s for s in every if s.uid == series.uid])
    return len(slices) + series.kinds.total() + series.excluded.total()


def _instances_of(some: Sequence[Series]) -> set[tuple[str, int]]:
    return {(h.text("SOPInstanceUID"), h.frame or 0) for s in some for h in s.slices}


def _count_of_scanner(series: Series) -> int:
    """Return the largest *Images in Acquisition* (0020,1002) of a series; 0 where it says none."""
    return max((_number(header, "ImagesInAcquisition") or 0 for header in series.slices), default=0)
