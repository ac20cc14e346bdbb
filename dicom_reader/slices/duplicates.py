"""Slices that are there twice: one of equal ones is kept, different ones are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dicom_reader.files.headers import Header
from dicom_reader.pixels.pixels import read_pixels
from stages import GeometryError, InputError

if TYPE_CHECKING:
    from dicom_reader.slices.stack import Slice


def instance_of(header: Header) -> tuple[str, int]:
    """Return what tells one slice from every other: SOP instance UID, and frame (0 where it has one only)."""
    return header.uid("SOPInstanceUID"), header.frame or 0


def are_copies(a: Slice, b: Slice) -> bool:
    """Return whether two slices have one place and the same pixels; False where they cannot be read."""
    try:
        return _equal(a, b)
    except InputError:
        return False


def drop_copies(slices: Sequence[Slice]) -> tuple[list[Slice], list[str]]:
    """Keep one of each slice that is there twice.

    Copies are slices of one instance, or of one position, whose place and pixels are equal. Of two
    instances the one with the smaller UID is kept.

    Returns
    -------
    slices, remarks
        The slices in their order, and one sentence if any were left out.

    Raises
    ------
    GeometryError
        If an instance is there twice with different content.
    """
    kept: dict[tuple[str, int], Slice] = {}
    at: dict[tuple[float, ...], Slice] = {}
    copies: list[tuple[Slice, Slice]] = []
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
            copies.append((s, twin))
    remaining = [s for s in slices if kept.get(instance_of(s.header)) is s]
    return remaining, _remarks(copies)


def _remarks(copies: Sequence[tuple[Slice, Slice]]) -> list[str]:
    if not copies:
        return []
    copy, twin = copies[0]
    more = f", and {len(copies) - 1} more" if len(copies) > 1 else ""
    return [f"{copy.header.name} left out: it has the place and the pixels of {twin.header.name}{more}"]


def _equal(a: Slice, b: Slice) -> bool:
    """Tell whether two slices lie at one place and have the same pixels in Hounsfield units."""
    places = [(s.position, s.orientation, s.pixel_spacing, s.matrix) for s in (a, b)]
    return places[0] == places[1] and np.array_equal(read_pixels([a.header])[0], read_pixels([b.header])[0])
