"""Compare a written series with the mask or volume it was made of: its places, its pixels, its references.

pydicom reads the files; positions come from each by the formula of the standard.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.dataset import Dataset

from dicom_writer.checks.identity import require_comments, require_same_identity
from dicom_writer.checks.measurements import TOLERANCE_MM, require_same_measurements
from dicom_writer.mask.measure import Measurement, PlaneMeasurement, combine_planes, measure_plane
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.source.frames import image_key
from dicom_writer.source.positions import pixel_positions
from stages import OutputError


def verify_series(paths: Sequence[Path], request: ResultRequest) -> Mapping[int, Measurement]:
    """Read a series back, and return what it says of each label.

    Parameters
    ----------
    paths, request
        A file for each slice, and what should be in them.

    Raises
    ------
    OutputError
        At the first thing that differs.
    """
    with config.disable_value_validation(), ThreadPoolExecutor(os.cpu_count()) as pool:
        read = list(pool.map(lambda path: _read(path, request), paths))
    slices = {one.slice for one in read}
    instances = {one.sop_instance_uid for one in read}
    series = {one.series_instance_uid for one in read}
    if not len(slices) == len(instances) == len(read) == len(request.sources) or len(series) != 1:
        raise OutputError(
            f"{len(instances)} instances of {len(series)} series are of {len(slices)} slices, "
            f"expected {len(request.sources)} of one series"
        )
    measured = {
        label.value: combine_planes(one.parts[label.value] for one in read) for label in request.labels
    }
    require_same_measurements(measured, request.measured, request.labels, what="mask series,")
    return measured


@dataclass(frozen=True, kw_only=True, eq=False)
class _Read:
    """What one file says: which slice it is of, and what it holds of each label."""

    slice: int
    sop_instance_uid: str
    series_instance_uid: str
    parts: Mapping[int, PlaneMeasurement | None]


def _read(path: Path, request: ResultRequest) -> _Read:
    image = dcmread(path)
    require_same_identity(image, request)
    require_comments(image, request)
    n = int(image.InstanceNumber) - 1
    if not 0 <= n < len(request.sources) or _reference(image) != image_key(request.sources[n]):
        raise OutputError(f"instance number {n + 1} does not refer to the source image of slice {n + 1}")
    pixels = _pixels(image)
    _compare(image, pixels, request, n)
    pixel_mm3 = float(np.prod([float(mm) for mm in image.PixelSpacing])) * float(
        request.masks.thickness_mm[n]
    )
    positions = functools.partial(pixel_positions, image)
    there = pixels.any()
    return _Read(
        slice=n,
        sop_instance_uid=str(image.SOPInstanceUID),
        series_instance_uid=str(image.SeriesInstanceUID),
        parts={
            label.value: measure_plane(pixels == label.value, pixel_mm3, positions) if there else None
            for label in request.labels
        },
    )


def _reference(image: Dataset) -> tuple[str, int]:
    (item,) = image.SourceImageSequence
    return str(item.ReferencedSOPInstanceUID), int(item.get("ReferencedFrameNumber") or 0)


def _pixels(image: Dataset) -> NDArray[Any]:
    if (float(image.RescaleSlope), float(image.RescaleIntercept)) != (1.0, 0.0):
        raise OutputError("the series rescales its values; expected slope 1 and intercept 0")
    dtype = "<i2" if int(image.PixelRepresentation) else "<u2"
    return np.frombuffer(image.PixelData, dtype).reshape(image.Rows, image.Columns)


def _compare(image: Dataset, pixels: NDArray[Any], request: ResultRequest, n: int) -> None:
    meant = request.masks.array[n]
    if pixels.shape != meant.shape:
        raise OutputError(f"an instance has {pixels.shape} pixels, slice {n + 1} of the mask {meant.shape}")
    rows, columns = meant.shape
    corners = np.array([(r, c) for r in (0, rows - 1) for c in (0, columns - 1)])
    away = pixel_positions(image, corners) - request.masks.positions(n, corners)
    apart = float(np.linalg.norm(away, axis=1).max())
    if not apart <= TOLERANCE_MM:
        raise OutputError(f"an instance lies {apart:.2f} mm from slice {n + 1} of the mask")
    different = pixels != meant
    if different.any():
        row, column = np.argwhere(different)[0]
        raise OutputError(
            f"{int(np.count_nonzero(different))} pixels in slice {n + 1} of the series differ from "
            f"what was meant, the first at row {row}, column {column}"
        )
