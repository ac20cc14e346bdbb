"""The road: folder -> series -> slices -> pixels -> volume."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from dicom_reader.identity import identify
from dicom_reader.pixels import read_pixels
from dicom_reader.series import choose_series, find_headers, log_choice
from dicom_reader.slices import TOLERANCE_MM, stack_slices
from stages import Origin, SliceOrigin, Volume

logger = logging.getLogger(__name__)


def read_series(
    folder: str | Path, *, series_instance_uid: str | None = None, tolerance_mm: float = TOLERANCE_MM
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
    stack = stack_slices(chosen.slices, tolerance_mm=tolerance_mm)
    hu, clipped = read_pixels([s.header for s in stack.slices])
    repairs = (*identity.repairs, *clipped)
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
        selection=selection,
    )
    return Volume(array=hu, affine=stack.grid.affine, origin=origin)
