"""What other programs read of a result: label values, and where in the patient each voxel lies."""

import highdicom as hd
import numpy as np
import pydicom
import SimpleITK


def voxels_of_segmentation(path):
    """Return positions (n, 3) and labels (n,) of all voxels that are no background, by highdicom."""
    volume = hd.seg.segread(path).get_volume(combine_segments=True, allow_missing_positions=True)
    where = np.argwhere(volume.array)
    return volume.map_indices_to_reference(where), volume.array[tuple(where.T)]


def voxels_of_series(paths):
    """Return positions (n, 3) and values (n,) of all voxels that are not 0, by SimpleITK."""
    folder = str(paths[0].parent)
    names = (
        SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(folder)
        if len(paths) > 1
        else [str(p) for p in paths]
    )
    image = SimpleITK.ReadImage(names)
    array = SimpleITK.GetArrayFromImage(image)
    where = np.argwhere(array)
    points = [image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]) for index in where]
    return np.array(points).reshape(-1, 3), array[tuple(where.T)]


def voxels_of(name, paths):
    """Return positions and labels that another program reads of a kind of result."""
    return voxels_of_series(paths) if name == "series" else voxels_of_segmentation(paths[0])


def study_of(path):
    """Return the study that a file belongs to."""
    return str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)
