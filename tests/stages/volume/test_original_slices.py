"""A mask on a corrected grid comes back to the original slices."""

import numpy as np
import pytest

from stages import Correction, GeometryError, Origin, SliceOrigin, Volume
from stages.volume.original_slices import on_original_slices

# rows 0.5 mm, columns 0.25 mm, planes 2 mm apart
AFFINE = np.array([[0, 0, 0.25, 10], [0, 0.5, 0, 20], [2, 0, 0, 30], [0, 0, 0, 1.0]])


def mask_of(array, first_pixels=None, matrix=None):
    """Return a mask whose original slices have their first pixels at these indices."""
    count = len(array if first_pixels is None else first_pixels)
    correction = None
    if first_pixels is not None:
        correction = Correction(
            kinds=("gantry tilt",),
            matrix=matrix or array.shape[1:],
            first_pixels=tuple(map(tuple, first_pixels)),
            fill_hu=-1024,
        )
    origin = Origin(
        series_instance_uid="1.2",
        slices=tuple(SliceOrigin(sop_instance_uid=f"1.2.{n}", position=(0, 0, n)) for n in range(count)),
        correction=correction,
    )
    return Volume(array=np.asarray(array, dtype=np.uint8), affine=AFFINE, origin=origin)


def column(*labels):
    return np.array(labels, dtype=np.uint8)[:, None]


def test_a_mask_whose_slices_were_regular_is_itself():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    masks = on_original_slices(mask_of(array))
    assert masks.array is array
    assert masks.sop_instance_uids == ("1.2.0", "1.2.1")
    assert masks.thickness_mm.tolist() == [2, 2]
    assert masks.positions(1, np.array([[0, 0], [2, 3]])).tolist() == [[10, 20, 32], [10.75, 21, 32]]


def test_a_single_slice_is_as_thick_as_its_plane():
    assert on_original_slices(mask_of(np.ones((1, 2, 2)))).thickness_mm.tolist() == [2]


def test_whole_offsets_are_cut_out():
    array = np.stack([column(0, 1, 2, 0, 0), column(0, 0, 0, 1, 2)])
    masks = on_original_slices(mask_of(array, [(0, 0, 0), (1, 2, 0)], (3, 1)))
    assert masks.array[..., 0].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert masks.positions(1, np.array([0, 0])).tolist() == [10, 21, 32]


@pytest.mark.parametrize(
    ("offset", "grid", "expected"),
    [
        (0.25, [0, 1, 1, 2], [0, 1, 1, 2]),  # three quarters of each pixel, a quarter of the next
        (0.75, [0, 1, 1, 2, 0], [1, 1, 2, 0]),  # nearer to the next
    ],
)
def test_between_pixels_the_heaviest_label_wins(offset, grid, expected):
    array = np.stack([column(*grid)] * 2)
    masks = on_original_slices(mask_of(array, [(0, 0, 0), (1, offset, 0)], (4, 1)))
    assert masks.array[1, :, 0].tolist() == expected


@pytest.mark.parametrize(("height", "expected"), [(0.4, 1), (0.6, 2)])
def test_between_planes_the_heaviest_label_wins(height, expected):
    array = np.stack([np.full((2, 2), 1), np.full((2, 2), 2)])
    masks = on_original_slices(mask_of(array, [(0, 0, 0), (height, 0, 0), (1, 0, 0)]))
    assert masks.array[:, 0, 0].tolist() == [1, expected, 2]


def test_background_is_weighed_as_every_label_is():
    array = np.array([[[0], [1]], [[2], [2]]])
    masks = on_original_slices(mask_of(array, [(0, 0, 0), (0.3, 0, 0), (1, 0, 0)], (2, 1)))
    # first row: 0.7 background, 0.3 label 2; second row: 0.7 label 1, 0.3 label 2
    assert masks.array[1, :, 0].tolist() == [0, 1]


def test_slices_stand_for_half_the_way_to_their_neighbours():
    array = np.zeros((7, 2, 2))
    masks = on_original_slices(mask_of(array, [(0, 0, 0), (1, 0, 0), (3, 0, 0), (6, 0, 0)]))
    assert masks.thickness_mm.tolist() == [2, 3, 5, 6]  # 1, (1 + 2) / 2, (2 + 3) / 2, 3 planes of 2 mm


def test_a_finding_between_two_slices_is_drawn_on_the_nearest_and_told(caplog):
    array = np.zeros((7, 3, 3))
    array[2, 1, 1:] = 2  # slices are at planes 0, 3 and 6
    array[:, 0, 0] = 1
    masks = on_original_slices(mask_of(array, [(0, 0, 0), (3, 0, 0), (6, 0, 0)]))
    assert np.argwhere(masks.array == 2).tolist() == [[1, 1, 1], [1, 1, 2]]
    assert "label 2 lies between slices; drawn on the nearest, 2 pixels" in caplog.text


def test_a_mask_of_another_shape_is_refused():
    mask = mask_of(np.zeros((2, 3, 3)), [(0, 0, 0), (1, 2, 0)], (3, 3))
    with pytest.raises(GeometryError, match=r"shape \(2, 3, 3\), the volume it was made of \(2, 5, 3\)"):
        on_original_slices(mask)
