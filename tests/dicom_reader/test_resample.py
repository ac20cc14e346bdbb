"""Slices put on a regular grid: by hand, against SimpleITK and dcm2niix, and the way back."""

import shutil
import subprocess
import tracemalloc

import numpy as np
import pytest

from dicom_reader import read_series
from dicom_reader.files.folder import scan_folder
from dicom_reader.pixels.pixels import read_pixels
from dicom_reader.resample import resample_onto_grid
from dicom_reader.slices.stack import stack_slices
from stages import read_volume, write_volume
from stages.volume.original_slices import on_original_slices
from tests import phantoms

FILL = -99
COLUMN = np.array([[0], [100], [200], [300]], dtype=np.int16)


def one_slice(first, rows=6):
    return resample_onto_grid([COLUMN], [first], (1, rows, 1), fill=FILL)[0, :, 0].tolist()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (0, [0, 100, 200, 300, FILL, FILL]),
        (2, [FILL, FILL, 0, 100, 200, 300]),
        (1.25, [FILL, 0, 75, 175, 275, FILL]),  # a quarter further: three quarters of each, a quarter before
        (0.75, [FILL, 25, 125, 225, 300, FILL]),  # within half a pixel past the end the last pixel holds
        (1.5, [FILL, FILL, 50, 150, 250, 300]),
    ],
)
def test_a_slice_moves_by_whole_pixels_and_fractions(row, expected):
    assert one_slice((0.0, row, 0.0)) == expected


def test_a_slice_moves_along_rows_and_columns_alike():
    moved = resample_onto_grid([COLUMN], [(0, 1.25, 0)], (1, 6, 1), fill=FILL)
    turned = resample_onto_grid([COLUMN.T], [(0, 0, 1.25)], (1, 1, 6), fill=FILL)
    assert np.array_equal(turned, moved.transpose(0, 2, 1))


def planes_of(*values):
    return [np.full((2, 2), value, dtype=np.int16) for value in values]


def test_planes_between_slices_are_mixed_by_their_distance():
    first_pixels = [(0, 0, 0), (1.25, 0, 0), (4, 0, 0)]
    result = resample_onto_grid(planes_of(0, 100, 210), first_pixels, (5, 2, 2), fill=FILL)
    # plane 1 is 1 of 1.25 on the way, plane 2 is 0.75 of 2.75, plane 3 is 1.75 of 2.75
    assert result[:, 0, 0].tolist() == [0, 80, 130, 170, 210]
    assert (result == result[:, :1, :1]).all()


def test_the_extreme_values_of_int16_survive():
    result = resample_onto_grid(planes_of(-32768, 32767), [(0, 0, 0), (2, 0, 0)], (3, 2, 2), fill=FILL)
    assert result[:, 0, 0].tolist() in ([-32768, 0, 32767], [-32768, -1, 32767])  # the middle is -0.5


def test_where_only_one_of_two_slices_has_a_pixel_that_one_holds():
    result = resample_onto_grid(planes_of(10, 30), [(0, 0, 0), (2, 1, 0)], (3, 3, 2), fill=FILL)
    assert result[:, :, 0].tolist() == [[10, 10, FILL], [10, 20, 30], [FILL, 30, 30]]


def test_no_second_volume_is_ever_in_memory():
    def planes():
        for n in range(60):
            yield np.full((200, 200), n, dtype=np.int16)

    first_pixels = [(1.3 * n, 0.4 * n, 0) for n in range(60)]
    tracemalloc.start()
    result = resample_onto_grid(planes(), first_pixels, (78, 224, 200), fill=FILL)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 1.3 * result.nbytes


# whole series


def tilted(shape=(12, 40, 30), *, slope=0.4, heights=None, **attributes):
    """Return slices that advance sideways by a share of what they advance along the normal."""
    slices = phantoms.ct_slices(shape, **attributes)
    heights = 2.5 * np.arange(shape[0]) if heights is None else heights
    for ds, height in zip(slices, heights, strict=True):
        ds.ImagePositionPatient = [-30, round(40 + slope * height, 6), 100 + height]
    return slices


def test_the_correction_is_recorded_with_the_map_to_every_slice(tmp_path):
    volume = read_series(phantoms.save(tilted(slope=0.32), tmp_path / "in"))
    correction = volume.origin.correction
    # 0.32 x 2.5 = 0.8 mm, one row a slice
    assert correction.kinds == ("gantry tilt",)
    assert correction.matrix == (40, 30)
    assert np.allclose(correction.first_pixels, [(n, n, 0) for n in range(12)])
    assert volume.array.shape == (12, 51, 30)
    assert np.array_equal(volume.array[3, 3:43], phantoms.hounsfield((12, 40, 30))[3])
    assert correction.fill_hu == -1024
    assert (volume.array[3, :3] == -1024).all()
    assert (volume.array[3, 43:] == -1024).all()
    assert "gantry tilt of 17.7 degrees corrected" in volume.origin.repairs[0]
    back = read_volume(write_volume(volume, tmp_path / "out"))
    assert back.origin == volume.origin


def test_corners_get_the_padding_value_of_the_series(tmp_path):
    slices = tilted(slope=0.32)
    for ds in slices:
        ds.add_new(0x00280120, "US", 63)  # of unsigned values; 63 - 1024 HU
    volume = read_series(phantoms.save(slices, tmp_path))
    assert volume.origin.correction.fill_hu == -961
    assert volume.array[0, -1, 0] == -961


def test_a_volume_that_lies_regularly_is_left_as_it_is(tmp_path):
    volume = read_series(phantoms.save(phantoms.ct_slices(), tmp_path))
    assert volume.origin.correction is None
    assert np.array_equal(volume.array, phantoms.hounsfield())


UNEVEN = np.cumsum([0, *[2.5] * 12, *[4.0] * 11])
DRIFT = np.array([2.5 * n + 0.01 * n * n for n in range(24)])
HOLE = np.delete(2.5 * np.arange(25), 9)


@pytest.mark.parametrize(
    ("slope", "heights", "fill_missing"),
    [
        (0.35, None, 0),
        (-0.35, None, 0),
        (0.0, UNEVEN, 0),
        (0.0, DRIFT, 0),
        (0.35, UNEVEN, 0),
        (-0.2, DRIFT, 0),
        (0.0, HOLE, 1),
        (0.35, HOLE, 1),
    ],
    ids=["tilt", "other tilt", "uneven", "drift", "tilt, uneven", "tilt, drift", "missing", "tilt, missing"],
)
def test_a_shape_drawn_on_original_slices_survives_the_round_trip(tmp_path, slope, heights, fill_missing):
    shape = (24, 120, 120)
    slices = tilted(shape, slope=slope, heights=heights, spacing=(2.5, 0.8, 0.8))
    drawn = []
    for ds in slices:
        r, c = np.indices(shape[1:])
        _, y, z = np.moveaxis(np.array(ds.ImagePositionPatient, dtype=float), 0, -1)
        inside = ((c - 60) * 0.8 / 38) ** 2 + ((y + r * 0.8 - 88) / 36) ** 2 + ((z - 133) / 26) ** 2 < 1
        drawn.append(inside)
        phantoms.put_pixels(ds, np.where(inside, 1124, 924).astype(np.uint16), bits_stored=12)
    volume = read_series(phantoms.save(slices, tmp_path), fill_missing=fill_missing)
    masks = on_original_slices(volume.with_array((volume.array > 0).astype(np.uint8)))
    assert masks.sop_instance_uids == tuple(str(ds.SOPInstanceUID) for ds in slices)
    drawn, back = np.array(drawn), masks.array > 0
    assert 2 * (drawn & back).sum() / (drawn.sum() + back.sum()) >= 0.98
    for n, ds in enumerate(slices):
        assert masks.positions(n, np.array([0, 0])) == pytest.approx(
            np.array(ds.ImagePositionPatient), abs=1e-6
        )


# real scanners, and other programs


def by_dcm2niix(folder, out, name):
    """Return, in this project's order of axes, voxels and affine (sform) of a volume that dcm2niix makes."""
    import SimpleITK

    if shutil.which("dcm2niix") is None:
        pytest.skip("dcm2niix is not installed")
    done = subprocess.run(["dcm2niix", "-o", out, "-f", "x", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    image = SimpleITK.ReadImage(out / f"{name}.nii")
    sform = [image.GetMetaData(f"srow_{axis}").split() for axis in "xyz"]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.array([*sform, [0, 0, 0, 1]], float)[:, [2, 1, 0, 3]]
    affine[:3, 3] += affine[:3, 1] * (image.GetSize()[1] - 1)  # its rows run to the front
    affine[:3, 1] *= -1
    return SimpleITK.GetArrayFromImage(image)[:, ::-1], affine


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("totalseg/example_ct_dicom", "x"),
        ("dcmqi/ct-3slice", "x"),
        ("dcmqi/23x38x3/image", "x"),
        ("dcmqi/23x38x3/multiframe", "x"),
        ("dcmqi/24x38x3/image", "x"),
        ("dcmqi/24x38x3/multiframe", "x"),
        ("dicom2nifti_failing/gantrytilting", "x_Tilt_1"),
    ],
)
def test_voxels_and_place_equal_those_of_dcm2niix(real_data, tmp_path, folder, name):
    voxels, affine = by_dcm2niix(real_data / folder, tmp_path, name)
    volume = read_series(real_data / folder, rules=phantoms.ANY_UNITS)
    assert volume.array.shape == voxels.shape
    assert np.array_equal(volume.array, voxels)
    assert np.abs(volume.affine - affine).max() < 1e-3


@pytest.mark.real_data
def test_where_tilt_and_uneven_spacing_meet_dcm2niix_differs_as_documented(real_data, tmp_path):
    voxels, affine = by_dcm2niix(real_data / "dcm_qa_ct_GE", tmp_path, "x_Tilt_Eq_1")
    volume = read_series(real_data / "dcm_qa_ct_GE")
    assert (voxels.shape, volume.array.shape) == ((56, 611, 512), (37, 611, 512))
    assert np.array_equal(volume.array[0], voxels[0])
    # its axes are not at right angles, nor as long as the voxels; the first slice is 512 x 0.4883 mm high
    assert np.linalg.norm(affine[:3, 1]) == pytest.approx(0.474, abs=1e-3)
    assert volume.spacing[1:] == pytest.approx((0.48828, 0.48828), abs=1e-5)
    axes = volume.affine[:3, :3] / volume.spacing
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    stack = stack_slices(scan_folder(real_data / "dcm_qa_ct_GE").headers)
    hu, _ = read_pixels([s.header for s in stack.slices])
    first_pixels = np.array(stack.first_pixels) * (55 / 36, 1, 1)
    first_pixels[-1, 0] = 55
    on_its_planes = resample_onto_grid(hu, first_pixels.tolist(), voxels.shape, fill=-1500)
    assert (np.abs(on_its_planes - voxels) <= 1).mean() > 0.99


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["dcm_qa_ct_GE", "dicom2nifti_failing/gantrytilting"])
def test_corrected_voxels_equal_those_simpleitk_resamples_slice_by_slice(real_data, folder):
    import SimpleITK as sitk  # noqa: N813

    stack = stack_slices(scan_folder(real_data / folder).headers)
    volume = read_series(real_data / folder)
    rows, columns = volume.array.shape[1:]
    heights = np.array([first[0] for first in stack.first_pixels])
    within_slice = []
    for s, first in zip(stack.slices, stack.first_pixels, strict=True):
        image = sitk.GetImageFromArray(read_pixels([s.header])[0][0].astype(np.float32))
        image.SetOrigin((first[2], first[1]))
        on_grid = sitk.Resample(
            image, (columns, rows), sitk.Transform(), sitk.sitkLinear, (0, 0), (1, 1), (1, 0, 0, 1), 1e6
        )
        within_slice.append(sitk.GetArrayFromImage(on_grid))
    compared = 0
    for plane in range(0, len(volume.array), 5):
        upper = min(int(np.searchsorted(heights, plane - 1e-6)), len(heights) - 1)
        lower = max(upper - 1, 0)
        share = (plane - heights[lower]) / (heights[upper] - heights[lower]) if upper > lower else 0.0
        mixed = (1 - share) * within_slice[lower] + share * within_slice[upper]
        inside = (within_slice[lower] < 1e5) & (within_slice[upper] < 1e5)
        assert np.abs(volume.array[plane][inside] - mixed[inside]).max() <= 0.51  # rounded to whole HU
        compared += int(inside.sum())
    assert compared > 200_000


@pytest.mark.real_data
def test_the_real_uneven_series_is_read_where_a_missing_slice_may_be_filled(real_data):
    volume = read_series(real_data / "dicom2nifti_failing/sliceincrement", fill_missing=1)
    assert volume.array.shape == (5, 512, 512)
    assert volume.spacing[0] == pytest.approx(5, abs=1e-3)
    assert [first[0] for first in volume.origin.correction.first_pixels] == [0, 1, 2, 4]
    middle = (volume.array[2].astype(int) + volume.array[4]) / 2
    assert np.abs(volume.array[3] - middle).max() <= 0.5
