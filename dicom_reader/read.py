"""The road: folder -> series -> slices -> pixels -> volume."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from dicom_reader.pixels import read_pixels
from dicom_reader.series import choose_series, find_headers, log_choice
from dicom_reader.slices import TOLERANCE_MM, Stack, stack_slices
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
    uid = chosen.slices[0].uid("SeriesInstanceUID")
    stack = stack_slices(chosen.slices, tolerance_mm=tolerance_mm)
    hu, repairs = read_pixels([s.header for s in stack.slices])
    for repair in repairs:
        logger.warning("%s", repair)
    logger.info(
        "read %d slices of %d x %d, spacing %s mm, in %.2f s",
        *stack.grid.shape,
        " x ".join(f"{mm:.3f}" for mm in stack.grid.spacing),
        time.monotonic() - clock,
    )
    return Volume(array=hu, affine=stack.grid.affine, origin=_origin(uid, stack, selection, repairs))


def _origin(uid: str, stack: Stack, selection: dict[str, str], repairs: list[str]) -> Origin:
    first = stack.slices[0].header
    slices = tuple(
        SliceOrigin(
            sop_instance_uid=s.header.uid("SOPInstanceUID"),
            position=(s.position[0], s.position[1], s.position[2]),
        )
        for s in stack.slices
    )
    return Origin(
        series_instance_uid=uid,
        study_instance_uid=first.uid("StudyInstanceUID"),
        frame_of_reference_uid=first.uid("FrameOfReferenceUID"),
        slices=slices,
        repairs=tuple(repairs),
        selection=selection,
    )
