"""What `stages.components` does for a mask on the device: within the box that holds the labels."""

from __future__ import annotations

from collections.abc import Sequence

from stages.arrays import Array, array_namespace, ndimage_namespace


def keep_largest_component(labels: Array, group: Sequence[int]) -> None:
    """See `stages.components`."""
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
    """See `stages.components`."""
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


def remove_small(labels: Array, label: int, minimum_voxels: float) -> None:
    """See `stages.components`."""
    xp, box = array_namespace(labels), bounding_box(labels == label)
    if box is None:
        return
    part = labels[box]
    components, count = ndimage_namespace(labels).label(part == label)
    small = xp.asarray(_component_sizes(components, count)) < minimum_voxels
    small[0] = False
    part[small[components]] = 0


def fill_holes(labels: Array, label: int) -> None:
    """See `stages.components`."""
    box = bounding_box(labels == label)
    if box is None:
        return
    part = labels[box]
    filled = ndimage_namespace(labels).binary_fill_holes(part == label)
    part[filled & (part == 0)] = label
