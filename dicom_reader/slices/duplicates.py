"""Slices that are there twice: one of equal ones is kept, different ones are refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dicom_reader.files.headers import ImageHeader
from dicom_reader.pixels.pixels import read_pixels
from dicom_reader.slices.slice import Slice
from stages import GeometryError, InputError


def instance_of(header: ImageHeader) -> tuple[str, int]:
    """Return what tells one slice from every other: SOP instance UID, and frame (0 where it has one only).

    Parameters
    ----------
    header
        Of the slice.
    """
    return header.uid("SOPInstanceUID"), header.frame or 0


def are_duplicates(a: Slice, b: Slice) -> bool:
    """Return whether two slices have one place and the same pixels; False where they cannot be read.

    Parameters
    ----------
    a, b
        Two slices.
    """
    try:
        return _equal(a, b)
    except InputError:
        return False


def drop_duplicates(slices: Sequence[Slice]) -> tuple[list[Slice], list[str]]:
    """Return one of each slice that is there twice.

    Duplicates are slices of one instance, or of one position, whose place and pixels are equal. Of two
    instances the one with the smaller UID is kept.

    Parameters
    ----------
    slices
        In any order.

    Returns
    -------
    slices, repairs
        The slices in their order, and one sentence if any were left out.

    Raises
    ------
    GeometryError
        If an instance is there twice with different content.
    """
    kept: dict[tuple[str, int], Slice] = {}
    at: dict[tuple[float, ...], Slice] = {}
    duplicates: list[tuple[Slice, Slice]] = []
    for s in sorted(slices, key=lambda s: (*instance_of(s.header), s.header.name)):
        same = kept.get(instance_of(s.header))
        if same is not None and not _equal(same, s):
            raise GeometryError(
                f"{same.header.name} and {s.header.name} are the same instance "
                f"({s.header.uid('SOPInstanceUID')}) with different content; remove the wrong one"
            )
        beside = at.setdefault(s.position, s)
        twin = same or (beside if beside is not s and _equal(beside, s) else None)
        if twin is None:
            kept[instance_of(s.header)] = s
        else:
            duplicates.append((s, twin))
    remaining = [s for s in slices if kept.get(instance_of(s.header)) is s]
    return remaining, _repairs(duplicates)


def _repairs(duplicates: Sequence[tuple[Slice, Slice]]) -> list[str]:
    if not duplicates:
        return []
    duplicate, twin = duplicates[0]
    more = f", and {len(duplicates) - 1} more" if len(duplicates) > 1 else ""
    return [f"{duplicate.header.name} left out: it has the place and the pixels of {twin.header.name}{more}"]


def _equal(a: Slice, b: Slice) -> bool:
    """Return whether two slices lie at one place and have the same pixels in Hounsfield units."""
    places = [(s.position, s.orientation, s.pixel_spacing, s.matrix) for s in (a, b)]
    return places[0] == places[1] and np.array_equal(read_pixels([a.header])[0], read_pixels([b.header])[0])
