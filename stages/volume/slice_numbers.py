"""The number by which people find a slice: on the page, in pictures, captures and documents.

It is the *Instance Number* (0020,0013) of the source image, which viewers show beside it. Where the slices
are frames of one image it is the number of the frame. Where neither tells every slice from the others it
is the place in the volume's order of slices, counted from 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from stages.volume.volume import Volume


def slice_numbers(
    instance_numbers: Sequence[int | None], frames: Sequence[int | None] = ()
) -> tuple[int, ...]:
    """Return the number of each slice, by one rule for all slices of a series.

    Parameters
    ----------
    instance_numbers
        *Instance Number* (0020,0013) of the image of each slice; None where it has none.
    frames
        Which frame of its image each slice is, from 1; None, or nothing at all, where images have one.
    """
    for candidates in (instance_numbers, frames):
        known = [number for number in candidates if number is not None and number >= 0]
        if len(set(known)) == len(instance_numbers):
            return tuple(known)
    return tuple(range(1, len(instance_numbers) + 1))


def number_in(text: str) -> int | None:
    """Return the number that an *Instance Number* (0020,0013) says; None where it is missing or none.

    Parameters
    ----------
    text
        The attribute's value, IS.
    """
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,11}", text.strip(" \0")) else None


def number_of_plane(volume: Volume, index: int) -> int:
    """Return the number of the slice at an index of the volume's first axis, counted from 0.

    Where the reader corrected the slices, it is that of the original slice nearest to the plane; where the
    volume did not come from DICOM, the index counted from 1.

    Parameters
    ----------
    volume
        The volume, whose origin knows the slices.
    index
        Along its first axis, from 0.
    """
    slices = volume.origin.slices
    numbers = slice_numbers([s.instance_number for s in slices], [s.frame for s in slices])
    correction = volume.origin.correction
    if correction is not None:
        heights = np.array(correction.first_pixels)[:, 0]
        return numbers[int(np.abs(heights - index).argmin())]
    return numbers[index] if index < len(numbers) else index + 1
