"""One slice and its place in the patient, as its header says.

References
----------
DICOM PS3.3 C.7.6.2.1.1, Image Position and Image Orientation; PS3.3 10.7.1.3, Pixel Spacing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dicom_reader.files.headers import ImageHeader
from stages import GeometryError
from stages.volume.geometry import slice_normal

COSINE_TOLERANCE = 1e-4
_MAX_MATRIX = 8192


@lru_cache(maxsize=64)
def normal_of(orientation: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the normal of an orientation; all slices of a series ask for the same.

    Parameters
    ----------
    orientation
        *Image Orientation (Patient)* (0020,0037), six cosines.
    """
    return slice_normal(orientation)


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One slice and its place.

    Attributes
    ----------
    header
        What it was read from.
    position
        *Image Position (Patient)* (0020,0032), mm.
    orientation
        *Image Orientation (Patient)* (0020,0037), six cosines.
    pixel_spacing
        *Pixel Spacing* (0028,0030): between rows, between columns, mm.
    matrix
        *Rows* (0028,0010) and *Columns* (0028,0011).
    """

    header: ImageHeader
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    matrix: tuple[int, int]

    @classmethod
    def from_header(cls, header: ImageHeader) -> Slice:
        """Read the place of a slice.

        Parameters
        ----------
        header
            Of the slice.

        Raises
        ------
        InputError
            If an attribute is missing or is no number that makes sense, naming file and attribute.
        """
        header.uid("SOPInstanceUID")
        spacing = header.numbers("PixelSpacing", 2)
        if min(spacing) <= 0:
            raise header.refuse("PixelSpacing", f"must be positive, found {spacing}")
        matrix = header.integer("Rows"), header.integer("Columns")
        for keyword, size in zip(("Rows", "Columns"), matrix, strict=True):
            if not 1 < size <= _MAX_MATRIX:
                raise header.refuse(keyword, f"must be 2 to {_MAX_MATRIX}, found {size}")
        orientation = header.numbers("ImageOrientationPatient", 6)
        try:
            normal_of(orientation)
        except GeometryError as error:
            raise GeometryError(f"{header.name}: {error}") from error
        return cls(
            header=header,
            position=header.numbers("ImagePositionPatient", 3),
            orientation=orientation,
            pixel_spacing=spacing,
            matrix=matrix,
        )
