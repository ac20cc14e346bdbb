"""Files of other programs: where their voxels lie, and that none is read from what is damaged."""

import gzip
import os
import resource
import shutil

import numpy as np
import pytest
import SimpleITK

from stages import (
    GeometryError,
    InputError,
    Origin,
    OutputError,
    SettingsError,
    Volume,
    find_volumes,
    read_mask,
    read_volume,
    write_volume,
)
from stages.volume.geometry import points_at
from tests.stages.volume.nifti_files import save_nifti

SHAPE = (3, 4, 5)
HU = np.arange(60, dtype=np.int16).reshape(SHAPE) * 30 - 1000
INDEX = (2, 1, 3)  # slice, row, column
RAS = np.array([[0.75, 0, 0, 10], [0, 0.5, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1]])


# NIfTI


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_voxel_lies_at_the_hand_computed_lps_point(tmp_path, suffix):
    ras = np.array([[0.75, 0, 0, 10], [0, 0.5, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1]])
    volume = read_volume(save_nifti(tmp_path / f"ct{suffix}", HU.T.copy(), ras))
    # x 1, y 2, z 3 of NIfTI is at RAS (10.75, 21, 37.5)
    assert points_at(volume.affine, (3, 2, 1)) == pytest.approx([-10.75, -21, 37.5])
    assert volume.array[INDEX] == HU[INDEX]
    assert volume.array.dtype == np.int16
    assert volume.spacing == pytest.approx((2.5, 0.5, 0.75))
    assert volume.origin.series_instance_uid == "ct"


def test_oblique_nifti_lies_where_simpleitk_sees_it(tmp_path, oblique):
    ras = np.diag([-1, -1, 1, 1]) @ oblique[:, [2, 1, 0, 3]]
    path = save_nifti(tmp_path / "ct.nii", HU.T.copy(), ras)
    volume, image = read_volume(path), SimpleITK.ReadImage(path)
    assert image.GetPixel(*INDEX[::-1]) == volume.array[INDEX]
    point = image.TransformIndexToPhysicalPoint(INDEX[::-1])
    assert point == pytest.approx(points_at(volume.affine, INDEX), abs=1e-4)
    assert volume.affine == pytest.approx(oblique, abs=1e-5)


def test_scaled_nifti_is_rounded_to_whole_hu(tmp_path):
    path = save_nifti(tmp_path / "ct.nii", np.full((2, 2, 2), -3.75, np.float32), np.eye(4))
    assert read_volume(path).array.tolist() == np.full((2, 2, 2), -4).tolist()


def test_nifti_mask_of_bytes_stays_bytes(tmp_path):
    path = save_nifti(tmp_path / "mask.nii", np.full((2, 2, 2), 200, np.uint8), np.eye(4))
    assert read_volume(path).array.dtype == np.uint8


@pytest.mark.parametrize("value", [32768.0, -32769.0, np.nan, np.inf])
def test_nifti_values_that_are_no_hu_are_refused(tmp_path, value):
    array = np.zeros((2, 2, 2), np.float32)
    array[1, 0, 1] = value
    with pytest.raises(InputError, match="do not fit int16"):
        read_volume(save_nifti(tmp_path / "ct.nii", array, np.eye(4)))


def test_nifti_of_four_axes_is_refused(tmp_path):
    path = save_nifti(tmp_path / "ct.nii", np.zeros((2, 2, 2, 3), np.int16), np.eye(4))
    with pytest.raises(InputError, match=r"three axes, this one has shape \(2, 2, 2, 3\)"):
        read_volume(path)


@pytest.mark.parametrize("dtype", [[("R", "u1"), ("G", "u1"), ("B", "u1")], "complex64"])
def test_nifti_of_colours_or_complex_numbers_is_refused(tmp_path, dtype):
    with pytest.raises(InputError, match="are no Hounsfield units"):
        read_volume(save_nifti(tmp_path / "ct.nii", np.zeros((2, 2, 2), dtype), np.eye(4)))


def test_singular_nifti_is_refused(tmp_path):
    path = save_nifti(tmp_path / "ct.nii", np.zeros((2, 2, 2), np.int16), np.diag([1.0, 1.0, 0.0, 1.0]))
    with pytest.raises(GeometryError, match="invertible"):
        read_volume(path)


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".nii", lambda data: data[:-10]),
        (".nii", lambda data: data[:200]),
        (".nii", lambda data: b""),
        (".nii", lambda data: data[:70] + b"\x05" + data[71:]),
        (".nii", lambda data: data[:43] + b"\xff" + data[44:]),
        (".nii.gz", lambda data: data[: len(data) // 2]),
        (".nii.gz", lambda data: data[:30] + bytes(8) + data[38:]),
        (".nii.gz", lambda data: b"no gzip"),
    ],
    ids=["short", "header only", "empty", "unknown type", "negative size", "half", "garbled", "no gzip"],
)
def test_damaged_nifti_is_refused(tmp_path, suffix, damage):
    path = save_nifti(tmp_path / f"ct{suffix}", HU.T.copy(), np.eye(4))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"ct\.nii"):
        read_volume(path)


def test_missing_nifti_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot read ct\.nii"):
        read_volume(tmp_path / "ct.nii")


def test_fractions_in_a_nifti_file_are_no_labels(tmp_path):
    scores = np.zeros((3, 4, 5), np.float32)
    path = tmp_path / "1.2.3.nii.gz"
    save_nifti(path, scores, np.eye(4))
    assert read_mask(path).array.dtype == np.int16  # whole numbers are
    scores[1, 2, 3] = 0.6
    save_nifti(path, scores, np.eye(4))
    with pytest.raises(InputError, match=r"a mask holds whole numbers, this one 1 others such as 0\.6"):
        read_mask(path)


# Where a NIfTI file lies


def quaternion(affine_ras):
    """Return quatern_b, c, d and the offsets of a rotation about z, as a qform has them."""
    half = np.arctan2(affine_ras[1, 0], affine_ras[0, 0]) / 2
    return {"quatern": [0, 0, np.sin(half)], "qoffset": affine_ras[:3, 3]}


def turned(degrees):
    """Return the affine RAS of a grid that is turned about z."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotation = np.array([[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return rotation @ RAS


def test_qform_places_a_file_without_sform(tmp_path):
    path = save_nifti(
        tmp_path / "ct.nii",
        HU.T,
        np.zeros((4, 4)),
        sform_code=0,
        qform_code=1,
        **quaternion(turned(30)),
        pixdim=[1, 0.75, 0.5, 2.5, 1, 1, 1, 1],
    )
    expected = turned(30) @ [3, 1, 2, 1] * [-1, -1, 1, 1]
    assert points_at(read_volume(path).affine, INDEX) == pytest.approx(expected[:3], abs=1e-5)


@pytest.mark.parametrize("sform_code", [1, 2, 3, 4])
def test_sform_counts_where_the_qform_says_the_same(tmp_path, sform_code):
    path = save_nifti(
        tmp_path / "ct.nii", HU.T, turned(30), sform_code=sform_code, qform_code=1, **quaternion(turned(30))
    )
    expected = turned(30) @ [3, 1, 2, 1] * [-1, -1, 1, 1]
    assert points_at(read_volume(path).affine, INDEX) == pytest.approx(expected[:3], abs=1e-5)


def test_sform_counts_where_the_qform_says_nearly_the_same(tmp_path):
    path = save_nifti(
        tmp_path / "ct.nii",
        HU.T,
        turned(30),
        qform_code=1,
        **quaternion(turned(30.5)),
    )
    expected = turned(30) @ [3, 1, 2, 1] * [-1, -1, 1, 1]
    assert points_at(read_volume(path).affine, INDEX) == pytest.approx(expected[:3], abs=1e-3)


@pytest.mark.parametrize("sform_code", [2, 3, 4])
def test_file_whose_sform_and_qform_differ_is_refused(tmp_path, sform_code):
    path = save_nifti(
        tmp_path / "ct.nii", HU.T, turned(30), sform_code=sform_code, qform_code=1, **quaternion(turned(90))
    )
    with pytest.raises(GeometryError, match=r"sform and its qform put voxels up to .* mm apart"):
        read_volume(path)


def test_file_that_says_nowhere_where_it_lies_is_refused(tmp_path):
    path = save_nifti(tmp_path / "ct.nii", HU.T, RAS, sform_code=0)
    with pytest.raises(GeometryError, match="does not say where it lies"):
        read_volume(path)


@pytest.mark.parametrize("shear", [0.5, 0.01])
def test_sheared_nifti_is_refused(tmp_path, shear):
    sheared = RAS.copy()
    sheared[0, 1] = shear
    with pytest.raises(GeometryError, match="not perpendicular"):
        read_volume(save_nifti(tmp_path / "ct.nii", HU.T, sheared))


def test_nifti_that_is_sheared_by_its_sform_alone_is_refused(tmp_path):
    sheared = RAS.copy()
    sheared[0, 1] = 0.5
    with pytest.raises(GeometryError, match="sform and its qform"):
        read_volume(save_nifti(tmp_path / "ct.nii", HU.T, sheared, qform_code=1, **quaternion(RAS)))


@pytest.mark.parametrize("units", [1, 3])
def test_nifti_in_metres_or_micrometres_is_refused(tmp_path, units):
    with pytest.raises(GeometryError, match="save it in millimetres"):
        read_volume(save_nifti(tmp_path / "ct.nii", HU.T, RAS, xyzt_units=units, sform_code=1))


def test_mirrored_nifti_is_not_turned_over(tmp_path):
    mirrored = RAS @ np.diag([-1, 1, 1, 1])
    volume = read_volume(save_nifti(tmp_path / "ct.nii", HU.T, mirrored))
    assert points_at(volume.affine, INDEX) == pytest.approx([-(10 - 3 * 0.75), -(20 + 0.5), 30 + 2 * 2.5])
    assert volume.array[INDEX] == HU[INDEX]


# What its values are


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"), [(2, -10, 190), (0, 0, 100), (np.nan, 0, 100), (np.inf, 0, 100)]
)
def test_slope_and_intercept_make_the_values(tmp_path, slope, intercept, expected):
    array = np.full((2, 2, 2), 100, np.int16)
    path = save_nifti(tmp_path / "ct.nii", array, RAS, scl_slope=slope, scl_inter=intercept)
    assert np.unique(read_volume(path).array).tolist() == [expected]


@pytest.mark.parametrize(("slope", "intercept"), [(0, 5), (np.inf, 1), (np.nan, -1024)])
def test_intercept_without_a_slope_is_refused(tmp_path, slope, intercept):
    array = np.full((2, 2, 2), 100, np.int16)
    path = save_nifti(tmp_path / "ct.nii", array, RAS, scl_slope=slope, scl_inter=intercept)
    with pytest.raises(InputError, match="and no slope"):
        read_volume(path)


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_all_types_and_byte_orders_give_the_same_voxels(tmp_path, kind, byte_order):
    array = np.arange(60).reshape(SHAPE).T.astype(kind)
    path = save_nifti(tmp_path / "ct.nii", array, RAS, byte_order=byte_order)
    volume = read_volume(path)
    assert np.array_equal(volume.array, array.T)
    assert volume.array.dtype == (np.uint8 if kind == "u1" else np.int16)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_a_voxel_that_is_no_number_is_found_wherever_it_lies(tmp_path, suffix, kind, byte_order):
    array = np.zeros((700, 300, 2), kind)  # more than a megabyte
    array[699, 299, 1] = np.nan
    with pytest.raises(InputError, match="do not fit int16"):
        read_volume(save_nifti(tmp_path / f"ct{suffix}", array, RAS, byte_order=byte_order))


def test_one_volume_of_four_axes_is_a_volume(tmp_path):
    path = save_nifti(tmp_path / "ct.nii", HU.T[..., None], RAS)
    assert np.array_equal(read_volume(path).array, HU)


def test_a_picture_of_two_axes_is_refused(tmp_path):
    path = save_nifti(tmp_path / "ct.nii", np.zeros((4, 5), np.int16), RAS)
    with pytest.raises(InputError, match=r"three axes, this one has shape \(4, 5\)"):
        read_volume(path)


# What is damaged


def image_of_hu():
    image = SimpleITK.GetImageFromArray(np.random.default_rng(0).integers(-1000, 1000, (9, 10, 11), np.int16))
    image.SetOrigin((1, 2, 3))
    return image


FILES = [("nii", False), ("nii.gz", True), ("nrrd", False), ("nrrd", True), ("mha", False), ("mha", True)]


@pytest.mark.parametrize(("suffix", "compressed"), FILES)
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_no_file_that_was_cut_off_is_read(tmp_path, suffix, compressed, kept):
    path = tmp_path / f"ct.{suffix}"
    SimpleITK.WriteImage(image_of_hu(), path, compressed)
    assert read_volume(path).array.shape == (9, 10, 11)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(InputError, match=rf"ct\.{suffix}"):
        read_volume(path)


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha", "mhd"])
def test_a_bit_that_turned_in_a_compressed_file_is_found(tmp_path, suffix):
    path = tmp_path / f"ct.{suffix}"
    SimpleITK.WriteImage(image_of_hu(), path, True)
    voxels = path.with_suffix(".zraw") if suffix == "mhd" else path
    content = bytearray(voxels.read_bytes())
    content[len(content) // 2] ^= 1
    voxels.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged|not recognized"):
        read_volume(path)


def test_file_that_unpacks_to_more_than_it_should_is_refused(tmp_path):
    path = save_nifti(tmp_path / "ct.nii.gz", HU.T, RAS)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(3 << 20)))
    with pytest.raises(InputError, match="go on where they should end"):
        read_volume(path)


def test_header_that_promises_more_than_the_file_holds_takes_no_memory(tmp_path):
    path = save_nifti(tmp_path / "ct.nii.gz", HU.T, RAS, dim=[3, 30_000, 30_000, 300, 1, 1, 1, 1])
    with pytest.raises(InputError, match=r"has 472 bytes and needs 540000000352"):
        read_volume(path)


def test_file_under_the_name_of_another_kind_is_refused(tmp_path):
    for kind in ("nii", "nii.gz", "nrrd", "mha"):
        SimpleITK.WriteImage(image_of_hu(), tmp_path / f"right.{kind}")
    for kind in ("nii", "nii.gz", "nrrd", "mha"):
        for other in {"nii", "nii.gz", "nrrd", "mha"} - {kind}:
            path = shutil.copy(tmp_path / f"right.{kind}", tmp_path / f"wrong.{other}")
            with pytest.raises(InputError, match=r"cannot read wrong"):
                read_volume(path)


def test_nifti_2_is_told_by_name(tmp_path):
    path = save_nifti(tmp_path / "ct.nii.gz", HU.T, RAS, sizeof_hdr=540)
    with pytest.raises(InputError, match="NIfTI-2, which SimpleITK does not read"):
        read_volume(path)


@pytest.mark.parametrize("name", ["mit Leerzeichen.nii.gz", "Überblick.nrrd", "日本.mha"])
def test_names_with_blanks_and_beyond_ascii_are_read(tmp_path, name):
    SimpleITK.WriteImage(image_of_hu(), tmp_path / name)
    assert read_volume(tmp_path / name).origin.series_instance_uid == name.partition(".")[0]


def test_name_that_is_no_utf_8_is_refused(tmp_path):
    path = tmp_path / os.fsdecode(b"ct\xff.nii")
    save_nifti(path, HU.T, RAS)
    with pytest.raises(InputError, match="rename it"):
        read_volume(path)


def test_fifo_in_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "ct.nrrd")
    with pytest.raises(InputError, match="is a FIFO"):
        read_volume(tmp_path / "ct.nrrd")


# NRRD and MetaImage

NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\nendian: little\nencoding: raw\n"
DIRECTIONS = "space directions: (0.75,0,0) (0,0.5,0) (0,0,2.5)\nspace origin: (10,20,30)\n"


def save_nrrd(path, lines):
    path.write_bytes(f"{NRRD}{lines}\n".encode() + HU.tobytes())
    return path


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (1, 1, 1)),
        ("LPS", (1, 1, 1)),
        ("right-anterior-superior", (-1, -1, 1)),
        ("LAS", (1, -1, 1)),
    ],
)
def test_nrrd_lies_in_the_space_that_it_names(tmp_path, space, signs):
    volume = read_volume(save_nrrd(tmp_path / "ct.nrrd", f"space: {space}\n{DIRECTIONS}"))
    expected = np.array([10 + 3 * 0.75, 20 + 0.5, 30 + 2 * 2.5]) * signs
    assert points_at(volume.affine, INDEX) == pytest.approx(expected)
    assert volume.array[INDEX] == HU[INDEX]


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "spacings: 1 1 1\n",
        DIRECTIONS.replace("space origin", "space dimension: 3\nspace origin"),
        f"space: scanner-xyz\n{DIRECTIONS}",
        f"space: 3D-right-handed\n{DIRECTIONS}",
        "space: LPS\nspace origin: (10,20,30)\n",
        "space: LPS\nspace directions: (0.75,0,0) (0,0.5,0) (0,0,2.5)\n",
        f"space: LPS\n{DIRECTIONS}".replace("(0.75,0,0)", "none"),
    ],
)
def test_nrrd_that_does_not_say_where_it_lies_is_refused(tmp_path, lines):
    with pytest.raises(GeometryError, match="does not say where it lies"):
        read_volume(save_nrrd(tmp_path / "ct.nrrd", lines))


@pytest.mark.parametrize("first", ["(0.75,0.2,0)", "(0,0.5,0)"])
def test_nrrd_whose_axes_are_not_perpendicular_is_refused(tmp_path, first):
    lines = f"space: LPS\n{DIRECTIONS}".replace("(0.75,0,0)", first)
    with pytest.raises(GeometryError, match="perpendicular"):
        read_volume(save_nrrd(tmp_path / "ct.nrrd", lines))


@pytest.mark.parametrize("missing", ["TransformMatrix", "Offset", "ElementSpacing"])
def test_metaimage_that_does_not_say_where_it_lies_is_refused(tmp_path, missing):
    path = tmp_path / "ct.mha"
    SimpleITK.WriteImage(image_of_hu(), path)
    path.write_bytes(path.read_bytes().replace(missing.encode(), b"Comment", 1))
    with pytest.raises(GeometryError, match=f"does not say where it lies .*{missing} missing"):
        read_volume(path)


@pytest.mark.parametrize(
    "name", ["../secret.raw", "/etc/passwd", "LIST", "slice%03d.raw 1 3 1", "nowhere.raw", ""]
)
def test_no_header_makes_a_file_outside_of_the_folder_be_read(tmp_path, name):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "secret.raw").write_bytes(bytes(120))
    nrrd = save_nrrd(folder / "ct.nhdr", f"space: LPS\n{DIRECTIONS}data file: {name}\n")
    metaimage = folder / "ct.mha"
    SimpleITK.WriteImage(image_of_hu(), metaimage)
    content = metaimage.read_bytes().replace(b"ElementDataFile = LOCAL", f"ElementDataFile = {name}".encode())
    metaimage.write_bytes(content)
    for path in (nrrd, metaimage):
        with pytest.raises(InputError, match="one file beside it"):
            read_volume(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_nhdr_is_read_with_the_voxels_beside_it(tmp_path, compressed):
    SimpleITK.WriteImage(image_of_hu(), tmp_path / "ct.nhdr", compressed)
    assert len(list(tmp_path.iterdir())) == 2
    read = read_volume(tmp_path / "ct.nhdr")
    assert np.array_equal(read.array, SimpleITK.GetArrayViewFromImage(image_of_hu()))


def test_compressed_mhd_is_read(tmp_path):
    SimpleITK.WriteImage(image_of_hu(), tmp_path / "ct.mhd", True)
    read = read_volume(tmp_path / "ct.mhd")
    assert np.array_equal(read.array, SimpleITK.GetArrayViewFromImage(image_of_hu()))
    assert read.affine[:3, 3].tolist() == [1, 2, 3]


def test_all_kinds_of_files_are_found_and_hidden_ones_are_not(tmp_path):
    names = ["a.mhd", "b.nii", "c.nii.gz", "d.nrrd", "e.nhdr", "f.mha"]
    for name in (*names, "._a.nii", "g.raw"):
        (tmp_path / name).touch()
    assert [path.name for path in find_volumes(tmp_path)] == names


def test_json_of_another_program_beside_a_file_is_passed_over(tmp_path):
    path = save_nifti(tmp_path / "ct.nii.gz", HU.T, RAS)
    (tmp_path / "ct.json").write_text('{"Modality": "CT", "SliceThickness": 5}')
    assert read_volume(path).origin == Origin(series_instance_uid="ct")
    (tmp_path / "ct.json").write_text("no JSON")
    assert read_volume(path).origin == Origin(series_instance_uid="ct")


# Writing

KINDS = [".nii", ".nii.gz", ".nrrd", ".mha"]


@pytest.mark.parametrize("suffix", KINDS)
def test_what_is_written_for_other_programs_comes_back(tmp_path, oblique, suffix):
    volume = Volume(array=HU, affine=oblique, origin=Origin(series_instance_uid="1.2.3", warnings=("a gap",)))
    path = write_volume(volume, tmp_path, suffix=suffix)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.2.3.json", f"1.2.3{suffix}"]
    read = read_volume(path)
    assert np.array_equal(read.array, HU)
    assert np.abs(read.affine - oblique).max() < (1e-5 if "nii" in suffix else 1e-12)
    assert read.origin == volume.origin


def test_what_cannot_be_written_leaves_nothing(tmp_path, oblique):
    volume = Volume(array=HU.astype(np.float32), affine=oblique, origin=Origin(series_instance_uid="1.2.3"))
    with pytest.raises(OutputError, match="int16 or uint8, this one is float32"):
        write_volume(volume, tmp_path, suffix=".nrrd")
    with pytest.raises(SettingsError, match=r"not as '\.png'"):
        write_volume(volume, tmp_path, suffix=".png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", KINDS)
def test_full_disk_is_told_and_nothing_stays_of_a_file_for_other_programs(tmp_path, suffix):
    array = np.random.default_rng(0).integers(-1000, 1000, (20, 50, 50), np.int16)
    volume = Volume(array=array, affine=np.eye(4), origin=Origin(series_instance_uid="1.2.3"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OutputError, match="100000 bytes needed"):
            write_volume(volume, tmp_path, suffix=suffix)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", KINDS)
def test_folder_without_the_right_to_write_is_told(tmp_path, suffix):
    (tmp_path / "file").touch()
    volume = Volume(array=HU, affine=np.eye(4), origin=Origin(series_instance_uid="1.2.3"))
    with pytest.raises(OutputError, match="cannot write the volume"):
        write_volume(volume, tmp_path / "file", suffix=suffix)
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(OutputError, match="cannot write the volume"):
            write_volume(volume, tmp_path / "closed", suffix=suffix)
