"""Everything that results are made of: the mask on its source images, measured.

What does not fit is refused here, before anything is written.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_writer.checks.identity import require_same_findings
from dicom_writer.mask.measure import measure_masks
from dicom_writer.request.provenance import Provenance, UidMaker
from dicom_writer.request.result_request import Given, Options
from dicom_writer.source.images import find_source, require_same_place
from dicom_writer.source.values import digest_of
from stages import InputError, Volume
from stages.arrays import to_host
from stages.volume.labels import Label, require_named, spoken_of, where_to_say
from stages.volume.original_slices import on_original_slices

logger = logging.getLogger(__name__)


def gather(
    mask: Volume,
    source: Path,
    *,
    results: Sequence[str] = ("seg",),
    labels: Sequence[Label] = (),
    provenance: Provenance | None = None,
    options: Options | None = None,
) -> Given:
    """Find the source images of a mask, draw it on them, and measure it; see `write.write_results`."""
    labels = labels_of(mask, labels)
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
    labels: Sequence[Label],
    provenance: Provenance | None = None,
    options: Options | None = None,
) -> Given:
    """Draw a mask of known labels on its source images, and measure it."""
    provenance, options = provenance or Provenance(), options or Options()
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
        uids=uid_maker(mask, masks.array, sources, settings=(provenance, tuple(labels), options)),
        wanted=tuple(results),
        options=options,
    )


def uid_maker(
    volume: Volume, written: NDArray[Any], sources: Sequence[Dataset], *, settings: object
) -> UidMaker:
    """Return what makes the UIDs of results: of the source, the voxels, and all else that is written.

    Parameters
    ----------
    volume
        As it came; its warnings and corrections are written.
    written
        The voxels that are written, shape (slices, rows, columns).
    settings
        All else; its `repr` says it whole.
    """
    correction = volume.origin.correction
    told = (settings, volume.origin.warnings, correction.kinds if correction else ())
    return UidMaker(digest_of(sources), written, repr(told))


def labels_of(mask: Volume, stated: Sequence[Label]) -> tuple[Label, ...]:
    """Return the labels that are written: those that the model can give, as stated or as the mask says.

    Parameters
    ----------
    stated
        What takes precedence over what the mask says, label by label.

    Raises
    ------
    InputError
        If nobody said what one of them means.
    """
    origin = mask.origin
    labels, nameless = spoken_of(origin.label_values, origin.labels, stated=stated)
    require_named(labels, nameless, model=origin.algorithm.name if origin.algorithm else "")
    own = {label.value: label for label in origin.labels}
    for label in labels:
        said = own.get(label.value, label)
        if label.name != said.name or not label.same_thing(said):  # left and right may have one code
            logger.warning(
                "label %d is written as %s, as stated; what made the mask calls it %s",
                label.value, label.name, said.name,
            )  # fmt: skip
    if unused := sorted({label.value for label in stated} - {label.value for label in labels}):
        logger.info("labels %s are stated, but the model cannot give them: nothing is said of them", unused)
    return labels


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
            f"the mask holds values {sorted(unknown)}, known are {sorted(known)}{_of_what(mask)}"
        )
    return array


def _of_what(mask: Volume) -> str:
    origin = mask.origin
    if origin.label_values:
        return (
            ", which are all that what made it says it can give (label_values in its JSON); the stage has to "
            "say there all that it gives"
        )
    if origin.labels:
        return ", which are all that its JSON names under labels; name the others there as well"
    return f"; {where_to_say(origin.algorithm.name if origin.algorithm else '')}"


def _unknown_values(array: NDArray[np.uint8], known: Collection[int]) -> set[int]:
    unknown: set[int] = set()
    for plane in array:
        candidates = set(range(int(plane.max()) + 1)) - {*known, *unknown}
        if candidates:
            unknown |= candidates & set(np.unique(plane).tolist())
    return unknown
