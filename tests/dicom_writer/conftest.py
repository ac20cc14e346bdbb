"""A source series on disk, and a written segmentation."""

import numpy as np
import pytest

from dicom_writer import write_results
from dicom_writer.request.mask_request import request_of_mask
from tests import phantoms


@pytest.fixture
def source(tmp_path):
    """Return the folder of the default CT series."""
    return phantoms.save(phantoms.ct_slices(), tmp_path / "source")


@pytest.fixture
def written(source, tmp_path):
    """Return what writes a mask and gives the one file."""

    def write(array=None, **how):
        (path,) = write_results(_mask(array, how), source, tmp_path / "out", **how)
        return path

    return write


@pytest.fixture
def result_request(source):
    """Return what results are made of, for the default mask or another one."""

    def of(array=None, **how):
        return request_of_mask(_mask(array, how), source, **how)

    return of


@pytest.fixture
def empty():
    """Return a mask array without a voxel."""
    return np.zeros(phantoms.SHAPE, np.uint8)


def _mask(array, how):
    """Return a mask that says what its labels mean, unless they are stated beside it."""
    return phantoms.mask(array, meanings=() if "labels" in how else phantoms.LABELS)
