"""Volumes as images of SimpleITK and back: the same voxels at the same place."""

import gc
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK

from stages import (
    Algorithm,
    GeometryError,
    InputError,
    Origin,
    SliceOrigin,
    Volume,
    read_volume,
    write_volume,
)
from stages.volume.geometry import points_at
from tests.phantoms import LABELS

SHAPE = (3, 4, 5)
HU = np.arange(60, dtype=np.int16).reshape(SHAPE) * 30 - 1000
ORIGIN = Origin(
    series_instance_uid="1.2.840.7",
    study_instance_uid="1.2.840.6",
    frame_of_reference_uid="1.2.840.5",
    body_part="ABDOMEN",
    algorithm=Algorithm(name="liver", version="1"),
    label_values=(1, 2),
    labels=LABELS,
    warnings=("slices may be missing: Ärger",),
)


def address(array):
    return array.__array_interface__["data"][0]


def new_image():
    image = SimpleITK.GetImageFromArray(HU)
    image.SetSpacing((0.75, 0.5, 2.5))
    image.SetOrigin((10, 20, 30))
    return image


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, 1, -1)])
def test_each_voxel_lies_at_the_same_point(oblique, flip):
    affine = oblique @ np.diag([*flip, 1])
    image = Volume(array=HU, affine=affine, origin=ORIGIN).to_simpleitk()
    for index in np.ndindex(SHAPE):
        assert image.GetPixel(*index[::-1]) == HU[index]
        point = image.TransformIndexToPhysicalPoint(index[::-1])
        assert point == pytest.approx(points_at(affine, index), abs=1e-9)
    back = Volume.from_simpleitk(image)
    assert np.abs(back.affine - affine).max() < 1e-14 * np.abs(affine).max()
    assert np.array_equal(back.array, HU)
    assert back.array.dtype == np.int16


def test_spacings_of_an_image_come_in_the_order_of_the_array():
    volume = Volume.from_simpleitk(new_image())
    assert volume.spacing == (2.5, 0.5, 0.75)
    assert points_at(volume.affine, (2, 1, 3)) == pytest.approx([10 + 3 * 0.75, 20 + 0.5, 30 + 2 * 2.5])


def test_the_meaning_of_a_mask_goes_with_the_image():
    mask = Volume(array=(HU > 0).astype(np.uint8), affine=np.eye(4), origin=ORIGIN)
    image = mask.to_simpleitk()
    assert image.GetMetaData("0020|000e") == "1.2.840.7"
    assert Volume.from_simpleitk(image).origin == ORIGIN


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_simpleitk_can_read_what_it_writes_of_such_an_image(tmp_path, suffix):
    slices = tuple(SliceOrigin(sop_instance_uid=f"1.2.{n}", position=(0.0, 0.0, n)) for n in range(1000))
    origin = Origin(series_instance_uid="1.2", slices=slices, labels=LABELS * 30)
    image = Volume(array=HU, affine=np.eye(4), origin=origin).to_simpleitk()
    SimpleITK.WriteImage(image, tmp_path / f"ct.{suffix}")
    assert SimpleITK.ReadImage(tmp_path / f"ct.{suffix}").GetSize() == (5, 4, 3)


def test_a_stated_origin_comes_before_that_of_the_image():
    image = Volume(array=HU, affine=np.eye(4), origin=ORIGIN).to_simpleitk()
    stated = Origin(series_instance_uid="9")
    assert Volume.from_simpleitk(image, origin=stated).origin is stated


def test_uids_that_a_reader_of_dicom_left_in_the_image_are_taken():
    image = new_image()
    image.SetMetaData("0020|000e", "1.2.3 ")
    image.SetMetaData("0010|0010", "Nobody^At all")
    assert Volume.from_simpleitk(image).origin == Origin(series_instance_uid="1.2.3")


def test_metadata_that_were_tampered_with_are_refused():
    image = new_image()
    image.SetMetaData("clara-stages.label-0", '{"value": 0}')
    with pytest.raises(InputError, match="the metadata of the image"):
        Volume.from_simpleitk(image)


# Memory


def test_an_image_is_not_copied_and_keeps_its_memory_as_long_as_the_array():
    image = new_image()
    where = address(SimpleITK.GetArrayViewFromImage(image))
    array = Volume.from_simpleitk(image).array
    assert address(array) == where
    assert not array.flags.writeable
    del image
    gc.collect()
    others = [SimpleITK.Image(SHAPE[::-1], SimpleITK.sitkInt16) for _ in range(100)]
    assert np.array_equal(array, HU)
    assert len(others) == 100


@pytest.mark.parametrize("share", [False, True])
def test_a_volume_does_not_change_with_its_image(share):
    image = new_image()
    other = SimpleITK.Image(image) if share else None
    volume = Volume.from_simpleitk(image)
    image[0, 0, 0] = 77
    image += 5
    image[image > 0] = 3
    assert np.array_equal(volume.array, HU)
    if other is not None:
        assert np.array_equal(SimpleITK.GetArrayViewFromImage(other), HU)


def test_an_array_that_came_from_simpleitk_goes_back_without_a_copy_and_stays_as_it_is():
    volume = Volume.from_simpleitk(new_image())
    image = volume.to_simpleitk()
    assert image.GetSpacing() == (0.75, 0.5, 2.5)
    image[0, 0, 0] = 77
    assert np.array_equal(volume.array, HU)
    part = Volume(array=volume.array[1:, ::-1], affine=np.eye(4), origin=ORIGIN)
    assert np.array_equal(SimpleITK.GetArrayViewFromImage(part.to_simpleitk()), HU[1:, ::-1])


def test_a_file_of_another_program_is_held_once(tmp_path):
    SimpleITK.WriteImage(new_image(), tmp_path / "ct.nii")
    volume = read_volume(tmp_path / "ct.nii")
    assert type(volume.array.base).__name__ == "_ImageMemory"
    with pytest.raises(ValueError, match="read-only"):
        volume.array[0, 0, 0] = 1


def test_a_mapped_volume_is_copied_into_the_image(tmp_path):
    volume = read_volume(write_volume(Volume(array=HU, affine=np.eye(4), origin=ORIGIN), tmp_path))
    image = volume.to_simpleitk()
    image[0, 0, 0] = 77
    assert volume.array[0, 0, 0] == HU[0, 0, 0]


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "u1", "<f4", ">f8"])
def test_an_array_of_any_byte_order_gives_its_values(dtype):
    array = np.arange(60).reshape(SHAPE).astype(dtype)
    image = Volume(array=array, affine=np.eye(4), origin=ORIGIN).to_simpleitk()
    assert np.array_equal(SimpleITK.GetArrayViewFromImage(image), array)


# What is refused


@pytest.mark.parametrize("dtype", [bool, np.float16])
def test_a_type_without_an_image_is_refused(dtype):
    with pytest.raises(InputError, match="no image of voxels of type"):
        Volume(array=HU.astype(dtype), affine=np.eye(4), origin=ORIGIN).to_simpleitk()


@pytest.mark.parametrize("size", [(4, 5), (4, 5, 6, 2), (4, 5, 6, 1)])
def test_an_image_of_other_than_three_axes_is_refused(size):
    with pytest.raises(InputError, match="a volume has three axes"):
        Volume.from_simpleitk(SimpleITK.Image(size, SimpleITK.sitkInt16))


@pytest.mark.parametrize(
    "kind", [SimpleITK.sitkVectorUInt8, SimpleITK.sitkComplexFloat32, SimpleITK.sitkLabelUInt8]
)
def test_an_image_of_other_than_numbers_is_refused(kind):
    with pytest.raises(InputError, match="are no Hounsfield units"):
        Volume.from_simpleitk(SimpleITK.Image((4, 5, 6), kind))


def test_sheared_axes_are_refused_both_ways():
    sheared = np.eye(4)
    sheared[0, 1] = 0.01
    with pytest.raises(GeometryError, match="not perpendicular"):
        Volume(array=HU, affine=sheared, origin=ORIGIN).to_simpleitk()
    image = new_image()
    image.SetDirection((1, 0.01, 0, 0, 1, 0, 0, 0, 1))
    with pytest.raises(GeometryError, match="not perpendicular"):
        Volume.from_simpleitk(image)


def test_directions_as_dicom_rounds_them_are_kept_exactly():
    rounded = np.eye(4)
    rounded[0, 1] = 0.0005
    image = Volume(array=HU, affine=rounded, origin=ORIGIN).to_simpleitk()
    assert np.abs(Volume.from_simpleitk(image).affine - rounded).max() < 1e-15


def test_nothing_loads_simpleitk_before_it_is_asked_for(tmp_path):
    script = """
import sys, numpy
from stages import Origin, Volume, read_volume, write_volume, find_volumes, main
import stages.segmentation.stage
origin = Origin(series_instance_uid="1")
volume = Volume(array=numpy.zeros((2, 2, 2), "i2"), affine=numpy.eye(4), origin=origin)
read_volume(write_volume(volume, sys.argv[1]))
assert "SimpleITK" not in sys.modules
volume.to_simpleitk()
assert "SimpleITK" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
