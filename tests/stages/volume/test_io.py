import json
import resource

import numpy as np
import pytest
import SimpleITK

from stages import (
    Correction,
    InputError,
    Origin,
    OutputError,
    SliceOrigin,
    Volume,
    find_volumes,
    read_volume,
    write_volume,
)
from stages.volume.geometry import points_at
from stages.volume.io import pixel_sha256

SHAPE = (3, 4, 5)
HU = np.arange(60, dtype=np.int16).reshape(SHAPE) * 30 - 1000
STRAIGHT = np.array([[0, 0, 0.75, -10], [0, 0.5, 0, 20], [2.5, 0, 0, 30], [0, 0, 0, 1]])
NAN = float("nan")


def volume_of(affine, array=HU, name="1.2.840.7", **origin):
    return Volume(array=array, affine=affine, origin=Origin(series_instance_uid=name, **origin))


def header_with(folder, old, new):
    """Write a volume and put another line into its header."""
    path = write_volume(volume_of(STRAIGHT), folder, with_origin=False)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return path


# MetaImage


@pytest.mark.parametrize("turned", [False, True], ids=["straight", "oblique"])
def test_simpleitk_reads_the_same_voxel_at_the_same_point(tmp_path, oblique, turned):
    volume = volume_of(oblique if turned else STRAIGHT)
    image = SimpleITK.ReadImage(write_volume(volume, tmp_path))
    assert image.GetSize() == (5, 4, 3)
    for index in np.ndindex(SHAPE):
        assert image.GetPixel(*index[::-1]) == HU[index]
        point = image.TransformIndexToPhysicalPoint(index[::-1])
        assert point == pytest.approx(points_at(volume.affine, index), abs=1e-9)


def test_what_simpleitk_writes_is_read_as_it_lies(tmp_path, oblique):
    spacing = np.array([2.5, 0.5, 0.75])
    image = SimpleITK.GetImageFromArray(HU)
    image.SetSpacing(spacing[::-1].tolist())
    image.SetDirection((oblique[:3, :3] / spacing)[:, ::-1].ravel().tolist())
    image.SetOrigin(oblique[:3, 3].tolist())
    SimpleITK.WriteImage(image, tmp_path / "ct.mhd")
    volume = read_volume(tmp_path / "ct.mhd")
    assert np.array_equal(volume.array, HU)
    assert volume.affine == pytest.approx(oblique)


def test_written_volume_comes_back_exactly_with_its_origin(tmp_path, oblique):
    slices = (
        SliceOrigin(sop_instance_uid="1.2.3", position=(-100.0, 50.0, 7.125)),
        SliceOrigin(sop_instance_uid="1.2.4", position=(0.1, 0.2, 0.3), frame=7),
    )
    correction = Correction(
        kinds=("gantry tilt",), matrix=(4, 5), first_pixels=((0.0, 0.1, 0.0), (1.5, 0.0, 0.0)), fill_hu=-1024
    )
    volume = volume_of(
        oblique,
        part="phase-1",
        slices=slices,
        repairs=("tilt",),
        correction=correction,
        selection={"9.9": "a localizer"},
    )
    back = read_volume(write_volume(volume, tmp_path))
    assert np.array_equal(back.array, HU)
    assert back.array.dtype == np.int16
    assert np.abs(back.affine - oblique).max() < 1e-12
    assert back.origin == volume.origin


def test_files_are_named_after_the_series(tmp_path):
    write_volume(volume_of(STRAIGHT), tmp_path / "new" / "folder")
    names = sorted(p.name for p in (tmp_path / "new" / "folder").iterdir())
    assert names == ["1.2.840.7.json", "1.2.840.7.mhd", "1.2.840.7.raw"]


def test_mask_is_bytes_in_slice_row_column_order(tmp_path):
    mask = np.arange(60, dtype=np.uint8).reshape(SHAPE)
    write_volume(volume_of(STRAIGHT, mask), tmp_path, with_origin=False)
    assert (tmp_path / "1.2.840.7.raw").read_bytes() == bytes(range(60))
    assert not (tmp_path / "1.2.840.7.json").exists()


def test_array_that_is_no_contiguous_block_is_written_in_its_own_order(tmp_path):
    mask = np.arange(60, dtype=np.uint8).reshape(SHAPE)[::-1, :, ::2]
    assert np.array_equal(read_volume(write_volume(volume_of(STRAIGHT, mask), tmp_path)).array, mask)


def test_voxels_are_mapped_from_the_file_not_copied(tmp_path):
    assert isinstance(read_volume(write_volume(volume_of(STRAIGHT), tmp_path)).array, np.memmap)


def test_name_beyond_ascii_is_read_by_both(tmp_path):
    path = write_volume(volume_of(STRAIGHT, name="Überblick 1"), tmp_path)
    assert read_volume(path).origin.series_instance_uid == "Überblick 1"
    assert SimpleITK.ReadImage(path).GetSize() == (5, 4, 3)


@pytest.mark.parametrize("name", ["", "..", "../x", "/etc/x", ".hidden", "a/b", "a\nElementType = MET_UCHAR"])
def test_series_whose_name_is_no_file_name_is_not_written(tmp_path, name):
    with pytest.raises(OutputError, match="cannot be a file name"):
        write_volume(volume_of(STRAIGHT, name=name), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["float32", "uint16", "int32", ">i2"])
def test_type_that_others_might_misread_is_not_written(tmp_path, dtype):
    with pytest.raises(OutputError, match="int16 or uint8"):
        write_volume(volume_of(STRAIGHT, HU.astype(dtype)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("voxels", [700, 40_000], ids=["in the last block", "early"])
def test_full_disk_is_told_and_nothing_partial_stays(tmp_path, voxels):
    volume = volume_of(STRAIGHT, np.zeros((1, 1, voxels), np.int16))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OutputError, match=f"{voxels * 2} bytes needed") as told:
            write_volume(volume, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert told.value.exit_code == 7
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write the volume"):
        write_volume(volume_of(STRAIGHT), tmp_path / "file" / "out")


@pytest.mark.parametrize("bytes_left", [0, 119, 121])
def test_raw_file_of_another_length_is_refused(tmp_path, bytes_left):
    path = write_volume(volume_of(STRAIGHT), tmp_path)
    raw = path.with_suffix(".raw")
    raw.write_bytes((raw.read_bytes() + b"x")[:bytes_left])
    with pytest.raises(InputError, match=f"{bytes_left} bytes beside .*, which needs 120"):
        read_volume(path)


def test_missing_files_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"cannot read ct\.mhd"):
        read_volume(tmp_path / "ct.mhd")
    path = write_volume(volume_of(STRAIGHT), tmp_path)
    path.with_suffix(".raw").unlink()
    with pytest.raises(InputError, match=r"1\.2\.840\.7\.raw: 0 bytes"):
        read_volume(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("MET_SHORT", "MET_FLOAT"),
        ("MET_SHORT", "MET_USHORT"),
        ("DimSize = 5 4 3", "DimSize = 5 12"),
        ("DimSize = 5 4 3", "DimSize = 5 4 3 1"),
        ("DimSize = 5 4 3", "DimSize = -5 -4 3"),
        ("DimSize = 5 4 3", "DimSize = 0 4 3"),
        ("DimSize = 5 4 3", "DimSize = five 4 3"),
        ("DimSize = 5 4 3", ""),
        ("Offset = -10.0 20.0 30.0", "Offset = -10.0 20.0"),
        ("Offset = -10.0 20.0 30.0", "Offset = -10.0 20.0 inf"),
        ("ElementSpacing = 0.75 0.5 2.5", "ElementSpacing = 0.75 0 2.5"),
        ("ElementSpacing = 0.75 0.5 2.5", "ElementSpacing = 0.75 nan 2.5"),
        ("CompressedData = False", "CompressedData = True"),
        ("BinaryDataByteOrderMSB = False", "BinaryDataByteOrderMSB = True"),
        ("ElementDataFile = 1.2.840.7.raw", "ElementDataFile = LOCAL"),
        ("ElementDataFile = 1.2.840.7.raw", ""),
    ],
)
def test_header_that_describes_no_volume_of_ours_is_refused(tmp_path, old, new):
    with pytest.raises(InputError):
        read_volume(header_with(tmp_path, old, new))


def test_raw_file_outside_the_folder_is_not_read(tmp_path):
    path = header_with(tmp_path / "in", "ElementDataFile = 1.2.840.7.raw", "ElementDataFile = ../secret.raw")
    (tmp_path / "secret.raw").write_bytes(bytes(120))
    with pytest.raises(InputError, match=r"secret\.raw: 0 bytes"):
        read_volume(path)


def test_header_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "ct.mhd").write_bytes(b"\xff\xd8\xff\xe0" * 50)
    with pytest.raises(InputError, match=r"cannot read ct\.mhd"):
        read_volume(tmp_path / "ct.mhd")


def test_volume_without_description_is_named_after_its_file(tmp_path):
    path = write_volume(volume_of(STRAIGHT), tmp_path, with_origin=False)
    assert read_volume(path).origin == Origin(series_instance_uid="1.2.840.7")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"slices": [{}], "repairs": []}', '{"slices": 1}'])
def test_damaged_description_is_refused(tmp_path, text):
    path = write_volume(volume_of(STRAIGHT), tmp_path)
    path.with_suffix(".json").write_text(text)
    with pytest.raises(InputError, match="not the description of a volume"):
        read_volume(path)


def test_description_is_plain_json_for_other_programs(tmp_path):
    slices = (SliceOrigin(sop_instance_uid="1.2.3", position=(1.0, 2.0, 3.0)),)
    path = write_volume(volume_of(STRAIGHT, slices=slices), tmp_path)
    stored = json.loads(path.with_suffix(".json").read_text())
    assert stored["series_instance_uid"] == "1.2.840.7"
    place = {"sop_instance_uid": "1.2.3", "position": [1.0, 2.0, 3.0], "frame": None}
    assert stored["slices"] == [{**place, "series_instance_uid": "", "instance_number": None}]


def test_pixel_digest_is_that_of_the_bytes_in_order():
    array = np.array([[1, 3], [2, 4]], np.uint8).T
    # sha256 of the bytes 01 02 03 04
    assert pixel_sha256(array) == "9f64a747e1b97f131fabb6b447296c9b6f0201e79fb3c5356e6c77e89b6a806a"


# Finding


def test_volumes_of_a_folder_are_found_in_the_order_of_their_names(tmp_path):
    for name in ("b.mhd", "b.raw", "a.nii.gz", "c.nii", "a.json", "notes.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in find_volumes(tmp_path)] == ["a.nii.gz", "b.mhd", "c.nii"]


def test_folder_without_a_volume_is_refused_and_told_what_it_holds(tmp_path):
    (tmp_path / "image.dcm").touch()
    with pytest.raises(InputError, match="holds 1 entries"):
        find_volumes(tmp_path)


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        find_volumes(tmp_path / "nowhere")


def test_a_part_of_a_series_has_files_of_its_own(tmp_path):
    assert write_volume(volume_of(STRAIGHT, part="phase-2"), tmp_path).name == "1.2.840.7_phase-2.mhd"


@pytest.mark.parametrize(
    "first_pixels",
    [
        [[0, 0, 0]],
        [[0, 0, 0], [1, 0]],
        [[0, 0, 0], [1, 0, "x"]],
        [[0, 0, 0], [1, 0, NAN]],
        [[0, 0, 0], [1, -1, 0]],
    ],
)
def test_a_correction_that_does_not_fit_its_slices_is_refused(tmp_path, first_pixels):
    path = write_volume(volume_of(STRAIGHT), tmp_path)
    beside = path.with_suffix(".json")
    stored = json.loads(beside.read_text())
    stored["slices"] = [{"sop_instance_uid": f"1.{n}", "position": [0, 0, n]} for n in range(2)]
    stored["correction"] = {"kinds": [], "matrix": [4, 5], "fill_hu": 0, "first_pixels": first_pixels}
    beside.write_text(json.dumps(stored))
    with pytest.raises(InputError, match="not the description of a volume"):
        read_volume(path)


def test_a_file_instead_of_a_folder_of_volumes_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file, a folder is expected"):
        find_volumes(tmp_path / "file")
