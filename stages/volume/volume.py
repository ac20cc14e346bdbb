"""The volume contract: an array, its place in the patient, and where it came from.

This is the only place that states the order of axes. ``array[slice, row, column]``; the affine
takes ``(slice, row, column, 1)`` to patient coordinates in millimetres, LPS, at voxel centres.
Int16 Hounsfield units for CT, uint8 labels for a mask.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stages.arrays import Array
from stages.errors import GeometryError
from stages.volume import simpleitk_image
from stages.volume.geometry import Affine, Grid
from stages.volume.origin import Origin


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """An array of voxels with a known place in the patient.

    Attributes
    ----------
    array
        Shape (slices, rows, columns); NumPy or CuPy; int16 HU or uint8 labels.
    affine
        4 x 4 float64, ``(slice, row, column, 1)`` to LPS mm at voxel centres.
    origin
        Where it came from.

    Raises
    ------
    GeometryError
        If the array has not three axes, or the affine is singular, not finite or not 4 x 4.
    """

    array: Array
    affine: Affine
    origin: Origin

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise GeometryError(
                f"a volume has three axes (slice, row, column); found shape {self.array.shape}"
            )
        if (
            self.affine.shape != (4, 4)
            or not np.isfinite(self.affine).all()
            or not self.grid.voxel_volume_mm3 > 0
        ):
            raise GeometryError(
                f"a volume's affine is an invertible 4 x 4 matrix; found {self.affine.tolist()}"
            )

    @property
    def grid(self) -> Grid:
        """Shape and affine together."""
        slices, rows, columns = self.array.shape
        return Grid((slices, rows, columns), self.affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along slice, row and column, mm."""
        return self.grid.spacing

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel, mm^3."""
        return self.grid.voxel_volume_mm3

    def with_array(self, array: Any) -> Volume:
        """Return a volume with another array on the same grid, of the same origin.

        Parameters
        ----------
        array
            Of the same shape, NumPy or CuPy; int16 HU or uint8 labels.

        Raises
        ------
        GeometryError
            If the array has not three axes.
        """
        return replace(self, array=array)

    def to_simpleitk(self) -> Any:
        """Return the volume as a ``SimpleITK.Image`` of the same voxels at the same place.

        Its metadata say what an image can carry of the origin: the UIDs and the body part under the tags of
        SimpleITK's own readers (such as ``0020|000e``), and of a mask what its labels mean and what made it.
        Most of SimpleITK's filters drop them.

        Returns
        -------
        SimpleITK.Image
            With a copy of the voxels, since SimpleITK takes no memory but its own. Nothing is copied where
            the array came from SimpleITK, by `from_simpleitk` or from a file of another program. A CuPy array
            comes to the host first.

        Raises
        ------
        GeometryError
            If the axes are not perpendicular: an image has directions and spacings only.
        InputError
            If SimpleITK knows no image of the array's type, such as bool.
        """
        return simpleitk_image.image_of(self.array, self.affine, self.origin)

    @classmethod
    def from_simpleitk(cls, image: Any, *, origin: Origin | None = None) -> Volume:
        """Return a ``SimpleITK.Image`` as a volume of the same voxels at the same place.

        Parameters
        ----------
        image
            Of three axes and one number a voxel, of any type; `write_volume` takes int16 and uint8.
        origin
            Where it came from, such as that of the volume it was made of; without it, what the image's
            metadata say (as `to_simpleitk` writes them, or the UIDs that SimpleITK's readers of DICOM leave).

        Returns
        -------
        Volume
            Its array is read-only and not copied, unless another image shares the memory (SimpleITK copies
            when one of them is written to). The image may be changed and dropped afterwards: the volume
            does not change with it.

        Raises
        ------
        GeometryError
            If the image's directions are not perpendicular.
        InputError
            If the image has other than three axes, or colours, vectors or complex numbers as voxels, or its
            metadata are not as they were written.
        """
        array, affine, stated = simpleitk_image.parts_of(image)
        return cls(array=array, affine=affine, origin=stated if origin is None else origin)
