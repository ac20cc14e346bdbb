"""A mask that is told from each of its mirror images, stated in patient coordinates alone.

A letter F in three dimensions: a stem that goes up, an arm to the left at its top, a shorter arm to the
back below, and a tumour in the foot of the stem that sticks out to the right. Whatever the orientation
of the slices, a voxel has the label that its place in the patient says.
"""

from dataclasses import replace

import numpy as np

from stages import Origin, SliceOrigin, Volume
from tests import phantoms

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ORIENTATIONS = {
    "axial": AXIAL,
    "axial, feet first": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "coronal": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
    "coronal, from behind": (-1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
    "sagittal": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    "sagittal, from the left": (0.0, -1.0, 0.0, 0.0, 0.0, -1.0),
    "oblique": (0.96, 0.28, 0.0, -0.224, 0.768, 0.6),
}
SHAPE = (14, 22, 22)
SPACING = (2.5, 1.5, 1.25)  # of slices, rows and columns


def label_at(points):
    """Return the labels of points (..., 3), LPS mm."""
    x, y, z = np.moveaxis(np.asarray(points), -1, 0)
    stem = (np.abs(x) < 3.1) & (np.abs(y) < 3.1) & (np.abs(z) < 10.1)
    left = (x > 0) & (x < 9.3) & (np.abs(y) < 3.1) & (z > 4.2) & (z < 10.1)
    back = (np.abs(x) < 3.1) & (y > 0) & (y < 8.3) & (np.abs(z) < 2.9)
    foot = (np.abs(x) < 3.1) & (np.abs(y) < 3.1) & (z < -5.2) & (z > -10.1)
    toe = (x < 0) & (x > -6.4) & (y < 0) & (y > -3.1) & (z < -5.2) & (z > -10.1)
    return np.where(foot | toe, 2, stem | left | back).astype(np.uint8)


def affine_of(orientation, shape=SHAPE, spacing=SPACING):
    """Return an affine whose voxels surround the middle of the patient."""
    along_row, along_column = np.reshape(orientation, (2, 3))
    affine = np.eye(4)
    normal = np.cross(along_row, along_column)
    affine[:3, :3] = np.stack(
        [normal * spacing[0], along_column * spacing[1], along_row * spacing[2]], axis=1
    )
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def series_and_mask(folder, orientation=AXIAL, shape=SHAPE, spacing=SPACING, **attributes):
    """Write a CT series and return its folder and the mask of the letter on it."""
    affine = affine_of(orientation, shape, spacing)
    slices = phantoms.ct_slices(
        shape, spacing=spacing, first=affine[:3, 3], orientation=orientation, **attributes
    )
    indices = np.moveaxis(np.indices(shape), 0, -1)
    array = label_at(indices @ affine[:3, :3].T + affine[:3, 3])
    origin = Origin(
        series_instance_uid=phantoms.SERIES,
        study_instance_uid=phantoms.STUDY,
        frame_of_reference_uid=phantoms.FRAME,
        slices=tuple(
            SliceOrigin(
                sop_instance_uid=ds.SOPInstanceUID, position=tuple(map(float, ds.ImagePositionPatient))
            )
            for ds in slices
        ),
        labels=phantoms.LABELS,
    )
    folder.mkdir()
    for n, ds in enumerate(slices):
        ds.save_as(folder / f"IM{(n * 7919) % 10007:05d}", enforce_file_format=True)
    return folder, Volume(array=array, affine=affine, origin=origin)


def changed(mask, array):
    """Return the mask with other voxels."""
    return replace(mask, array=np.ascontiguousarray(array))
