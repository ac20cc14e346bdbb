"""The road: folder -> series -> slices -> pixels -> volume."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_reader.correct import put_on_grid
from dicom_reader.find import find_headers
from dicom_reader.headers import Header
from dicom_reader.identity import identify
from dicom_reader.lattice import TOLERANCE_MM
from dicom_reader.pixels import Encoding, read_pixels
from dicom_reader.series import choose_series, log_choice
from dicom_reader.slices import Stack, stack_slices
from stages import Correction, Origin, SliceOrigin, Volume

logger = logging.getLogger(__name__)

AIR_HU = -1024
_AT_ONCE = 4  # slices read together where they are moved one by one


def read_series(
    folder: str | Path,
    *,
    series_instance_uid: str | None = None,
    tolerance_mm: float = TOLERANCE_MM,
    fill_missing: int = 0,
) -> Volume:
    """Return the largest axial CT series of a folder as a volume.

    Parameters
    ----------
    folder
        Where the DICOM files lie, at any depth, under any names, among any other files.
    series_instance_uid
        *Series Instance UID* (0020,000E) of the series to read, rather than the largest.
    tolerance_mm
        How far a slice may lie from where a regular stack would have it.

    Returns
    -------
    Volume
        Int16 Hounsfield units, shape (slices, rows, columns). The slice index grows along the
        normal: toward Superior for standard axial slices.

    Raises
    ------
    InputError
        If there is no axial CT series, or a file of it is damaged or lacks an attribute.
    GeometryError
        If the slices are no regular stack.
    """
    clock = time.monotonic()
    found = find_headers(Path(folder))
    chosen, selection = choose_series(found, series_instance_uid=series_instance_uid)
    log_choice(chosen, selection)
    identity = identify(chosen.slices)
    stack = stack_slices(chosen.slices, tolerance_mm=tolerance_mm, fill_missing=fill_missing)
    hu, correction, clipped = _pixels_on_grid(stack)
    repairs = (*identity.repairs, *stack.remarks, *clipped)
    for repair in repairs:
        logger.warning("%s", repair)
    logger.info(
        "read %d slices of %d x %d, spacing %s mm, in %.2f s",
        *stack.grid.shape,
        " x ".join(f"{mm:.3f}" for mm in stack.grid.spacing),
        time.monotonic() - clock,
    )
    slices = tuple(
        SliceOrigin(
            sop_instance_uid=s.header.uid("SOPInstanceUID"),
            position=(s.position[0], s.position[1], s.position[2]),
        )
        for s in stack.slices
    )
    origin = Origin(
        series_instance_uid=identity.series,
        study_instance_uid=identity.study,
        frame_of_reference_uid=identity.frame_of_reference,
        slices=slices,
        repairs=repairs,
        correction=correction,
        selection=selection,
    )
    return Volume(array=hu, affine=stack.grid.affine, origin=origin)


def _pixels_on_grid(stack: Stack) -> tuple[NDArray[np.int16], Correction | None, list[str]]:
    """Read the slices into a volume; one after another where they must be moved."""
    headers = [s.header for s in stack.slices]
    if not stack.kinds:
        hu, clipped = read_pixels(headers)
        return hu, None, clipped
    fill, clipped = _fill_value(headers[0]), []

    def planes() -> Iterator[NDArray[np.int16]]:
        for start in range(0, len(headers), _AT_ONCE):
            hu, repairs = read_pixels(headers[start : start + _AT_ONCE])
            clipped.extend(repairs)
            yield from hu

    hu = put_on_grid(planes(), stack.first_pixels, stack.grid.shape, fill=fill)
    correction = Correction(
        kinds=stack.kinds,
        matrix=stack.slices[0].matrix,
        first_pixels=stack.first_pixels,
        fill_hu=fill,
    )
    return hu, correction, clipped


def _fill_value(header: Header) -> int:
    """Return what the series has where it has no data: its padding, or air as scanners write it."""
    encoding = Encoding.from_header(header)
    if encoding.padding is None:
        return AIR_HU
    value = round(encoding.slope * encoding.padding + encoding.intercept)
    return min(max(value, -32768), 32767)
