"""Scores -> labels on the original grid; small components removed, tumour only inside the liver."""

from __future__ import annotations

from collections.abc import Sequence

from ai_livertumor.model import ModelDescription
from ai_livertumor.preprocess import ModelInput
from stages.arrays import Array, array_namespace, ndimage_namespace
from stages.geometry import orientation_of, reorient
from stages.resample import labels_from_scores
from stages.volume import Volume


def postprocess(scores: Array, prepared: ModelInput, volume: Volume, model: ModelDescription) -> Volume:
    """Return the mask (uint8) of a volume on the volume's own grid, of the volume's origin."""
    labels = labels_from_scores(scores, prepared.grid, prepared.source_grid, labels=model.channel_labels)
    if model.largest_component:
        keep_largest_component(labels, model.largest_component)
    for label, organ in model.inside.items():
        keep_inside(labels, label, organ)
    back, _ = reorient(labels, prepared.source_grid.affine, orientation_of(volume.affine))
    return volume.with_array(array_namespace(back).ascontiguousarray(back))


def keep_largest_component(labels: Array, group: Sequence[int]) -> None:
    """Set to 0, in place, what is labelled with one of `group` but not in their largest component.

    Components are connected over faces; of several largest ones the first in index order stays.
    """
    member = labels == group[0]
    for label in group[1:]:
        member |= labels == label
    box = bounding_box(member)
    if box is None:
        return
    components, count = ndimage_namespace(labels).label(member[box])
    if count > 1:
        sizes = _component_sizes(components, count)
        sizes[0] = 0
        labels[box][member[box] & (components != sizes.argmax())] = 0


def _component_sizes(components: Array, count: int) -> Array:
    """Return the number of voxels of each component; a slice at a time, since bincount works on 64 bits."""
    xp = array_namespace(components)
    return sum(xp.bincount(plane.ravel(), minlength=count + 1) for plane in components)


def keep_inside(labels: Array, label: int, organ: int) -> None:
    """Set to 0, in place, each component of `label` that touches no voxel of `organ`.

    Components are connected over faces, and so is touching.
    """
    xp, ndimage = array_namespace(labels), ndimage_namespace(labels)
    box = bounding_box(labels == label)
    if box is None:
        return
    part = labels[tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)]
    components, count = ndimage.label(part == label)
    stays = xp.zeros(count + 1, dtype=bool)
    stays[components[ndimage.binary_dilation(part == organ)]] = True
    stays[0] = True
    part[~stays[components]] = 0


def bounding_box(mask: Array) -> tuple[slice, slice, slice] | None:
    """Return the smallest box that holds all true voxels; None if there is none."""
    xp = array_namespace(mask)
    slices = []
    for axis in range(3):
        indices = xp.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if indices.size == 0:
            return None
        slices.append(slice(int(indices[0]), int(indices[-1]) + 1))
    return slices[0], slices[1], slices[2]


def label_volumes_ml(mask: Volume, labels: Sequence[int]) -> dict[int, float]:
    """Return the volume of each label, millilitres."""
    counts = {label: int((mask.array == label).sum()) for label in labels}
    return {label: count * mask.voxel_volume_mm3 / 1000 for label, count in counts.items()}
