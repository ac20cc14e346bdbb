"""Everything that results are made of: the mask on its source images, measured.

What does not fit is refused here, before anything is written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_writer.labels import LABELS
from dicom_writer.measure import measure_masks
from dicom_writer.provenance import Provenance, UidMaker, warn_of_odd
from dicom_writer.results import Given, Options
from dicom_writer.source import find_source, require_same_place
from dicom_writer.verify import require_same_findings
from stages import InputError, Volume
from stages.arrays import to_host
from stages.labels import Label
from stages.original_slices import SliceMasks, on_original_slices


def gather(
    mask: Volume,
    source: Path,
    *,
    results: Sequence[str] = ("seg",),
    labels: Sequence[Label] = LABELS,
    provenance: Provenance | None = None,
    options: Options | None = None,
) -> Given:
    """Find the source images of a mask, draw it on them, and measure it; see `write.write_results`."""
    mask = replace(mask, array=_as_labels(mask, labels))
    return given_of(
        mask,
        find_source(source, mask),
        results=results,
        labels=labels,
        provenance=provenance,
        options=options,
    )


def given_of(
    mask: Volume,
    sources: Sequence[Dataset],
    *,
    results: Sequence[str] = ("seg",),
    labels: Sequence[Label] = LABELS,
    provenance: Provenance | None = None,
    options: Options | None = None,
) -> Given:
    """Draw a mask of known labels on its source images, and measure it."""
    provenance, options = provenance or Provenance(), options or Options()
    warn_of_odd(sources[0])
    masks = on_original_slices(mask)
    require_same_place(masks, sources)
    require_same_findings(mask, masks, labels)
    return Given(
        mask=mask,
        masks=masks,
        sources=sources,
        source_files=[Path(getattr(d, "filename", "") or "") for d in sources],
        labels=labels,
        provenance=provenance,
        measured={label.value: measure_masks(masks, label.value) for label in labels},
        uids=_uid_maker(masks, sources, labels, provenance, options, mask.origin.warnings),
        wanted=tuple(results),
        options=options,
    )


def _uid_maker(
    masks: SliceMasks,
    sources: Sequence[Dataset],
    labels: Sequence[Label],
    provenance: Provenance,
    options: Options,
    warnings: Sequence[str],
) -> UidMaker:
    settings = repr((provenance, tuple(labels), options, *warnings))
    return UidMaker(provenance.job_id, str(sources[0].SeriesInstanceUID), masks.array, settings)


def _as_labels(mask: Volume, labels: Sequence[Label]) -> NDArray[np.uint8]:
    array = to_host(mask.array)
    known = {0, *(label.value for label in labels)}
    if array.dtype.kind not in "iu":
        raise InputError(f"a mask holds integers, this one {array.dtype}")
    if array.min() < 0 or array.max() > 255:
        raise InputError(
            f"the mask holds values from {array.min()} to {array.max()}, known are {sorted(known)}"
        )
    array = array.astype(np.uint8, copy=False)
    unknown = _unknown_values(array, known)
    if unknown:
        raise InputError(
            f"the mask holds values {sorted(unknown)}, known are {sorted(known)}; "
            "say what they mean in a file of labels (--labels FILE)"
        )
    return array


def _unknown_values(array: NDArray[np.uint8], known: Collection[int]) -> set[int]:
    unknown: set[int] = set()
    for plane in array:
        candidates = set(range(int(plane.max()) + 1)) - {*known, *unknown}
        if candidates:
            unknown |= candidates & set(np.unique(plane).tolist())
    return unknown
