"""One number a slice, whoever shows it."""

from dataclasses import replace

import numpy as np
import pytest

from dicom_reader import read_series
from stages import Correction, Origin, SliceOrigin, Volume, read_volume, write_volume
from stages.volume.slice_numbers import number_of_plane, slice_numbers
from tests import phantoms


@pytest.mark.parametrize(
    ("instance_numbers", "frames", "expected"),
    [
        ([30, 29, 28], [], (30, 29, 28)),
        ([0, 1, 2], [None, None, None], (0, 1, 2)),
        ([1, 1, 1], [3, 2, 1], (3, 2, 1)),
        ([7, 7, 8], [1, 2, 1], (1, 2, 3)),
        ([None, 2, 3], [], (1, 2, 3)),
        ([-1, 2, 3], [], (1, 2, 3)),
        ([], [], ()),
    ],
)
def test_a_slice_is_numbered_as_viewers_number_it_or_counted(instance_numbers, frames, expected):
    assert slice_numbers(instance_numbers, frames) == expected


def test_the_number_of_a_slice_goes_from_the_header_to_the_volume_on_disk(tmp_path):
    folder = phantoms.save(phantoms.ct_slices(), tmp_path / "source")  # numbered 5 to 1, feet to head
    volume = read_volume(write_volume(read_series(folder), tmp_path / "volume"))
    assert [number_of_plane(volume, n) for n in range(5)] == [5, 4, 3, 2, 1]


def test_an_instance_number_that_is_none_only_costs_the_number(tmp_path):
    slices = phantoms.ct_slices()
    del slices[2].InstanceNumber
    volume = read_series(phantoms.save(slices, tmp_path / "source"))
    assert [number_of_plane(volume, n) for n in range(5)] == [1, 2, 3, 4, 5]


def test_a_plane_of_a_corrected_grid_has_the_number_of_the_nearest_original_slice():
    slices = tuple(
        SliceOrigin(sop_instance_uid=f"1.{n}", position=(0, 0, z), instance_number=n)
        for n, z in ((12, 0.0), (11, 3.0), (10, 5.0))
    )
    correction = Correction(
        kinds=("uneven spacing",),
        matrix=(2, 2),
        first_pixels=((0, 0, 0), (3, 0, 0), (5, 0, 0)),
        fill_hu=-1024,
    )
    origin = Origin(series_instance_uid="1.2", slices=slices, correction=correction)
    volume = Volume(array=np.zeros((6, 2, 2), np.int16), affine=np.eye(4), origin=origin)
    assert [number_of_plane(volume, n) for n in range(6)] == [12, 12, 11, 11, 11, 10]
    nameless = replace(volume, origin=Origin(series_instance_uid="1.2"))
    assert number_of_plane(nameless, 4) == 5
