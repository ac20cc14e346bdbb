import numpy as np
import pytest
import SimpleITK
from scipy.ndimage import map_coordinates

from stages import GeometryError
from stages.arrays import to_host
from stages.compute.resample import axis_samples, labels_from_scores, resample_linear
from stages.volume.geometry import Grid, grid_with_spacing


def line(size, step=1.0, first=0.0):
    """Return a grid of one row and column, and slices of `step` mm from `first`."""
    affine = np.diag([step, 1.0, 1.0, 1.0])
    affine[0, 3] = first
    return Grid((size, 1, 1), affine)


def column(*values):
    return np.array(values, dtype=np.int16).reshape(-1, 1, 1)


def shifted_grid(grid, shape, scale, first):
    """Return a grid whose spacing is `scale` times that of `grid`, beginning at its index `first`."""
    affine = grid.affine.copy()
    affine[:3, :3] *= scale
    affine[:3, 3] = grid.affine[:3, :3] @ first + grid.affine[:3, 3]
    return Grid(shape, affine)


def test_value_between_two_voxels_is_their_weighted_mean():
    values = resample_linear(column(0, 100, 300), line(3), line(5, step=0.5))
    assert values.ravel().tolist() == [0, 50, 100, 200, 300]
    assert values.dtype == np.float32


def test_beyond_the_outermost_centres_the_nearest_value_holds():
    values = resample_linear(column(-1000, 40), line(2), line(4, first=-1))
    assert values.ravel().tolist() == [-1000, -1000, 40, 40]


def test_single_slice_becomes_several_equal_ones():
    assert resample_linear(column(7), line(1, step=3), line(3, first=-1)).ravel().tolist() == [7, 7, 7]


def test_same_grid_changes_nothing(put, oblique):
    array = np.random.default_rng(1).integers(-1024, 3071, (5, 6, 7)).astype(np.int16)
    grid = Grid((5, 6, 7), oblique)
    assert np.array_equal(to_host(resample_linear(put(array), grid, grid)), array)


def test_grids_that_are_turned_against_each_other_are_refused(oblique):
    with pytest.raises(GeometryError, match="not parallel"):
        axis_samples(Grid((4, 4, 4), oblique), Grid((4, 4, 4), np.eye(4)))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 1.5, 1.5), (5.0, 0.4, 0.9)])
def test_interpolation_is_that_of_simpleitk(put, oblique, spacing):
    array = np.random.default_rng(2).integers(-1024, 3071, (9, 30, 25)).astype(np.int16)
    source = Grid((9, 30, 25), oblique)
    target = grid_with_spacing(source, spacing)
    ours = to_host(resample_linear(put(array), source, target))
    theirs = SimpleITK.GetArrayFromImage(simpleitk_linear(array, source, target))
    inside = theirs > -9000  # SimpleITK knows nothing beyond the outermost centres
    assert inside.mean() > 0.5
    assert np.abs(ours - theirs)[inside].max() < 0.01


def simpleitk_linear(array, source, target):
    images = []
    for grid, voxels in ((source, array), (target, np.zeros(target.shape, np.int16))):
        image = SimpleITK.GetImageFromArray(voxels)
        image.SetSpacing(grid.spacing[::-1])
        image.SetDirection((grid.affine[:3, :3] / grid.spacing)[:, ::-1].ravel().tolist())
        image.SetOrigin(grid.affine[:3, 3].tolist())
        images.append(image)
    return SimpleITK.Resample(
        images[0], images[1], SimpleITK.Transform(), SimpleITK.sitkLinear, -10_000, SimpleITK.sitkFloat64
    )


# Scores -> labels


def naive_labels(scores, source, target, labels):
    """Interpolate every score everywhere in float64, then take the best class."""
    indices = np.indices(target.shape).reshape(3, -1)
    to_source = np.linalg.inv(source.affine) @ target.affine
    places = to_source[:3, :3] @ indices + to_source[:3, 3:]
    full = [
        map_coordinates(s.astype(np.float64), places, order=1, mode="nearest").reshape(target.shape)
        for s in scores
    ]
    return np.asarray(labels, np.uint8)[np.argmax(full, axis=0)]


@pytest.mark.parametrize(
    ("shape", "scale", "first"),
    [
        ((17, 23, 19), 0.4, (0.0, 0.0, 0.0)),
        ((17, 23, 19), 0.4, (0.3, -0.2, 0.1)),
        ((5, 5, 5), 1.7, (-0.4, 0.2, 0.0)),
        ((12, 30, 30), 0.61, (-2.0, -3.0, -1.5)),
        ((1, 9, 9), 0.7, (3.5, 1.0, 1.0)),
    ],
    ids=["finer", "finer and moved", "coarser", "larger than the source", "one slice"],
)
@pytest.mark.parametrize("background", [0.0, 0.95], ids=["mixed", "little foreground"])
@pytest.mark.parametrize("classes", [2, 3])
def test_labels_are_those_of_full_interpolation(put, oblique, shape, scale, first, background, classes):
    random = np.random.default_rng(7)
    scores = random.random((classes, 7, 9, 8), dtype=np.float32)
    scores[0] = np.maximum(scores[0], background)
    source = Grid((7, 9, 8), oblique)
    target = shifted_grid(source, shape, scale, first)
    labels = [0, 1, 2][:classes]
    ours = to_host(labels_from_scores(put(scores), source, target, labels=labels))
    expected = naive_labels(scores, source, target, labels)
    assert ours.dtype == np.uint8
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize("place", [(0, 0, 0), (6, 8, 7), (3, 4, 5), (0, 8, 3)])
def test_lone_foreground_voxel_is_not_lost_at_the_edge_of_its_box(oblique, place):
    scores = np.stack([np.full((7, 9, 8), 0.3, np.float32), np.zeros((7, 9, 8), np.float32)])
    scores[(1, *place)] = 1.0
    source = Grid((7, 9, 8), oblique)
    target = shifted_grid(source, (25, 33, 29), 0.3, (-0.6, -0.6, -0.6))
    ours = labels_from_scores(scores, source, target, labels=[0, 1])
    assert ours.any()
    assert np.array_equal(ours, naive_labels(scores, source, target, [0, 1]))


def test_boundary_lies_where_the_interpolated_scores_cross():
    # class 1 falls from 1 to 0 between slices 0 and 1, background rises from 0 to 1: equal at 0.5 mm
    scores = np.array([[0, 1], [1, 0]], np.float32).reshape(2, 2, 1, 1)
    labels = labels_from_scores(scores, line(2), line(5, step=0.25), labels=[0, 9])
    assert labels.ravel().tolist() == [9, 9, 0, 0, 0]


def test_volume_without_foreground_is_all_background(put):
    scores = np.zeros((3, 2, 2, 2), np.float32)
    grid = Grid((2, 2, 2), np.eye(4))
    labels = labels_from_scores(
        put(scores), grid, Grid((4, 4, 4), np.diag([0.5, 0.5, 0.5, 1])), labels=[7, 1, 2]
    )
    assert to_host(labels).tolist() == np.full((4, 4, 4), 7).tolist()


def test_every_channel_has_its_own_label():
    scores = np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1)
    labels = labels_from_scores(scores, line(4), line(4), labels=[0, 5, 3, 255])
    assert labels.ravel().tolist() == [0, 5, 3, 255]
