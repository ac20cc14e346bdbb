"""A source series on disk, and a written segmentation."""

import numpy as np
import pytest

from dicom_writer import write_results
from dicom_writer.gather import gather
from tests import phantoms


@pytest.fixture
def source(tmp_path):
    """Return the folder of the default CT series."""
    return phantoms.save(phantoms.ct_slices(), tmp_path / "source")


@pytest.fixture
def written(source, tmp_path):
    """Return what writes a mask and gives the one file."""

    def write(array=None, **how):
        (path,) = write_results(phantoms.mask(array), source, tmp_path / "out", **how)
        return path

    return write


@pytest.fixture
def given(source):
    """Return what results are made of, for the default mask or another one."""
    return lambda array=None, **how: gather(phantoms.mask(array), source, **how)


@pytest.fixture
def empty():
    """Return a mask array without a voxel."""
    return np.zeros(phantoms.SHAPE, np.uint8)
