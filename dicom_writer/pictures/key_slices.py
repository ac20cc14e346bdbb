"""Which slices are shown: where a label is largest, where a lesion was measured, and some around."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dicom_writer.mask.cross_sections import pixel_counts
from dicom_writer.request.result_request import ResultRequest

_MOST = 24
_LESIONS = 3  # of each label


def key_slices(request: ResultRequest, most: int = _MOST) -> list[int]:
    """Return slices in their order, counted from 0; the middle one alone if no label has a voxel.

    Where there are more than fit, those in which a label is largest go first, then those in which the
    largest lesions were measured, then those half way to the ends of a label; and of each, first those
    that do not lie beside one that was taken.

    Parameters
    ----------
    request
        Its mask was measured.
    most
        How many slices at most.
    """
    there = [area for area in pixel_counts(request.masks, request.labels).values() if area.any()]
    if not there:
        return [len(request.masks.array) // 2]
    peaks = [int(area.argmax()) for area in there]
    measured = [lesion.diameter.slice for found in request.lesions for lesion in found.listed[:_LESIONS]]
    around = [
        (peak + end) // 2
        for peak, area in zip(peaks, there, strict=True)
        for end in np.flatnonzero(area)[[0, -1]].tolist()
    ]
    candidates = list(dict.fromkeys([*peaks, *measured, *around]))
    return sorted(_apart_first(candidates, len(request.sources))[:most])


def _apart_first(slices: Sequence[int], count: int) -> list[int]:
    """Return slices, those behind that lie beside one before them: nearer than a twentieth of all."""
    apart: list[int] = []
    for n in slices:
        if all(abs(n - other) >= count / 20 for other in apart):
            apart.append(n)
    return [*apart, *(n for n in slices if n not in apart)]
