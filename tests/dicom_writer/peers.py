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


def voxels_of_contours(path):
    """Return positions (n, 3) and region numbers (n,) of the pixels whose centre is within a contour.

    Points are tried one by one: those around which the contour turns once.
    """
    dataset = pydicom.dcmread(path)
    cosines, spacing = _raster_of(dataset)
    found, numbers = [np.zeros((0, 3))], [np.zeros(0, int)]
    for region in dataset.ROIContourSequence:
        for contour in region.get("ContourSequence", []):
            points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
            flat = points @ cosines.T / spacing  # an edge lies at whole numbers from the first
            first = flat.min(axis=0) + 0.5
            rows, columns = (np.arange(s) for s in np.rint(np.ptp(flat, axis=0)).astype(int))
            tried = first + np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
            tried = tried[[abs(turns_around(flat, at)) > 0.5 for at in tried]]
            normal = np.cross(*cosines)
            found.append(tried * spacing @ cosines + normal * (points[0] @ normal))
            numbers.append(np.full(len(tried), region.ReferencedROINumber))
    return np.concatenate(found), np.concatenate(numbers)


def turns_around(polygon, at):
    """Return how often a closed polygon turns around a point."""
    spokes = (polygon - at) @ np.array([1, 1j])
    return np.angle(np.roll(spokes, -1) / spokes).sum() / (2 * np.pi)


def _raster_of(dataset):
    """Return the unit vectors (2, 3) along which all edges go, and the shortest steps between corners."""
    edges = []
    for region in dataset.ROIContourSequence:
        for contour in region.get("ContourSequence", []):
            points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
            edges.append(np.roll(points, -1, axis=0) - points)
    edges = np.concatenate(edges)
    lengths = np.linalg.norm(edges, axis=1)
    one = edges[0] / lengths[0]
    along = np.abs(edges @ one) > 0.5 * lengths
    other = edges[~along][0] / lengths[~along][0]
    steps = [_divisor(lengths[which]) for which in (along, ~along)]
    return np.stack([one, other]), np.array(steps)


def _divisor(lengths):
    """Return the longest step, of 1.25 and 1.5 mm, of which all lengths are multiples."""
    return next(s for s in (1.5, 1.25) if np.allclose(lengths / s, np.rint(lengths / s), atol=1e-3))


def voxels_of(name, paths):
    """Return positions and labels that another program reads of a kind of result."""
    if name == "rtstruct":
        return voxels_of_contours(paths[0])
    return voxels_of_series(paths) if name == "series" else voxels_of_segmentation(paths[0])


def study_of(path):
    """Return the study that a file belongs to."""
    return str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)
