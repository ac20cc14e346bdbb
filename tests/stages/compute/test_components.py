from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from stages import SettingsError
from stages.arrays import device_available, to_device, to_host
from stages.compute import components, components_device, components_host
from stages.compute.components import fill_holes, keep_inside, keep_largest_component, remove_small
from stages.compute.components_device import scratch_bytes
from tests.stages.blobs import LARGE, SMALL, labels_with
from tests.stages.cuda_host import HostKernels

RULES = (
    ("keep_largest_component", (1, 3)),
    ("remove_small", 1, 3),
    ("keep_inside", 2, 1),
    ("keep_inside", 2, 2),  # what touches itself, in another row
    ("fill_holes", 1),
)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """Return what does as the device, with the kernels compiled for the host: threads in any order."""
    compiled = HostKernels(components_device.SOURCE, tmp_path_factory.mktemp("kernels"))

    def rules(order=None):
        def launch(name, threads, arguments):
            compiled.launch(name, (-(-threads // 32),), (32,), arguments, order=order)

        return SimpleNamespace(
            **{rule: partial(getattr(components_device, rule), launch=launch) for rule, *_ in RULES}
        )

    return rules


@pytest.fixture(scope="module", params=["kernels", "device"])
def same_as_host(request, kernels):
    """Return what sees that every rule makes the same of a mask, whatever the order of the threads."""
    orders = [None, "reversed", np.random.default_rng(4)]
    ways = [(kernels(order), np.copy) for order in orders]
    if request.param == "device":
        if not device_available():
            pytest.skip("CuPy sees no CUDA device")
        ways = [(components_device, to_device)]

    def check(mask):
        for rule, *arguments in RULES:
            expected = mask.copy()
            getattr(components_host, rule)(expected, *arguments)
            for rules, put in ways:
                found = put(mask)
                getattr(rules, rule)(found, *arguments)
                assert np.array_equal(to_host(found), expected), rule

    return check


@pytest.fixture(params=["host", "kernels", "device"])
def put(request, kernels, monkeypatch):
    """Return what puts a mask where the test works: the host, the kernels compiled for it, the device."""
    if request.param == "kernels":
        rules = kernels(np.random.default_rng(3))
        monkeypatch.setattr(components, "components_for", lambda labels: rules)
    elif request.param == "device":
        if not device_available():
            pytest.skip("CuPy sees no CUDA device")
        return to_device
    return lambda array: array


def test_of_two_blobs_the_larger_stays(put):
    labels = put(labels_with(SMALL, LARGE))
    keep_largest_component(labels, [1])
    assert np.array_equal(to_host(labels), labels_with(LARGE))


def test_a_component_is_measured_over_all_its_slices(put):
    flat, tall = (1, (0, 1), (0, 3), (0, 3)), (1, (0, 4), (5, 7), (5, 7))  # 9 voxels in one slice, 16 in four
    labels = put(labels_with(flat, tall))
    keep_largest_component(labels, [1])
    assert np.array_equal(to_host(labels), labels_with(tall))


def test_liver_and_its_tumour_count_as_one_component(put):
    # 12 voxels of liver with 6 of tumour are more than 16 of liver alone
    together = [(1, (0, 3), (0, 2), (0, 2)), (2, (3, 6), (0, 2), (0, 1))]
    labels = put(labels_with(*together, (1, (0, 4), (5, 7), (5, 7))))
    keep_largest_component(labels, [1, 2])
    assert np.array_equal(to_host(labels), labels_with(*together))


def test_labels_outside_the_group_are_left_alone(put):
    other = (7, (4, 5), (1, 2), (1, 2))
    labels = put(labels_with(LARGE, SMALL, other))  # `other` lies in the box of both
    keep_largest_component(labels, [1, 2])
    assert np.array_equal(to_host(labels), labels_with(LARGE, other))


def test_voxels_that_touch_by_an_edge_are_two_components(put):
    labels = put(labels_with((1, (0, 2), (0, 2), (0, 2)), (1, (2, 3), (2, 3), (0, 1))))
    keep_largest_component(labels, [1])
    assert labels.sum() == 8


def test_single_component_and_empty_labels_stay_as_they_are(put):
    for labels in (put(labels_with(LARGE)), put(labels_with())):
        before = labels.copy()
        keep_largest_component(labels, [1])
        assert np.array_equal(to_host(labels), to_host(before))


def test_tumour_away_from_the_liver_is_removed(put):
    detached = (2, (5, 6), (8, 10), (8, 10))
    labels = put(labels_with(LARGE, detached))
    keep_inside(labels, 2, 1)
    assert np.array_equal(to_host(labels), labels_with(LARGE))


@pytest.mark.parametrize(
    "tumour",
    [(2, (1, 2), (1, 2), (1, 2)), (2, (3, 6), (2, 3), (2, 3)), (2, (0, 1), (0, 1), (3, 6))],
    ids=["inside", "on a face", "sticking out"],
)
def test_tumour_that_touches_the_liver_is_kept_whole(put, tumour):
    labels = put(labels_with(LARGE, tumour))
    keep_inside(labels, 2, 1)
    assert np.array_equal(to_host(labels), labels_with(LARGE, tumour))


def test_tumour_that_touches_by_an_edge_only_is_removed(put):
    labels = put(labels_with(LARGE, (2, (3, 4), (3, 4), (0, 2))))
    keep_inside(labels, 2, 1)
    assert np.array_equal(to_host(labels), labels_with(LARGE))


def test_tumour_without_any_liver_is_removed(put):
    labels = put(labels_with((2, (1, 2), (1, 2), (1, 2))))
    keep_inside(labels, 2, 1)
    assert not labels.any()


def test_components_below_a_volume_go(put):
    labels = put(labels_with(SMALL, LARGE))  # 8 and 27 voxels
    remove_small(labels, 1, 8)
    assert np.array_equal(to_host(labels), labels_with(SMALL, LARGE))
    remove_small(labels, 1, 8.5)
    assert np.array_equal(to_host(labels), labels_with(LARGE))
    remove_small(labels, 2, 1)
    assert np.array_equal(to_host(labels), labels_with(LARGE))


def test_holes_are_filled_and_what_lies_in_them_stays(put):
    ball = labels_with((1, (0, 5), (0, 5), (0, 5)))
    hollow = ball.copy()
    hollow[2, 2, 1:4] = 0
    hollow[2, 2, 2] = 2
    open_ = ball.copy()
    open_[2, 2, 0:3] = 0  # reaches the outside
    found, kept = put(hollow.copy()), put(open_.copy())
    fill_holes(found, 1)
    fill_holes(kept, 1)
    expected = ball.copy()
    expected[2, 2, 2] = 2
    assert np.array_equal(to_host(found), expected)
    assert np.array_equal(to_host(kept), open_)


def test_a_single_slice_is_cleaned_from_either_side(put):
    labels = put(labels_with((1, (0, 1), (2, 5), (2, 5)), (1, (0, 1), (6, 8), (0, 1)), shape=(1, 8, 8)))
    remove_small(labels[::-1, ::-1], 1, 3)
    assert to_host(labels).sum() == 9


# Against scipy, and the kernels against the host: any mask, as it lies or turned


@st.composite
def masks(draw):
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 40)))
    share = draw(st.sampled_from([0.3, 0.6, 0.9]))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    mask = np.where(random.random(shape) < share, random.integers(1, 4, shape), 0).astype(np.uint8)
    turns = draw(st.permutations([0, 1, 2]))
    return mask.transpose(turns)[:: draw(st.sampled_from([1, -1])), :, :: draw(st.sampled_from([1, -1]))]


def small_by_scipy(mask, label, minimum_voxels):
    found, _ = ndimage.label(mask == label)
    return np.where((found > 0) & (np.bincount(found.ravel())[found] < minimum_voxels), 0, mask)


def inside_by_scipy(mask, label, organ):
    found, _ = ndimage.label(mask == label)
    near = ndimage.binary_dilation(mask == organ)
    return np.where((found > 0) & ~np.isin(found, found[near]), 0, mask)


def holes_by_scipy(mask, label):
    return np.where(ndimage.binary_fill_holes(mask == label) & (mask == 0), label, mask)


@pytest.mark.parametrize(
    ("change", "by_scipy", "arguments"),
    [
        (remove_small, small_by_scipy, (1, 3)),
        (remove_small, small_by_scipy, (2, 2.5)),
        (keep_inside, inside_by_scipy, (2, 1)),
        (fill_holes, holes_by_scipy, (1,)),
        (fill_holes, holes_by_scipy, (3,)),
    ],
)
@given(mask=masks())
def test_any_mask_becomes_what_scipy_makes_of_it(change, by_scipy, arguments, mask):
    expected = by_scipy(mask, *arguments)
    change(mask, *arguments)
    assert np.array_equal(mask, expected)


@given(mask=masks())
def test_what_stays_is_as_large_as_scipys_largest_component_and_one(mask):
    found, _ = ndimage.label(np.isin(mask, (1, 3)))
    largest = np.bincount(found.ravel())[1:].max(initial=0)
    ours = mask.copy()
    keep_largest_component(ours, (1, 3))
    assert np.isin(ours, (1, 3)).sum() == largest
    assert np.array_equal(ours == 2, mask == 2)
    again = ours.copy()
    keep_largest_component(again, (1, 3))
    assert np.array_equal(again, ours)


def test_of_two_equal_components_the_first_in_memory_stays_however_the_mask_is_turned(put):
    labels = put(labels_with((1, (0, 1), (0, 1), (0, 2)), (1, (4, 5), (4, 5), (4, 6))))
    keep_largest_component(labels[::-1, :, ::-1], [1])
    assert np.array_equal(to_host(labels), labels_with((1, (0, 1), (0, 1), (0, 2))))


def noise(shape, share, labels=4, seed=1):
    random = np.random.default_rng(seed)
    return np.where(random.random(shape) < share, random.integers(1, labels, shape), 0).astype(np.uint8)


@given(mask=masks())
@settings(max_examples=60)
def test_kernels_make_of_any_mask_what_the_host_makes_of_it(same_as_host, mask):
    same_as_host(mask.copy())


@pytest.mark.parametrize("share", [0.02, 0.1, 0.25, 0.32, 0.5, 0.7, 0.95])
def test_kernels_agree_with_the_host_on_noise_of_any_density(same_as_host, share):
    same_as_host(noise((9, 14, 37), share))
    same_as_host(noise((5, 4, 128), share, labels=2))


def test_kernels_agree_with_the_host_on_a_larger_mask(same_as_host):
    z, y, x = np.ogrid[:60, :80, :90]
    mask = noise((60, 80, 90), 0.03)
    mask[((z - 30) / 25) ** 2 + ((y - 40) / 30) ** 2 + ((x - 45) / 40) ** 2 < 1] = 1
    mask[noise(mask.shape, 0.05, seed=2) > 1] = 0  # holes, some of them with labels of the noise before
    mask[28:33, 38:43, 40:50] = 2
    same_as_host(mask)


@pytest.mark.parametrize("same_as_host", ["device"], indirect=True)
def test_kernels_agree_with_the_host_where_thousands_of_threads_meet(same_as_host):
    for share in (0.2, 0.32, 0.8):  # specks, one component that winds through all, and holes
        same_as_host(noise((150, 256, 300), share, labels=2))


def snake(slices, rows, columns):
    """Return one path through all slices and rows, as long as it can be."""
    mask = np.zeros((slices, rows, columns), np.uint8)
    mask[::2, ::2] = 1
    mask[::2, 1::4, -1] = mask[::2, 3::4, 0] = 1
    mask[1::4, -1, -1] = mask[3::4, 0, 0] = 1
    return mask


CHECKERED = np.indices((6, 7, 66)).sum(axis=0).astype(np.uint8) % 2
SHAPES = {
    "a voxel": np.ones((1, 1, 1), np.uint8),
    "a voxel of nothing": np.zeros((1, 1, 1), np.uint8),
    "nothing": np.zeros((3, 4, 70), np.uint8),
    "everything": np.ones((3, 4, 70), np.uint8),
    "a row": noise((1, 1, 333), 0.6),
    "a column": noise((1, 333, 1), 0.6),
    "a pile": noise((333, 1, 1), 0.6),
    "a slice": noise((1, 33, 65), 0.6),
    "a whole word": noise((5, 6, 32), 0.5),
    "a word and a voxel": noise((5, 6, 33), 0.5),
    "checkered": CHECKERED,
    "checkered, all labels": CHECKERED * (1 + np.indices((6, 7, 66)).sum(axis=0).astype(np.uint8) % 3),
    "a snake": snake(9, 13, 70),
    "around a snake": 1 - snake(9, 13, 70),
    "equal ones": np.kron(np.eye(8, 64, dtype=np.uint8), np.ones((1, 3), np.uint8))[:, None],
    "rows of other labels": np.tile(np.arange(4, dtype=np.uint8), (5, 6, 20)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_agree_with_the_host_on_odd_shapes(same_as_host, shape):
    same_as_host(SHAPES[shape])


@pytest.mark.parametrize("columns", [slice(0, 64), slice(1, 65), slice(2, 66), slice(3, 67), slice(5, 73, 2)])
def test_kernels_change_a_part_of_a_mask_and_nothing_around_it(kernels, columns):
    whole = noise((6, 12, 75), 0.5)
    part, expected = np.s_[1:5, 2:9, columns], whole.copy()
    alone = expected[part].copy()
    components_host.fill_holes(alone, 1)
    expected[part] = alone
    kernels("reversed").fill_holes(whole[part], 1)
    assert np.array_equal(whole, expected)


def test_kernels_are_not_asked_about_a_mask_without_voxels(kernels):
    kernels().fill_holes(np.zeros((3, 0, 5), np.uint8), 1)


@pytest.mark.parametrize("label", [63, 64, 127, 128, 191, 192, 255])
def test_kernels_know_every_label(kernels, label):
    mask = labels_with((label, (0, 3), (0, 3), (0, 3)), (label, (4, 5), (5, 7), (5, 7)), (label - 1, (5, 6)))
    expected = mask.copy()
    expected[4] = 0
    kernels().keep_largest_component(mask, [label])
    assert np.array_equal(mask, expected)


@pytest.mark.parametrize(("minimum", "left"), [(-1, 35), (7.9, 35), (8.1, 27), (27.0, 27), (1e300, 0)])
def test_kernels_remove_what_has_fewer_voxels_than_any_number(kernels, minimum, left):
    mask = labels_with(SMALL, LARGE)  # 8 and 27 voxels
    kernels().remove_small(mask, 1, minimum)
    assert mask.sum() == left


def test_a_mask_with_more_voxels_than_the_device_counts_is_refused():
    endless = np.broadcast_to(np.uint8(0), (2**11, 2**10, 2**10))
    with pytest.raises(SettingsError, match="less than 2147483647 voxels, the mask has 2147483648"):
        components_device.fill_holes(endless, 1)


def test_labels_that_are_no_bytes_are_refused(put):
    with pytest.raises(TypeError, match="labels are uint8, found int16"):
        fill_holes(put(np.zeros((2, 2, 2), np.int16)), 1)


@pytest.mark.parametrize("label", [-1, 256])
def test_label_that_fits_in_no_byte_is_refused(put, label):
    for ask in (lambda mask: fill_holes(mask, label), lambda mask: keep_inside(mask, 1, label)):
        with pytest.raises(ValueError, match=f"from 0 to 255, found {label}"):
            ask(put(labels_with(LARGE)))


def test_components_of_a_ct_take_a_third_of_a_byte_a_voxel():
    # a row of 512 voxels is 16 words, for each two numbers, and one for each run: every second voxel at most
    assert scratch_bytes((400, 512, 512)) == 400 * 512 * 4 * (2 * 16 + 8)
    assert scratch_bytes((400, 512, 512), runs_a_row=500) == 400 * 512 * 4 * (2 * 16 + 256)
    assert scratch_bytes((1, 1, 33), runs_a_row=500) == 4 * (2 * 2 + 17)
