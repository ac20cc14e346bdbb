"""The labels of a mask: what each means, and that the mask holds no value beside them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from stages import InputError, Volume
from stages.arrays import to_host
from stages.volume.labels import Label, require_named, spoken_of, where_to_say

logger = logging.getLogger(__name__)


def labels_of(mask: Volume, stated: Sequence[Label]) -> tuple[Label, ...]:
    """Return the labels that are written: those that the model can give, as stated or as the mask says.

    Parameters
    ----------
    mask
        Its origin says which labels the model can give, and what they mean.
    stated
        What takes precedence over what the mask says, label by label.

    Raises
    ------
    InputError
        If one of them has no meaning.
    """
    origin = mask.origin
    labels, nameless = spoken_of(origin.label_values, origin.labels, stated=stated)
    require_named(labels, nameless, model=origin.algorithm.name if origin.algorithm else "")
    own = {label.value: label for label in origin.labels}
    for label in labels:
        known = own.get(label.value, label)
        if label.name != known.name or not label.same_thing(known):  # left and right may have one code
            logger.warning(
                "label %d is written as %s, as stated; what made the mask calls it %s",
                label.value, label.name, known.name,
            )  # fmt: skip
    if unused := sorted({label.value for label in stated} - {label.value for label in labels}):
        logger.info("labels %s are stated, but the model cannot give them: nothing is said of them", unused)
    return labels


def mask_values(mask: Volume, labels: Sequence[Label]) -> NDArray[np.uint8]:
    """Return the label values of a mask, shape (slices, rows, columns).

    Parameters
    ----------
    mask
        Of any integer type, on any device.
    labels
        All that it may hold, beside 0.

    Raises
    ------
    InputError
        If it holds no integers, or a value that is no label's.
    """
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
