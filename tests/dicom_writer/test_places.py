"""Other programs find each voxel of a result where the patient has it, whatever the slices' orientation."""

import tracemalloc

import numpy as np
import pytest

from dicom_writer import write_results
from dicom_writer.kinds import RESULT_KINDS
from dicom_writer.request.mask_request import request_of_mask
from stages import Origin, Volume
from tests.dicom_writer import letters, peers

KINDS = ("seg", "labelmap", "series", "rtstruct")
MADE_OF_SLICES = ("rtstruct", "report", "capture", "pdf")


def written(tmp_path, name, **how):
    source, mask = letters.series_and_mask(tmp_path / "source", **how)
    return mask, write_results(mask, source, tmp_path / "out", results=[name])


@pytest.mark.parametrize("orientation", letters.ORIENTATIONS)
@pytest.mark.parametrize("name", KINDS)
def test_the_letter_stands_where_the_patient_has_it(tmp_path, name, orientation):
    mask, paths = written(tmp_path, name, orientation=letters.ORIENTATIONS[orientation])
    points, labels = peers.voxels_of(name, paths)
    assert np.array_equal(labels, letters.label_at(points))
    counts = np.bincount(labels, minlength=3)
    assert np.array_equal(counts[1:], np.bincount(mask.array.ravel())[1:])
    assert min(counts[1:]) >= 30


@pytest.mark.parametrize("name", KINDS)
def test_one_slice_is_enough(tmp_path, name):
    mask, paths = written(tmp_path, name, shape=(1, 22, 22))
    points, labels = peers.voxels_of(name, paths)
    assert mask.array.any()
    assert np.array_equal(labels, letters.label_at(points))
    assert len(labels) == np.count_nonzero(mask.array)


def long_series(folder, count):
    """Write a series of so many thin slices, of which the letter takes the most."""
    return letters.series_and_mask(folder, shape=(count, 22, 22), spacing=(25 / count, 1.5, 1.25))


@pytest.mark.slow
def test_slices_whose_numbers_have_four_digits_survive(tmp_path):
    source, mask = long_series(tmp_path / "source", 1200)
    assert mask.array[1000:].any()
    paths = write_results(mask, source, tmp_path / "out", results=KINDS)
    assert len(paths) == 3 + 1200


@pytest.fixture(scope="module")
def six_hundred_slices(tmp_path_factory):
    """Return a series and its mask, when all that is loaded once is there."""
    small = letters.series_and_mask(tmp_path_factory.mktemp("small") / "source")
    write_results(small[1], small[0], tmp_path_factory.mktemp("out"), results=MADE_OF_SLICES)
    return long_series(tmp_path_factory.mktemp("long") / "source", 600)


@pytest.mark.parametrize("name", MADE_OF_SLICES)
@pytest.mark.slow
def test_memory_does_not_grow_with_the_series(six_hundred_slices, tmp_path, name):
    """A data set of pydicom a slice would take 15 MiB more, its pixels none of a size that counts."""
    source, mask = six_hundred_slices
    result_request = request_of_mask(mask, source, results=[name])
    result = RESULT_KINDS[name]
    tracemalloc.start()
    paths = result.make(result_request, tmp_path)
    result.verify(result_request, paths)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 * 2**20, peak


def test_the_letter_is_told_from_its_mirror_images():
    _, mask = None, letters.label_at(grid())
    for axis in range(3):
        assert not np.array_equal(mask, np.flip(mask, axis))
    for axes in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(mask, np.swapaxes(mask, *axes))


def grid():
    """Return points every mm around the middle."""
    return np.moveaxis(np.mgrid[-12:13, -12:13, -12:13], 0, -1)


def test_a_volume_needs_no_uids_of_slices(tmp_path):
    source, mask = letters.series_and_mask(tmp_path / "source")
    bare = Volume(
        array=mask.array,
        affine=mask.affine,
        origin=Origin(series_instance_uid=mask.origin.series_instance_uid, labels=mask.origin.labels),
    )
    paths = write_results(bare, source, tmp_path / "out", results=["series"], labels=mask.origin.labels)
    points, labels = peers.voxels_of_series(paths)
    assert np.array_equal(labels, letters.label_at(points))
