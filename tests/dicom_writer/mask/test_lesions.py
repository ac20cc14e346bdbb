"""What hangs together of a label, counted and measured."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dicom_writer.mask.lesions import MOST_LISTED, find_lesions
from stages.volume.original_slices import SliceMasks, on_original_slices
from tests import phantoms
from tests.phantoms import LABELS

LIVER, TUMOUR = LABELS
MASKS = arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.sampled_from([0, 0, 1, 2]))


def masks_of(array, first_pixels=None):
    """Return masks on slices with the spacing of the phantom: 2.5, 0.8 and 0.6 mm."""
    if first_pixels is None:
        first_pixels = np.zeros((len(array), 3))
        first_pixels[:, 0] = np.arange(len(array))
    return SliceMasks(
        array=array, sop_instance_uids=(), affine=phantoms.AFFINE, first_pixels=np.array(first_pixels, float)
    )


def tumours(*voxels, shape=(4, 12, 12), first_pixels=None):
    array = np.zeros(shape, np.uint8)
    for voxel in voxels:
        array[voxel] = 2
    return find_lesions(masks_of(array, first_pixels), TUMOUR)


def test_only_what_is_abnormal_is_counted():
    assert (LIVER.marks_lesions, TUMOUR.marks_lesions) == (False, True)


def test_the_tumour_of_the_phantom_measures_what_was_worked_out_by_hand():
    # 2 rows of 0.8 mm and 2 columns of 0.6 mm, 2.5 mm thick: 4.8 mm3, and 2.0 mm from corner to corner
    found = find_lesions(on_original_slices(phantoms.mask()), TUMOUR)
    (lesion,) = found.listed
    assert found.count == 1
    assert lesion.name == "Liver tumour 1"
    assert lesion.volume_ml == pytest.approx(0.0048)
    assert lesion.diameter.mm == pytest.approx(2.0)
    assert lesion.diameter.slice == 2
    assert sorted(map(tuple, lesion.diameter.ends)) in (
        [(3.5, 5.5), (5.5, 7.5)],
        [(3.5, 7.5), (5.5, 5.5)],
    )


def test_nothing_has_no_lesion():
    assert (tumours().count, tumours().listed) == (0, ())


def test_voxels_that_touch_at_a_corner_are_one_lesion():
    assert tumours((0, 1, 1), (1, 2, 2)).count == 1
    assert tumours((0, 1, 1), (1, 2, 3)).count == 2
    assert tumours((0, 1, 1), (2, 1, 1)).count == 2


def test_the_largest_lesion_comes_first():
    found = tumours((0, 1, 1), (0, 5, slice(2, 7)), (3, 9, slice(2, 5)))
    assert [lesion.number for lesion in found.listed] == [1, 2, 3]
    assert [lesion.volume_ml for lesion in found.listed] == pytest.approx([0.006, 0.0036, 0.0012])
    assert [lesion.diameter.slice for lesion in found.listed] == [0, 3, 0]


def test_the_diameter_is_of_one_slice_and_of_one_piece_in_it():
    # two rods of 4 voxels in slice 0, joined in slice 1 by a rod of 3
    found = tumours((0, 2, slice(1, 5)), (0, 4, slice(1, 5)), (1, slice(2, 5), 2))
    assert found.count == 1
    assert found.listed[0].diameter.mm == pytest.approx(np.hypot(0.8, 4 * 0.6))


def test_where_slices_are_shifted_neighbours_are_told_by_place():
    # the second slice begins three rows further down: the same place has an index lower by three
    shifted = [(0, 0, 0), (1, 3, 0), (2, 6, 0), (3, 9, 0)]
    assert tumours((0, 6, 6), (1, 3, 6), first_pixels=shifted).count == 1
    assert tumours((0, 6, 6), (1, 6, 6), first_pixels=shifted).count == 2


def test_more_than_a_report_lists_are_counted():
    array = np.zeros((1, 40, 40), np.uint8)
    array[0, ::2, ::2] = 2
    found = find_lesions(masks_of(array), TUMOUR)
    assert (found.count, len(found.listed)) == (400, MOST_LISTED)


@settings(max_examples=150)
@given(MASKS)
def test_scipy_counts_the_same_and_gives_each_the_same_volume(array):
    from scipy import ndimage

    numbered, count = ndimage.label(array == 2, structure=np.ones((3, 3, 3)))
    found = find_lesions(masks_of(array), TUMOUR)
    assert found.count == count
    volumes = sorted(np.bincount(numbered.ravel())[1:] * 1.2e-3, reverse=True)
    assert [lesion.volume_ml for lesion in found.listed] == pytest.approx(volumes)
