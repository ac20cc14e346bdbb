"""The CUDA kernels of `stages.compute.separable`, compiled for the host: the same as without a device."""

import numpy as np
import pytest

from stages import SettingsError
from stages.compute import separable_device
from stages.compute.intensity import Intensity
from stages.compute.separable import (
    Separable,
    bounds_of,
    ranges,
    resample_separable,
    weights_between,
    with_bounds,
)
from stages.volume.geometry import Grid, grid_with_spacing
from tests.stages.cuda_host import HostKernels

SOURCE = Grid((7, 36, 41), np.diag([3.0, 1.0, 1.5, 1.0]))
TARGET = grid_with_spacing(SOURCE, (2.0, 1.7, 1.1))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    names = ("rows_int16", "rows_float32")
    kernels = HostKernels(separable_device.SOURCE, tmp_path_factory.mktemp("separable"), names=names)

    def launch(name, threads, arguments):
        assert all(isinstance(each, np.ndarray | np.generic) for each in arguments)
        kernels.launch(name, (-(-threads // 32),), (32,), arguments, order=np.random.default_rng(1))

    return launch


def by_device(array, how, intensity, run):
    out = np.full(TARGET.shape, 99, np.float32)
    weights, bounds = weights_between(SOURCE, TARGET, how), bounds_of(SOURCE, TARGET, how)
    arrays = [each.arrays for each in weights]
    separable_device.resample(array, arrays, how.clip, bounds, intensity, out, truncate=how.truncate, run=run)
    return out


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize(
    "how",
    [
        Separable(kinds=("cubic", "cubic", "cubic")),
        Separable(kinds=("cubic", "cubic", "cubic"), edge="mirror", truncate=True),
        Separable(kinds=("nearest", "cubic", "cubic"), clip=(-500, 900)),
        Separable(clip=(-500, 900)),
    ],
)
def test_device_resamples_as_the_host_does(run, dtype, how):
    whole = np.random.default_rng(1).integers(-1000, 2000, (41, 36, 7)).astype(dtype)
    array = whole.transpose(2, 1, 0)[:, ::-1]
    apart = 0 if how.kinds[0] == "nearest" else None
    how = with_bounds(how, ranges(array, apart, clip=how.clip), apart)
    intensity = Intensity(-900, 1500, zero=40, scale=1 / 400, offset=0.5)
    expected = resample_separable(array, SOURCE, TARGET, how, intensity=intensity)
    found = by_device(array, how, intensity, run)
    apart_by = np.abs(found - expected)
    assert (apart_by > 1e-4).mean() < (1e-3 if how.truncate else 1e-9)  # whole numbers but for the last bit
    assert apart_by.max() < 1.01 / 400
    assert found.std() > 0.5


def test_volume_of_another_type_is_refused(run):
    with pytest.raises(SettingsError, match="int16 or float32, found uint8"):
        by_device(np.zeros(SOURCE.shape, np.uint8), Separable(), Intensity(), run)
