import shutil
import subprocess

import numpy as np
import pydicom
import pytest

from phantoms.dicom_series import write_series

SPACING = (2.5, 0.7, 0.8)
FIRST = (-100.0, -20.5, -30.25)


@pytest.fixture(scope="module")
def hu():
    return np.random.default_rng(0).integers(-1024, 3072, (4, 6, 5)).astype(np.int16)


@pytest.fixture(scope="module")
def files(hu, tmp_path_factory):
    return write_series(hu, tmp_path_factory.mktemp("series"), spacing_mm=SPACING, first_mm=FIRST, seed=3)


def test_slices_sorted_by_position_are_the_volume_again(hu, files):
    instances = sorted((pydicom.dcmread(f) for f in files), key=lambda ds: ds.ImagePositionPatient[2])
    read = [ds.pixel_array.astype(int) * int(ds.RescaleSlope) + int(ds.RescaleIntercept) for ds in instances]
    assert np.array_equal(np.stack(read), hu)


def test_positions_follow_from_spacing_and_first_voxel(files):
    positions = [pydicom.dcmread(f).ImagePositionPatient for f in files]
    assert positions[0] == [-30.25, -20.5, -100.0]
    assert positions[3] == [-30.25, -20.5, -92.5]


def test_row_spacing_comes_first(files):
    assert pydicom.dcmread(files[0]).PixelSpacing == [0.7, 0.8]


def test_instance_numbers_count_from_the_head(files):
    assert [pydicom.dcmread(f).InstanceNumber for f in files] == [4, 3, 2, 1]


def test_slices_share_the_series_and_differ_as_instances(files):
    instances = [pydicom.dcmread(f) for f in files]
    assert len({ds.SeriesInstanceUID for ds in instances}) == 1
    assert len({ds.SOPInstanceUID for ds in instances}) == 4
    assert all(ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID for ds in instances)
    assert all(ds.SOPInstanceUID.startswith("2.25.") for ds in instances)


def test_same_arguments_give_the_same_bytes(hu, files, tmp_path):
    again = write_series(hu, tmp_path, spacing_mm=SPACING, first_mm=FIRST, seed=3)
    assert [f.read_bytes() for f in again] == [f.read_bytes() for f in files]


def test_another_seed_gives_another_study(hu, files, tmp_path):
    other = write_series(hu, tmp_path, spacing_mm=SPACING, first_mm=FIRST, seed=4)
    assert pydicom.dcmread(other[0]).StudyInstanceUID != pydicom.dcmread(files[0]).StudyInstanceUID


def test_nobody_takes_the_patient_for_a_person(files):
    assert pydicom.dcmread(files[0]).PatientName == "PHANTOM^ABDOMEN"


def test_values_beyond_twelve_bits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="12 bits"):
        write_series(np.full((1, 2, 2), 3072, np.int16), tmp_path, spacing_mm=SPACING)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_dciodvfy_finds_no_error(files):
    for file in files[:2]:
        found = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
        lines = (found.stdout + found.stderr).splitlines()
        assert [line for line in lines if line.startswith("Error")] == []
