import sys

import numpy as np
import pytest

from stages import SettingsError
from stages.arrays import array_namespace, device_available, to_device, to_host

on_device = pytest.mark.skipif(not device_available(), reason="CuPy sees no CUDA device")


def test_numpy_array_lives_on_the_host():
    assert array_namespace(np.zeros(3)) is np


def test_array_on_the_host_is_not_copied():
    array = np.zeros(3)
    assert to_host(array) is array


@pytest.mark.parametrize("thing", [[1, 2], 3.0, None])
def test_what_is_no_array_is_refused_by_its_type(thing):
    with pytest.raises(TypeError, match=f"got builtins.{type(thing).__name__}"):
        array_namespace(thing)


def test_without_cupy_there_is_no_device_and_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert not device_available()
    with pytest.raises(SettingsError, match="install the extra cuda12 or cuda13"):
        to_device(np.zeros(1))


@on_device
def test_array_crosses_to_the_device_and_back_unchanged():
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    there = to_device(array)
    assert array_namespace(there).__name__ == "cupy"
    assert np.array_equal(to_host(there), array)


@on_device
def test_array_on_the_device_is_not_copied_again():
    there = to_device(np.zeros(3))
    assert to_device(there) is there
