import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import GeometryError, SettingsError
from stages.volume.geometry import (
    Grid,
    affine_from_slices,
    grid_of_size,
    grid_with_spacing,
    orientation_of,
    points_at,
    reorient,
    reorienting,
    slice_normal,
    spacing_of,
)
from tests.stages.conftest import rotation

AXIAL = [1, 0, 0, 0, 1, 0]
SAGITTAL = [0, 1, 0, 0, 0, -1]
TURNED = [0.8, 0.6, 0, -0.6, 0.8, 0]  # about the z axis, a 3-4-5 triangle


def affine_with(spacing=(2.0, 1.0, 0.5), first=(0.0, 0.0, 0.0)):
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = spacing
    affine[:, 3] = *first, 1
    return affine


def test_pixel_spacing_is_rows_first():
    affine = affine_from_slices(
        (-10, -20, 5), (-10, -20, 11), 4, image_orientation=AXIAL, pixel_spacing=(0.5, 0.8)
    )
    assert spacing_of(affine) == (2.0, 0.5, 0.8)
    assert points_at(affine, (2, 3, 4)) == pytest.approx([-10 + 4 * 0.8, -20 + 3 * 0.5, 5 + 2 * 2])


def test_voxel_of_a_turned_slice_lies_where_the_cosines_say():
    affine = affine_from_slices((0, 0, 0), (0, 0, 3), 2, image_orientation=TURNED, pixel_spacing=(1, 2))
    assert points_at(affine, (0, 0, 1)) == pytest.approx([1.6, 1.2, 0])
    assert points_at(affine, (0, 1, 0)) == pytest.approx([-0.6, 0.8, 0])
    assert points_at(affine, (1, 0, 0)) == pytest.approx([0, 0, 3])


def test_many_points_are_placed_at_once():
    places = points_at(affine_with(first=(1, 2, 3)), [[0, 0, 0], [1, 1, 1]])
    assert places.tolist() == [[1, 2, 3], [1.5, 3, 5]]


@pytest.mark.parametrize(
    ("cosines", "normal"), [(AXIAL, (0, 0, 1)), (SAGITTAL, (-1, 0, 0)), (TURNED, (0, 0, 1))]
)
def test_normal_is_the_row_direction_cross_the_column_direction(cosines, normal):
    assert slice_normal(cosines) == pytest.approx(normal)


@pytest.mark.parametrize(
    "cosines",
    [
        [1, 0, 0, 0, 1],
        [1, 0, 0, 1, 0, 0],
        [1, 0, 0, 0.1, 0.995, 0],
        [2, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0],
        [float("nan"), 0, 0, 0, 1, 0],
    ],
    ids=["five", "parallel", "not orthogonal", "no unit vector", "zero", "nan"],
)
def test_orientation_that_is_no_pair_of_orthogonal_unit_vectors_is_refused(cosines):
    with pytest.raises(GeometryError, match=r"Image Orientation \(Patient\)"):
        slice_normal(cosines)


def test_cosines_rounded_to_three_digits_are_good_enough():
    assert slice_normal([0.966, 0.259, 0, -0.259, 0.966, 0]) == pytest.approx([0, 0, 1])


@pytest.mark.parametrize(
    ("cosines", "last", "name"),
    [
        (AXIAL, (0, 0, 9), "SPL"),
        (AXIAL, (0, 0, -9), "IPL"),
        (SAGITTAL, (-9, 0, 0), "RIP"),
        ([1, 0, 0, 0, 0, -1], (0, 9, 0), "PIL"),
        (TURNED, (0, 0, 9), "SPL"),
        # a column leans as much to S as to P, but the slices have taken S
        ([1, 0, 0, 0, 0.6, 0.8], (0, -0.75, 9), "SPL"),
    ],
)
def test_orientation_names_where_each_index_grows(cosines, last, name):
    affine = affine_from_slices((0, 0, 0), last, 10, image_orientation=cosines, pixel_spacing=(1, 1))
    assert orientation_of(affine) == name


def test_orientation_does_not_depend_on_the_spacing():
    affine = np.eye(4)
    affine[:3, :3] = rotation(0, 40, 40)
    assert orientation_of(affine) == "LPS"
    affine[:3, 0] *= 5
    assert orientation_of(affine) == "LPS"


def test_reorienting_tells_the_axes_and_what_is_reversed():
    assert reorienting("SPL", "SPL") == ((0, 1, 2), (False, False, False))
    assert reorienting("RIP", "SPL") == ((1, 2, 0), (True, False, True))


@pytest.mark.parametrize("name", ["", "SP", "SPX", "SPA", "spl", "SPLL"])
def test_name_that_is_no_orientation_is_refused(name):
    with pytest.raises(SettingsError, match="an orientation is three letters"):
        reorienting("SPL", name)


ORIENTATIONS = st.permutations(["SI", "PA", "LR"]).flatmap(
    lambda pairs: st.tuples(*(st.sampled_from(pair) for pair in pairs)).map("".join)
)


@given(
    first=ORIENTATIONS,
    second=ORIENTATIONS,
    shape=st.tuples(*[st.integers(1, 4)] * 3),
    spacing=st.tuples(*[st.sampled_from([0.5, 1.0, 2.5])] * 3),
)
def test_reoriented_voxels_stay_where_they_are_and_come_back(first, second, shape, spacing):
    start = np.arange(np.prod(shape)).reshape(shape)
    array, affine = reorient(start, affine_with(spacing, first=(-7, 11, 3)), first)
    turned, turned_affine = reorient(array, affine, second)
    assert orientation_of(turned_affine) == second
    places = {array[index]: points_at(affine, index) for index in np.ndindex(array.shape)}
    for index in np.ndindex(turned.shape):
        assert points_at(turned_affine, index) == pytest.approx(places[turned[index]], abs=1e-9)
    back, back_affine = reorient(turned, turned_affine, first)
    assert np.array_equal(back, array)
    assert back_affine == pytest.approx(affine)


def test_reorienting_copies_nothing():
    array = np.zeros((2, 3, 4))
    assert np.shares_memory(reorient(array, affine_with(), "LAI")[0], array)


def test_grid_of_another_spacing_covers_the_same_box():
    # 4 x 6 x 10 voxels of 2 x 1 x 0.5 mm: faces at -1..7, -0.5..5.5 and -0.25..4.75 mm
    grid = grid_with_spacing(Grid((4, 6, 10), affine_with()), (4, 1.5, 1))
    assert grid.shape == (2, 4, 5)
    assert grid.spacing == (4, 1.5, 1)
    assert points_at(grid.affine, (0, 0, 0)) == pytest.approx([-0.25 + 0.5, -0.5 + 0.75, -1 + 2])


def test_box_that_does_not_fit_shrinks_or_grows_evenly():
    # 5 voxels of 1 mm, faces at -0.5..4.5: 2 voxels of 2 mm lie at 1 and 3, 2 of 3 mm at 0.5 and 3.5
    grid = Grid((5, 5, 5), affine_with((1, 1, 1)))
    assert points_at(grid_with_spacing(grid, (2, 2, 2)).affine, (0, 0, 0)) == pytest.approx([1, 1, 1])
    assert points_at(grid_with_spacing(grid, (3, 3, 3)).affine, (0, 0, 0)) == pytest.approx([0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    ("alignment", "slices", "spacing", "first"),
    [  # 10 slices of 2 mm, faces at -1 and 19, centres at 0 and 18
        ("centred", 7, 3, 0),  # 6.67 of 3 mm
        ("stretched", 7, 20 / 7, -1 + 10 / 7),
        ("first_voxel", 7, 3, 0),  # 18 / 3 + 1
        ("corner_centres", 7, 3, 0),
    ],
)
def test_new_voxels_lie_where_the_alignment_says(alignment, slices, spacing, first):
    grid = grid_with_spacing(Grid((10, 3, 3), affine_with()), (3.0, 1.0, 0.5), alignment=alignment)
    assert grid.shape == (slices, 3, 3)
    assert grid.spacing == pytest.approx((spacing, 1, 0.5))
    assert points_at(grid.affine, (0, 0, 0)) == pytest.approx([0, 0, first])


@pytest.mark.parametrize(
    ("alignment", "old", "new", "size"),
    [
        ("stretched", 10, 4.0, 5),  # 5 exactly
        ("stretched", 5, 4.0, 2),  # 2.5, the even one
        ("corner_centres", 7, 4.0, 4),  # 3.5
        ("first_voxel", 6, 4.0, 4),  # 5 * 2 / 4 + 1 = 3.5
        ("first_voxel", 2, 9.0, 1),  # 1.2
    ],
)
def test_the_number_of_voxels_is_rounded_halves_to_the_even_one(alignment, old, new, size):
    grid = grid_with_spacing(Grid((old, 3, 3), affine_with()), (new, 1.0, 0.5), alignment=alignment)
    assert grid.shape == (size, 3, 3)


def test_a_size_between_the_outermost_centres():
    grid = grid_of_size(Grid((10, 3, 1), affine_with()), (4, 1, 3), alignment="corner_centres")
    assert points_at(grid.affine, (0, 0, 0)) == pytest.approx([0, 0, 0])
    assert points_at(grid.affine, (3, 0, 0)) == pytest.approx([0, 0, 18])
    assert np.linalg.matrix_rank(grid.affine) == 4


@pytest.mark.parametrize(("old", "new", "spacing"), [(4, 1, 8.0), (1, 4, 0.5), (3, 2, 4.0), (2, 3, 1.0)])
def test_a_single_voxel_spans_all_between_the_outermost_centres(old, new, spacing):
    grid = Grid((old, 3, 3), affine_with())  # 2 mm
    assert grid_of_size(grid, (new, 3, 3), alignment="corner_centres").spacing == (spacing, 1.0, 0.5)


def test_grid_keeps_its_turn_and_its_middle(oblique):
    grid = Grid((9, 50, 31), oblique)
    other = grid_with_spacing(grid, (1, 1, 1))
    assert (np.array(other.shape) - 1) / 2 @ other.affine[:3, :3].T + other.affine[:3, 3] == pytest.approx(
        points_at(oblique, [4, 24.5, 15])
    )
    assert other.affine[:3, 0] == pytest.approx(oblique[:3, 0] / 2.5)


def test_grid_of_one_thin_slice_keeps_one_voxel():
    assert grid_with_spacing(Grid((1, 8, 8), affine_with()), (10, 2, 1)).shape == (1, 4, 4)


def test_voxel_volume_is_the_product_of_the_spacings(oblique):
    assert Grid((3, 3, 3), oblique).voxel_volume_mm3 == pytest.approx(2.5 * 0.5 * 0.75)


def test_grids_match_when_no_corner_is_further_apart_than_the_tolerance():
    grid, moved = Grid((3, 4, 5), affine_with()), affine_with(first=(0.0005, 0, 0))
    stretched = affine_with((2.001, 1, 0.5))
    assert grid.matches(Grid((3, 4, 5), moved))
    assert not grid.matches(Grid((3, 4, 5), stretched))
    assert grid.matches(Grid((3, 4, 5), stretched), tolerance_mm=0.01)
    assert not grid.matches(Grid((3, 4, 6), affine_with()))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_grids_whose_first_corners_alone_are_apart_do_not_match(axis):
    stretched = np.eye(4)
    stretched[axis, axis], stretched[axis, 3] = 1.01, -0.01  # the second voxels lie on each other
    assert not Grid((2, 2, 2), np.eye(4)).matches(Grid((2, 2, 2), stretched))
