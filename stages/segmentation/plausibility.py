"""Whether a mask can be right, by what its model says of the body: a warning for everybody who uses it.

A model marks something in every scan, also in one that does not show what it looks for. What is implausible
is told and never changed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from stages.arrays import to_host
from stages.model.description import ModelDescription
from stages.volume.body_parts import lies_elsewhere
from stages.volume.volume import Volume
from stages.volume.wording import volume_text

logger = logging.getLogger(__name__)

CUT_AREA_MM2 = 100.0
"""What a label covers of an outer face before it is cut off there; less is where an organ ends."""


def with_warnings(mask: Volume, model: ModelDescription, volumes_ml: Mapping[int, float]) -> Volume:
    """Return a mask that carries what is implausible in it as warnings, each of them logged.

    Parameters
    ----------
    mask
        Uint8 labels, on the host or on the device; only its outer faces are looked at.
    model
        Its `expected_volume_ml` and `body_part` are what is plausible.
    volumes_ml
        Volume of each label of the model in the mask, ml.
    """
    found = tuple(implausible(mask, model, volumes_ml))
    for sentence in found:
        logger.warning("%s", sentence)
    return replace(mask, origin=replace(mask.origin, warnings=(*mask.origin.warnings, *found)))


def implausible(mask: Volume, model: ModelDescription, volumes_ml: Mapping[int, float]) -> Iterator[str]:
    """Yield a sentence for each thing that is implausible in a mask.

    Parameters
    ----------
    mask, model, volumes_ml
        As for `with_warnings`.
    """
    examined, names = mask.origin.body_part, {each.value: each.name for each in mask.origin.labels}
    if model.body_part is not None and lies_elsewhere(examined, model.body_part):
        yield f"the series is of {examined}, the model is for {model.body_part}: the mask may be wrong"
    for label, (low, high) in sorted(model.expected_volume_ml.items()):
        labels = _with_parts(label, model)
        extent = _LabelExtent(
            name=names.get(label) or model.name_of(label),
            volume_ml=sum(volumes_ml[each] for each in labels),
            cut=tuple(_cut(mask, labels)),
        )
        if sentence := _sentence(extent, low, high):
            yield sentence


@dataclass(frozen=True)
class _LabelExtent:
    """A label as it lies in a mask: its volume, ml, and the faces at which it is cut off."""

    name: str
    volume_ml: float
    cut: tuple[str, ...]


def _with_parts(label: int, model: ModelDescription) -> list[int]:
    """Return a label and those that the model puts inside it, also in two steps."""
    labels = [label]
    for organ in labels:
        labels += [part for part, around in model.inside.items() if around == organ and part not in labels]
    return labels


def _cut(mask: Volume, labels: list[int]) -> Iterator[str]:
    """Yield the outer faces of a volume that labels reach."""
    first, last, *edges = (area > CUT_AREA_MM2 for area in _areas_on_faces_mm2(mask, labels))
    if first:
        yield "the first slice"
    if last:
        yield "the last slice"
    if any(edges):
        yield "the edge of the images"


def _areas_on_faces_mm2(mask: Volume, labels: list[int]) -> Iterator[float]:
    """Yield what labels cover of the first and the last slice, then of the outermost rows and columns."""
    array, (slices, rows, columns) = mask.array, mask.spacing
    faces = [
        *((rows * columns, array[end]) for end in (0, -1)),
        *((slices * columns, array[:, end]) for end in (0, -1)),
        *((slices * rows, array[:, :, end]) for end in (0, -1)),
    ]
    for voxel, face in faces:
        yield voxel * int(np.isin(to_host(face), labels).sum())


def _sentence(extent: _LabelExtent, low: float, high: float) -> str:
    """Return what is to be told of a label; nothing where it is plausible and whole."""
    expected = f"the expected {low:g} to {high:g} ml"
    told, reaches = f"{extent.name} {volume_text(extent.volume_ml)}", " and ".join(extent.cut)
    if extent.volume_ml == 0 < low:
        return f"no {extent.name} was found, {low:g} to {high:g} ml are expected: the scan may not show it"
    if extent.volume_ml > high:
        return f"{told} is outside {expected}: the mask may be wrong"
    if extent.volume_ml < low and extent.cut:
        return (
            f"{told} is outside {expected} and reaches {reaches}: the scan may not show all of it, or the "
            f"mask is wrong"
        )
    if extent.volume_ml < low:
        return f"{told} is outside {expected}: the scan may not show it, or the mask is wrong"
    return f"{extent.name} reaches {reaches}: it may be larger than what was scanned" if extent.cut else ""
