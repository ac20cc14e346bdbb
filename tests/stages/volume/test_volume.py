import numpy as np
import pytest

from stages import GeometryError, Origin, Volume

ORIGIN = Origin(series_instance_uid="1.2.3")


def test_volume_knows_its_spacing_and_the_size_of_a_voxel(oblique):
    volume = Volume(array=np.zeros((2, 3, 4), np.int16), affine=oblique, origin=ORIGIN)
    assert volume.spacing == pytest.approx((2.5, 0.5, 0.75))
    assert volume.voxel_volume_mm3 == pytest.approx(0.9375)
    assert volume.grid.shape == (2, 3, 4)


def test_mask_of_a_volume_lies_on_its_grid_and_is_of_its_origin(oblique):
    volume = Volume(array=np.zeros((2, 3, 4), np.int16), affine=oblique, origin=ORIGIN)
    mask = volume.with_array(np.ones((2, 3, 4), np.uint8))
    assert mask.grid.matches(volume.grid)
    assert mask.origin is ORIGIN
    assert mask.array.dtype == np.uint8


@pytest.mark.parametrize("shape", [(3,), (3, 3), (1, 3, 3, 3)])
def test_array_without_three_axes_is_refused(shape):
    with pytest.raises(GeometryError, match="three axes"):
        Volume(array=np.zeros(shape), affine=np.eye(4), origin=ORIGIN)


@pytest.mark.parametrize(
    "affine",
    [
        np.eye(3),
        np.diag([1.0, 1.0, 0.0, 1.0]),
        np.diag([1.0, np.nan, 1.0, 1.0]),
        np.array([[1, 0, 0, np.inf], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    ],
    ids=["3 x 3", "singular", "nan", "first voxel nowhere"],
)
def test_affine_that_places_no_voxel_is_refused(affine):
    with pytest.raises(GeometryError, match="invertible 4 x 4"):
        Volume(array=np.zeros((2, 2, 2)), affine=affine, origin=ORIGIN)
