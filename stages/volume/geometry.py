"""Where voxels lie in the patient: affines, spacing and orientation. NumPy arithmetic, no files.

Space is the DICOM patient coordinate system: LPS (x to the patient's Left, y to Posterior, z to
Superior), millimetres, voxel centres. Index order is ``[slice, row, column]``.

References
----------
DICOM PS3.3 C.7.6.2.1.1, Image Position and Image Orientation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.errors import GeometryError, SettingsError

Affine = NDArray[np.float64]
GridAlignment: TypeAlias = Literal["centred", "stretched", "first_voxel", "corner_centres"]
"""Where the voxels of another spacing lie: around the same centre, from outer face to outer face, from the
first voxel's centre on, or from the first voxel's centre to the last one's."""

_POSITIVE = "LPS"
_NEGATIVE = "RAI"


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular lattice of voxels in the patient.

    Attributes
    ----------
    shape
        Number of slices, rows and columns.
    affine
        4 x 4, takes ``(slice, row, column, 1)`` to LPS millimetres at the voxel's centre.
    """

    shape: tuple[int, int, int]
    affine: Affine

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between neighbours along slice, row and column, mm."""
        return spacing_of(self.affine)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel, mm^3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def matches(self, other: Grid, *, tolerance_mm: float = 1e-3) -> bool:
        """Return whether both grids have one shape and no corner lies further apart than the tolerance.

        Parameters
        ----------
        other
            The grid to compare with.
        tolerance_mm
            How far apart corners may lie along an axis of the patient, mm.
        """
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij")).reshape(3, -1).T
        apart = points_at(self.affine, corners) - points_at(other.affine, corners)
        return bool(np.abs(apart).max() <= tolerance_mm)


def points_at(affine: Affine, indices: ArrayLike) -> NDArray[np.float64]:
    """Return the LPS positions (mm), shape (..., 3), of indices of shape (..., 3).

    Parameters
    ----------
    affine
        4 x 4, index (slice, row, column, 1) to LPS mm at voxel centres.
    indices
        (slice, row, column), fractions too, shape (..., 3).
    """
    ijk = np.asarray(indices, dtype=np.float64)
    return np.asarray(ijk @ affine[:3, :3].T + affine[:3, 3])


def spacing_of(affine: Affine) -> tuple[float, float, float]:
    """Return the distance between neighbouring voxel centres along each index, mm.

    Parameters
    ----------
    affine
        4 x 4, index (slice, row, column, 1) to LPS mm at voxel centres.
    """
    slice_mm, row_mm, column_mm = (float(v) for v in np.linalg.norm(affine[:3, :3], axis=0))
    return slice_mm, row_mm, column_mm


def slice_normal(image_orientation: Sequence[float]) -> NDArray[np.float64]:
    """Return the unit normal of a slice from *Image Orientation (Patient)* (0020,0037).

    Parameters
    ----------
    image_orientation
        Six cosines: the direction of a row (in which the column index grows), then of a column.

    Raises
    ------
    GeometryError
        If there are not six finite numbers, or the two directions are not orthogonal unit vectors (to 0.001).
    """
    cosines = np.asarray(image_orientation, dtype=np.float64)
    if cosines.shape != (6,) or not np.isfinite(cosines).all():
        raise GeometryError(
            f"Image Orientation (Patient) needs six numbers, found {list(image_orientation)!r}"
        )
    along_row, along_column = cosines[:3], cosines[3:]
    departures = [along_row @ along_row - 1, along_column @ along_column - 1, along_row @ along_column]
    if np.abs(departures).max() > 2e-3:
        raise GeometryError(
            f"Image Orientation (Patient) must be two orthogonal unit vectors, found {cosines.tolist()}"
        )
    normal = np.cross(along_row, along_column)
    return np.asarray(normal / np.linalg.norm(normal))


def affine_from_slices(
    first_position: Sequence[float],
    last_position: Sequence[float],
    slices: int,
    *,
    image_orientation: Sequence[float],
    pixel_spacing: Sequence[float],
) -> Affine:
    """Return the affine of a regular stack of slices.

    Parameters
    ----------
    first_position, last_position
        *Image Position (Patient)* (0020,0032) of the first and the last slice, mm.
    slices
        How many slices there are, at least 2.
    image_orientation
        *Image Orientation (Patient)* (0020,0037).
    pixel_spacing
        *Pixel Spacing* (0028,0030): the distance between rows first, then between columns, mm.
    """
    first = np.asarray(first_position, dtype=np.float64)
    last = np.asarray(last_position, dtype=np.float64)
    cosines = np.asarray(image_orientation, dtype=np.float64)
    affine = np.eye(4)
    affine[:3, 0] = (last - first) / (slices - 1)
    affine[:3, 1] = cosines[3:] * float(pixel_spacing[0])
    affine[:3, 2] = cosines[:3] * float(pixel_spacing[1])
    affine[:3, 3] = first
    return affine


def orientation_of(affine: Affine) -> str:
    """Return the patient direction in which each index grows, for example ``"SPL"`` for axial slices.

    One letter an axis, the nearest of L, R, P, A, S, I; each pair is used once.

    Parameters
    ----------
    affine
        4 x 4, index (slice, row, column, 1) to LPS mm at voxel centres.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    letters = [""] * 3
    free = np.abs(directions)
    for _ in range(3):
        world, axis = np.unravel_index(int(np.argmax(free)), (3, 3))
        letters[axis] = (_POSITIVE if directions[world, axis] > 0 else _NEGATIVE)[world]
        free[world, :] = -1
        free[:, axis] = -1
    return "".join(letters)


def reorienting(source: str, target: str) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Return how an array of orientation `source` becomes one of orientation `target`.

    Parameters
    ----------
    source, target
        Three letters, one for each index, as of `orientation_of`.

    Returns
    -------
    axes, flips
        ``array.transpose(axes)``, then each axis whose flag is set is reversed.

    Raises
    ------
    SettingsError
        If one of the two is no orientation.
    """
    for name in (source, target):
        if len(name) != 3 or {_world_axis(letter) for letter in name} != {0, 1, 2}:
            raise SettingsError(
                f"an orientation is three letters such as 'SPL', one of L/R, P/A and S/I each; found {name!r}"
            )
    worlds = [_world_axis(letter) for letter in source]
    axes = tuple(worlds.index(_world_axis(letter)) for letter in target)
    flips = tuple(source[axis] != letter for axis, letter in zip(axes, target, strict=True))
    return (axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2])


def _world_axis(letter: str) -> int:
    return _POSITIVE.find(letter) if letter in _POSITIVE else _NEGATIVE.find(letter)


def reorient(array: Any, affine: Affine, target: str) -> tuple[Any, Affine]:
    """Permute and flip an array (no copy) so that its indices grow in the directions of `target`.

    Parameters
    ----------
    array
        Shape (slices, rows, columns).
    affine
        4 x 4, index (slice, row, column, 1) to LPS mm at voxel centres.
    target
        Three letters, one for each index, as of `orientation_of`.

    Returns
    -------
    array, affine
        A view of the input and the affine that places it where it was.

    Raises
    ------
    SettingsError
        If `target` is no orientation.
    """
    axes, flips = reorienting(orientation_of(affine), target)
    turned = affine.copy()
    turned[:3, :3] = affine[:3, list(axes)]
    view = array.transpose(axes)
    for axis, flip in enumerate(flips):
        if flip:
            turned[:3, 3] += turned[:3, axis] * (view.shape[axis] - 1)
            turned[:3, axis] *= -1
    return view[tuple(slice(None, None, -1 if flip else 1) for flip in flips)], turned


def grid_with_spacing(
    grid: Grid, spacing_mm: Sequence[float], *, alignment: GridAlignment = "centred"
) -> Grid:
    """Return the grid of another spacing that covers the same box.

    The number of voxels is rounded to the nearest whole number, halves to the even one (at least 1).

    Parameters
    ----------
    grid
        The grid whose box is covered.
    spacing_mm
        Distance between neighbours along slice, row and column, mm. ``centred`` and ``first_voxel`` keep it
        exactly, so that the box may grow or shrink by up to a new voxel.
    alignment
        Where the new voxels lie.
    """
    old = np.asarray(grid.spacing)
    new = np.asarray(spacing_mm, dtype=np.float64)
    shape = np.asarray(grid.shape)
    if alignment == "first_voxel":
        voxels = (shape - 1) * old / new + 1
    else:  # the same but for its last bit, which may decide a half
        voxels = old / new * shape if alignment == "stretched" else shape * old / new
    sizes = np.maximum(np.rint(voxels), 1).astype(int)
    if alignment == "centred":
        return _around_centre(grid, new / old, sizes)
    if alignment == "first_voxel":
        return _rescaled(grid, new / old, sizes, first=np.zeros(3))
    return grid_of_size(grid, sizes, alignment=alignment)


def grid_of_size(grid: Grid, size: ArrayLike, *, alignment: GridAlignment = "centred") -> Grid:
    """Return the grid of another number of voxels that covers the same box.

    Parameters
    ----------
    grid
        The grid whose box is covered.
    size
        Number of slices, rows and columns.
    alignment
        ``corner_centres``: from the centres of its outermost voxels; else from outer face to outer face. A
        single voxel then lies at the first one's centre.
    """
    sizes, shape = np.asarray(size, dtype=int), np.asarray(grid.shape)
    if alignment == "corner_centres":
        steps = np.maximum(sizes - 1, 1)
        scale = np.where(sizes > 1, (shape - 1) / steps, shape)
        scale[scale == 0] = 1 / sizes[scale == 0]  # one voxel becomes several
        return _rescaled(grid, scale, sizes, first=np.zeros(3))
    return _around_centre(grid, shape / sizes, sizes)


def _around_centre(grid: Grid, scale: NDArray[np.float64], sizes: NDArray[np.int_]) -> Grid:
    """Return the grid of so many voxels, each `scale` times as large, around the same centre."""
    return _rescaled(grid, scale, sizes, first=(np.asarray(grid.shape) - 1) / 2 - scale * (sizes - 1) / 2)


def _rescaled(
    grid: Grid, scale: NDArray[np.float64], sizes: NDArray[np.int_], *, first: NDArray[np.float64]
) -> Grid:
    """Return the grid of so many voxels, each `scale` times as large, the first at an old index."""
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] * scale
    affine[:3, 3] = points_at(grid.affine, first)
    return Grid((int(sizes[0]), int(sizes[1]), int(sizes[2])), affine)
