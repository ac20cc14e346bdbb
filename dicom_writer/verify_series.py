"""Hold a written mask series against the mask: every file, its place, its pixels, its reference.

pydicom reads the files; positions come from each by the formula of the standard.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.dataset import Dataset

from dicom_writer.frames import image_key
from dicom_writer.measure import (
    TOLERANCE_MM,
    Measurement,
    Part,
    part_of,
    require_same_measurements,
    whole_of,
)
from dicom_writer.results import Given
from dicom_writer.source import pixel_positions
from dicom_writer.verify import require_same_identity
from stages import OutputError


def verify_series(paths: Sequence[Path], given: Given) -> Mapping[int, Measurement]:
    """Read a mask series back, and return what it says of each label.

    Raises
    ------
    OutputError
        At the first thing that differs.
    """
    slice_of = {image_key(source): n for n, source in enumerate(given.sources)}
    parts: dict[int, list[Part | None]] = {label.value: [] for label in given.labels}
    seen: dict[int, str] = {}
    series = set()
    for path in paths:
        with config.disable_value_validation():
            image = dcmread(path)
            require_same_identity(image, given)
            n = slice_of.get(_reference(image), -1)
            if n < 0 or n in seen:
                raise OutputError(f"{path.name} refers to no source image, or to one that another refers to")
            seen[n] = str(image.SOPInstanceUID)
            series.add(str(image.SeriesInstanceUID))
            pixels = _pixels(image)
            _compare(image, pixels, given, n)
        area = float(np.prod([float(mm) for mm in image.PixelSpacing]))
        thickness = float(given.masks.thickness_mm[n])
        positions = functools.partial(pixel_positions, image)
        for value, found in parts.items():
            found.append(part_of(pixels == value, area * thickness, positions))
    if len(seen) != len(given.sources) or len(set(seen.values())) != len(seen) or len(series) != 1:
        raise OutputError(
            f"{len(seen)} instances of {len(series)} series were written, "
            f"expected {len(given.sources)} of one"
        )
    measured = {value: whole_of(found) for value, found in parts.items()}
    require_same_measurements(measured, given.measured, given.labels, what="mask series,")
    return measured


def _reference(image: Dataset) -> tuple[str, int]:
    (item,) = image.SourceImageSequence
    return str(item.ReferencedSOPInstanceUID), int(item.get("ReferencedFrameNumber") or 0)


def _pixels(image: Dataset) -> NDArray[np.uint16]:
    if (float(image.RescaleSlope), float(image.RescaleIntercept)) != (1.0, 0.0):
        raise OutputError("the mask series rescales its values; expected slope 1 and intercept 0")
    return np.frombuffer(image.PixelData, "<u2").reshape(image.Rows, image.Columns)


def _compare(image: Dataset, pixels: NDArray[np.uint16], given: Given, n: int) -> None:
    meant = given.masks.array[n]
    if pixels.shape != meant.shape:
        raise OutputError(f"an instance has {pixels.shape} pixels, slice {n + 1} of the mask {meant.shape}")
    rows, columns = meant.shape
    corners = np.array([(r, c) for r in (0, rows - 1) for c in (0, columns - 1)])
    away = pixel_positions(image, corners) - given.masks.positions(n, corners)
    apart = float(np.linalg.norm(away, axis=1).max())
    if not apart <= TOLERANCE_MM:
        raise OutputError(f"an instance lies {apart:.2f} mm from slice {n + 1} of the mask")
    different = pixels != meant
    if different.any():
        row, column = np.argwhere(different)[0]
        raise OutputError(
            f"{int(np.count_nonzero(different))} pixels in slice {n + 1} of the mask series differ from "
            f"the mask, the first at row {row}, column {column}"
        )
