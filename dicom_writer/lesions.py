"""The lesions of a mask: what hangs together of a label, its volume and its longest diameter.

Slice by slice, so that memory does not grow with the series.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_writer.labels import Label
from stages.geometry import spacing_of
from stages.original_slices import SliceMasks

MOST_LISTED = 100
_ABNORMAL = "49755003"  # SCT, Morphologically Abnormal Structure
_Spot = tuple[int, int]  # slice, number within it


@dataclass(frozen=True, kw_only=True, eq=False)
class Diameter:
    """The longest line in one slice of a lesion, between outer corners of its pixels.

    Attributes
    ----------
    slice
        Which slice, from 0.
    ends
        Row and column of both, shape (2, 2); the centre of the first pixel is (0, 0).
    """

    mm: float
    slice: int
    ends: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesion:
    """Voxels of a label that touch each other at a face, an edge or a corner.

    Attributes
    ----------
    number
        From 1, the largest first.
    spots
        What it is in each slice, by `spots_of`: slice, and number in it.
    """

    label: Label
    number: int
    volume_ml: float
    diameter: Diameter
    spots: frozenset[_Spot]

    @property
    def name(self) -> str:
        """What it is called in every result, such as ``Liver tumour 1``."""
        return f"{self.label.name} {self.number}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesions:
    """The lesions of one label.

    Attributes
    ----------
    count
        How many there are.
    listed
        The largest of them, at most `MOST_LISTED`, largest first.
    """

    label: Label
    count: int
    listed: tuple[Lesion, ...]


def is_of_lesions(label: Label) -> bool:
    """Tell whether a label marks lesions, which are counted and measured one by one."""
    return label.category.value == _ABNORMAL


def find_lesions(masks: SliceMasks, label: Label) -> Lesions:
    """Return the lesions of a label.

    Slices count as neighbours in their order, whatever lies between them; where they are shifted against
    each other (gantry tilt), pixels count as neighbours by their place, not by their index.
    """
    pixel_mm = np.array(spacing_of(masks.affine)[1:])
    volume: dict[_Spot, float] = {}
    longest: dict[_Spot, Diameter] = {}
    wholes = _Wholes()
    before: NDArray[np.int32] | None = None
    for n, plane in enumerate(masks.array):
        there = plane == label.value
        numbered = spots_of(there) if there.any() else None
        if numbered is not None:
            for spot, pixels in _pixels_of_spots(numbered):
                ml = len(pixels) * float(np.prod(pixel_mm)) * float(masks.thickness_mm[n]) / 1000
                volume[n, spot], longest[n, spot] = ml, _longest_line(pixels, n, pixel_mm)
            for one, other in _touching(before, numbered, masks.first_pixels, n):
                wholes.join((n - 1, one), (n, other))
        before = numbered
    found = [
        (sum(volume[s] for s in spots), max((longest[s] for s in sorted(spots)), key=lambda d: d.mm), spots)
        for spots in wholes.groups(volume)
    ]
    found.sort(key=lambda lesion: (-lesion[0], min(lesion[2])))
    listed = tuple(
        Lesion(label=label, number=k, volume_ml=ml, diameter=diameter, spots=frozenset(spots))
        for k, (ml, diameter, spots) in enumerate(found[:MOST_LISTED], start=1)
    )
    return Lesions(label=label, count=len(found), listed=listed)


def spots_of(plane: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return a number from 1 for the pixels of each spot of a slice, which hangs together also at corners."""
    from scipy import ndimage

    numbered, _ = ndimage.label(plane, structure=np.ones((3, 3)))
    return np.asarray(numbered, dtype=np.int32)


def _pixels_of_spots(numbered: NDArray[np.int32]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each spot's number and its pixels, shape (pixels, 2)."""
    from scipy import ndimage

    for spot, box in enumerate(ndimage.find_objects(numbered), start=1):
        yield spot, np.argwhere(numbered[box] == spot) + [side.start for side in box]


def _longest_line(pixels: NDArray[np.int64], n: int, pixel_mm: NDArray[np.float64]) -> Diameter:
    """Return the longest line between corners of pixels that hang together."""
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist, squareform

    to_corners = np.array([(r, c) for r in (-0.5, 0.5) for c in (-0.5, 0.5)])
    corners = np.unique((pixels[:, None] + to_corners).reshape(-1, 2), axis=0)
    hull = corners[ConvexHull(corners).vertices]
    apart = squareform(pdist(hull * pixel_mm))
    one, other = np.unravel_index(int(apart.argmax()), apart.shape)
    return Diameter(mm=float(apart[one, other]), slice=n, ends=hull[[one, other]])


def _touching(
    before: NDArray[np.int32] | None,
    numbered: NDArray[np.int32],
    first_pixels: NDArray[np.float64],
    n: int,
) -> set[_Spot]:
    """Return which spots of the slice before touch which of slice n."""
    if before is None:
        return set()
    shift = np.rint(first_pixels[n, 1:] - first_pixels[n - 1, 1:]).astype(int)
    pixels = np.argwhere(numbered)
    here = numbered[tuple(pixels.T)]
    found: set[_Spot] = set()
    for step in np.ndindex(3, 3):
        beside = pixels + shift + step - 1
        inside = ((beside >= 0) & (beside < before.shape)).all(axis=1)
        there = before[tuple(beside[inside].T)]
        pairs = np.stack([there, here[inside]], axis=1)[there > 0]
        found.update(zip(*np.unique(pairs, axis=0).T.tolist(), strict=True))
    return found


class _Wholes:
    """Which spots are one lesion, as far as they were joined."""

    def __init__(self) -> None:
        self._parent: dict[_Spot, _Spot] = {}

    def join(self, one: _Spot, other: _Spot) -> None:
        """Note that two spots belong together."""
        self._parent[self._root(other)] = self._root(one)

    def groups(self, spots: Mapping[_Spot, float]) -> list[set[_Spot]]:
        """Return the spots that belong together."""
        found: dict[_Spot, set[_Spot]] = defaultdict(set)
        for spot in spots:
            found[self._root(spot)].add(spot)
        return list(found.values())

    def _root(self, spot: _Spot) -> _Spot:
        while (parent := self._parent.get(spot, spot)) != spot:
            self._parent[spot] = self._parent.get(parent, parent)
            spot = parent
        return spot
