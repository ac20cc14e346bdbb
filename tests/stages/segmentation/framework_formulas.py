"""What nnU-Net v2, MONAI and TotalSegmentator do between file and network and back, written down with SciPy.

Not their code: their formulas, checked against them where they are installed.
"""

import numpy as np
from scipy import ndimage


def skimage_resize(array, shape, order):
    """Return ``skimage.transform.resize(array, shape, order, mode='edge', anti_aliasing=False)``."""
    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    made = ndimage.zoom(array.astype(float), factors, order=order, mode="nearest", grid_mode=True)
    assert made.shape == tuple(shape)
    return np.clip(made, array.min(), array.max())


def nnunet_apart(old_mm, new_mm, threshold=3):
    """Return the axis that nnU-Net treats apart, None without one."""
    for spacing in (np.array(old_mm), np.array(new_mm)):
        if spacing.max() / spacing.min() > threshold:
            axes = np.flatnonzero(spacing.max() / spacing == 1)
            return int(axes[0]) if len(axes) == 1 else None
    return None


def nnunet_resample(array, shape, old_mm, new_mm, order):
    """Return an array of one channel on another shape, as ``resample_data_or_seg_to_shape`` (order_z 0)."""
    axis = nnunet_apart(old_mm, new_mm)
    if axis is None:
        return skimage_resize(array, shape, order)
    in_plane = [size for n, size in enumerate(shape) if n != axis]
    planes = [skimage_resize(plane, in_plane, order) for plane in np.moveaxis(array, axis, 0)]
    places = len(planes) / shape[axis] * (np.arange(shape[axis]) + 0.5) - 0.5
    chosen = np.clip(np.floor(places + 0.5), 0, len(planes) - 1).astype(int)
    return np.moveaxis(np.stack([planes[n] for n in chosen]), 0, axis)


def nnunet_shape(shape, old_mm, new_mm):
    return [round(old / new * n) for old, new, n in zip(old_mm, new_mm, shape, strict=True)]


def nnunet_input(hu, old_mm, new_mm, *, clip, mean, std):
    """Return what the network gets of HU cropped to what is not 0."""
    normal = (np.clip(hu.astype(np.float32), *clip) - mean) / std
    return nnunet_resample(normal, nnunet_shape(hu.shape, old_mm, new_mm), old_mm, new_mm, 3)


def nnunet_labels(logits, shape, old_mm, new_mm, *, regions=None):
    """Return the labels of logits: of the largest channel, or of the last that is above 0."""
    on_volume = np.stack([nnunet_resample(each, shape, old_mm, new_mm, 1) for each in logits])
    if regions is None:
        return on_volume.argmax(0)
    labels = np.zeros(shape, int)
    for label, each in zip(regions, on_volume, strict=True):
        labels[1 / (1 + np.exp(-each)) > 0.5] = label
    return labels


def nnunet_gaussian(shape):
    """Return ``compute_gaussian(shape, 1/8, 10, float16)``."""
    peak = np.zeros(shape)
    peak[tuple(size // 2 for size in shape)] = 1
    made = ndimage.gaussian_filter(peak, [size / 8 for size in shape], 0, mode="constant", cval=0)
    made = (made / (made.max() / 10)).astype(np.float16)
    made[made == 0] = made[made != 0].min()
    return made.astype(np.float32)


def nnunet_starts(size, window, step):
    target = window * step
    count = int(np.ceil((size - window) / target)) + 1
    actual = (size - window) / (count - 1) if count > 1 else 99999999999
    return [int(np.round(actual * n)) for n in range(count)]


def monai_resample(array, shape, scale, order):
    """Return an array on a grid whose first voxel lies at the first one's centre, `scale` apart.

    As ``SpatialResample`` with padding ``border``; of nearest voxels halfway, the even one.
    """
    places = [step * np.arange(size) for step, size in zip(scale, shape, strict=True)]
    if order == 0:
        return array[
            np.ix_(
                *(
                    np.clip(np.rint(np.round(each, 6)), 0, size - 1).astype(int)
                    for each, size in zip(places, array.shape, strict=True)
                )
            )
        ]
    coordinates = np.meshgrid(*places, indexing="ij")
    return ndimage.map_coordinates(array.astype(float), coordinates, order=1, mode="nearest")


def monai_shape(shape, old_mm, new_mm):
    return [int(np.round((n - 1) * old / new + 1)) for n, old, new in zip(shape, old_mm, new_mm, strict=True)]


def totalsegmentator_input(hu, old_mm, new_mm):
    """Return HU as ``change_spacing(..., order=3, dtype=np.int32)`` makes them."""
    factors = [old / new for old, new in zip(old_mm, new_mm, strict=True)]
    return ndimage.zoom(hu.astype(float), factors, order=3).astype(np.int32)


def totalsegmentator_labels(labels, shape):
    """Return labels as ``change_spacing(..., target_shape, order=0)`` brings them back."""
    return ndimage.zoom(labels, [new / old for new, old in zip(shape, labels.shape, strict=True)], order=0)
