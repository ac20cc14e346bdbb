"""The road: mask -> source images -> segmentation -> file -> verified -> named."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dicom_writer.labels import LABELS, Label
from dicom_writer.provenance import Provenance
from stages import InputError, OutputError, Volume
from stages.arrays import to_host
from stages.original_slices import SliceMasks, on_original_slices

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dicom_writer.verify import Measurement

logger = logging.getLogger(__name__)


def write_results(
    mask: Volume,
    source: str | Path,
    output: str | Path,
    *,
    labels: Sequence[Label] = LABELS,
    provenance: Provenance | None = None,
) -> list[Path]:
    """Write a mask as DICOM, read it back, and give it its name only when it says what the mask says.

    Parameters
    ----------
    mask
        Integer label values on the grid of the volume; its origin names the series, and says how the
        original slices lie on that grid. Each frame of the result is one original slice.
    source
        Folder with the original images, at any depth, among any other files.
    output
        Folder to write to.
    labels
        What each label value means.
    provenance
        Which job made it, by which algorithm.

    Returns
    -------
    list of Path
        The files written: ``<SeriesInstanceUID of the source>.seg.dcm`` (as the volume is named).

    Raises
    ------
    InputError
        If the mask holds an unknown value or does not fit its source images.
    GeometryError
        If the mask does not lie where its source images lie.
    OutputError
        If the file cannot be written, or says something else than the mask; nothing is left of it.
    """
    from dicom_writer.segmentation import make_segmentation
    from dicom_writer.source import find_source, require_same_place
    from dicom_writer.verify import require_same_findings

    clock = time.monotonic()
    mask = replace(mask, array=_as_labels(mask, labels))
    sources = find_source(Path(source), mask)
    masks = on_original_slices(mask)
    require_same_place(masks, sources)
    require_same_findings(mask, masks, labels)
    logger.info("series %s: found its %d source images", mask.origin.series_instance_uid, len(sources))
    try:
        dataset = make_segmentation(masks, sources, labels=labels, provenance=provenance or Provenance())
    except (AttributeError, KeyError, TypeError, ValueError, NotImplementedError) as error:
        logger.debug("highdicom refused the source", exc_info=True)
        raise InputError(
            f"the source series cannot be described in a segmentation ({type(error).__name__}); "
            "an attribute of patient, study or image is damaged"
        ) from error
    path = Path(output) / f"{mask.origin.file_name}.seg.dcm"
    measured = _save_verified(dataset, path, masks, sources, labels)
    _log(dataset, measured, labels, path, time.monotonic() - clock)
    return [path]


def _as_labels(mask: Volume, labels: Sequence[Label]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    array = to_host(mask.array)
    known = {0, *(label.value for label in labels)}
    if array.dtype.kind not in "iu":
        raise InputError(f"a mask holds integers, this one {array.dtype}")
    if array.min() < 0 or array.max() > max(known):
        raise InputError(
            f"the mask holds values from {array.min()} to {array.max()}, known are {sorted(known)}"
        )
    return array.astype(np.uint8, copy=False)


def _save_verified(
    dataset: Dataset, path: Path, masks: SliceMasks, sources: Sequence[Dataset], labels: Sequence[Label]
) -> dict[int, Measurement]:
    from dicom_writer.verify import verify_segmentation

    unverified = path.with_name(f".{path.name}.unverified")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(unverified, enforce_file_format=True)
        measured = verify_segmentation(unverified, masks, sources, labels=labels)
        os.replace(unverified, path)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path.name} to {path.parent}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            unverified.unlink()
    return measured


def _log(
    dataset: Dataset, measured: dict[int, Measurement], labels: Sequence[Label], path: Path, seconds: float
) -> None:
    volumes = ", ".join(f"{label.name} {measured[label.value].volume_ml:.1f} ml" for label in labels)
    logger.info("%s: %s", dataset.ContentDescription, volumes)
    logger.info("wrote %s and verified it against the mask, in %.2f s", path.name, seconds)
