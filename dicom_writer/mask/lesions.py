"""The lesions of a mask: the connected components of a label, with volume and longest diameter.

Slice by slice, so that memory does not grow with the series.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.volume.geometry import spacing_of
from stages.volume.labels import Label
from stages.volume.original_slices import SliceMasks

MOST_LISTED = 100
_Component = tuple[int, int]  # slice, number within it


@dataclass(frozen=True, kw_only=True, eq=False)
class Diameter:
    """The longest line in one slice of a lesion, between outer corners of its pixels.

    Attributes
    ----------
    mm
        Its length, mm.
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
    label
        What it is.
    number
        From 1, the largest first.
    volume_ml
        Its volume, ml.
    diameter
        Its longest diameter.
    components
        Its components in slices: slice, and number by `components_in_slice`.
    """

    label: Label
    number: int
    volume_ml: float
    diameter: Diameter
    components: frozenset[_Component]

    @property
    def name(self) -> str:
        """What it is called in every result, such as ``Liver tumour 1``."""
        return f"{self.label.name} {self.number}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesions:
    """The lesions of one label.

    Attributes
    ----------
    label
        Which label.
    count
        How many there are.
    listed
        The largest of them, at most `MOST_LISTED`, largest first.
    """

    label: Label
    count: int
    listed: tuple[Lesion, ...]


def find_lesions(masks: SliceMasks, label: Label) -> Lesions:
    """Return the lesions of a label.

    Slices count as neighbours in their order, whatever lies between them; where they are shifted against
    each other (gantry tilt), pixels count as neighbours by their place, not by their index.

    Parameters
    ----------
    masks
        Label values on the original slices.
    label
        Which label.
    """
    pixel_mm = np.array(spacing_of(masks.affine)[1:])
    volume: dict[_Component, float] = {}
    diameters: dict[_Component, Diameter] = {}
    sets = _DisjointSets()
    before: _Slice | None = None
    for n, plane in enumerate(masks.array):
        here = _slice_of(plane == label.value) if plane.any() else None
        if here is not None:
            for component, count, corners in here.components():
                ml = count * float(np.prod(pixel_mm)) * float(masks.thickness_mm[n]) / 1000
                volume[n, component], diameters[n, component] = ml, _longest_line(corners, n, pixel_mm)
            for one, other in _connected(before, here, masks.first_pixels, n):
                sets.join((n - 1, one), (n, other))
        before = here
    found = [
        (sum(volume[c] for c in group), max((diameters[c] for c in sorted(group)), key=lambda d: d.mm), group)
        for group in sets.groups(volume)
    ]
    found.sort(key=lambda lesion: (-lesion[0], min(lesion[2])))
    listed = tuple(
        Lesion(label=label, number=k, volume_ml=ml, diameter=diameter, components=frozenset(components))
        for k, (ml, diameter, components) in enumerate(found[:MOST_LISTED], start=1)
    )
    return Lesions(label=label, count=len(found), listed=listed)


def components_in_slice(plane: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return a number from 1 for the pixels of each component of a slice; pixels connect also at corners.

    Parameters
    ----------
    plane
        Which pixels are of a label, shape (rows, columns).
    """
    from scipy import ndimage

    numbered, _ = ndimage.label(plane, structure=np.ones((3, 3)))
    return np.asarray(numbered, dtype=np.int32)


@dataclass(frozen=True, eq=False)
class _Slice:
    """The part of a slice that holds anything: the numbers of its parts, and its first row and column."""

    numbered: NDArray[np.int32]
    first: NDArray[np.int64]

    def components(self) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
        """Yield each component's number, how many pixels it has, and the outer corners of its rows."""
        from scipy import ndimage

        for component, box in enumerate(ndimage.find_objects(self.numbered), start=1):
            there = self.numbered[box] == component
            rows = np.flatnonzero(there.any(axis=1))
            left = there[rows].argmax(axis=1) - 0.5
            right = there.shape[1] - there[rows, ::-1].argmax(axis=1) - 0.5
            ends = [np.stack([rows + half, side], axis=1) for half in (-0.5, 0.5) for side in (left, right)]
            offset = self.first + [side.start for side in box]
            yield component, int(np.count_nonzero(there)), np.unique(np.concatenate(ends), axis=0) + offset


def _slice_of(there: NDArray[np.bool_]) -> _Slice | None:
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    if not len(rows):
        return None
    part = there[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _Slice(components_in_slice(part), np.array([rows[0], columns[0]]))


def _longest_line(corners: NDArray[np.float64], n: int, pixel_mm: NDArray[np.float64]) -> Diameter:
    """Return the longest line between corners of pixels of one component."""
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist, squareform

    hull = corners[ConvexHull(corners).vertices]
    apart = squareform(pdist(hull * pixel_mm))
    one, other = np.unravel_index(int(apart.argmax()), apart.shape)
    return Diameter(mm=float(apart[one, other]), slice=n, ends=hull[[one, other]])


def _connected(
    before: _Slice | None, here: _Slice, first_pixels: NDArray[np.float64], n: int
) -> Iterator[_Component]:
    """Yield which components of the slice before touch which of slice n."""
    if before is None:
        return
    rows, columns = here.numbered.shape
    shift = np.rint(first_pixels[n, 1:] - first_pixels[n - 1, 1:]).astype(int)
    around = _shifted(before, here.first + shift - 1, (rows + 2, columns + 2))
    times = int(here.numbered.max()) + 1
    found: set[int] = set()
    for row, column in np.ndindex(3, 3):
        there = around[row : row + rows, column : column + columns]
        both = (there > 0) & (here.numbered > 0)
        found.update(np.unique(there[both].astype(np.int64) * times + here.numbered[both]).tolist())
    yield from (divmod(pair, times) for pair in sorted(found))


def _shifted(what: _Slice, first: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return the numbers of components in a window that begins at a row and column."""
    window = np.zeros(shape, dtype=np.int32)
    start = np.maximum(what.first, first)
    stop = np.minimum(what.first + what.numbered.shape, first + shape)
    if (start < stop).all():
        to, of = ((slice(*x) for x in zip(start - at, stop - at, strict=True)) for at in (first, what.first))
        window[tuple(to)] = what.numbered[tuple(of)]
    return window


class _DisjointSets:
    """Components of slices that belong to one lesion (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[_Component, _Component] = {}

    def join(self, one: _Component, other: _Component) -> None:
        """Join the sets of two components."""
        self._parent[self._root(other)] = self._root(one)

    def groups(self, components: Mapping[_Component, float]) -> list[set[_Component]]:
        """Return the components that belong together."""
        found: dict[_Component, set[_Component]] = defaultdict(set)
        for component in components:
            found[self._root(component)].add(component)
        return list(found.values())

    def _root(self, component: _Component) -> _Component:
        while (parent := self._parent.get(component, component)) != component:
            self._parent[component] = self._parent.get(parent, parent)
            component = parent
        return component
