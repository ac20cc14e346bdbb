"""A CT volume goes back as DICOM: what the reader made of a series, seen by other programs."""

import numpy as np
import pydicom
import pytest
import SimpleITK

from dicom_reader import read_series
from dicom_writer import write_results
from stages import InputError, OutputError
from tests import phantoms
from tests.dicom_writer.test_corrected import CASES, series


def read_by_simpleitk(paths):
    """Return array and affine of a series, index (slice, row, column) to LPS mm."""
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(paths[0].parent))
    image = SimpleITK.ReadImage(names)
    axes = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes[:, ::-1], image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image), affine


def test_simpleitk_reads_the_volume_that_was_read(source, tmp_path):
    ct = read_series(source)
    paths = write_results(ct, source, tmp_path / "out", results=["volume"])
    array, affine = read_by_simpleitk(paths)
    assert np.array_equal(array, phantoms.hounsfield())
    assert np.allclose(affine, phantoms.AFFINE, atol=1e-6)
    image = pydicom.dcmread(paths[0])
    assert image.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
    assert image.SeriesDescription == "Volume, as acquired"
    assert image.StudyInstanceUID == phantoms.STUDY
    assert image.SeriesInstanceUID != phantoms.SERIES
    assert image.SourceImageSequence[0].SpatialLocationsPreserved == "YES"
    assert image.RescaleType == "HU"


@pytest.mark.parametrize("case", CASES)
def test_a_corrected_series_comes_as_its_grid_and_says_so(tmp_path, case, dciodvfy_errors):
    source = series(tmp_path / "source", **CASES[case])
    ct = read_series(source)
    paths = write_results(ct, source, tmp_path / "out", results=["volume"])
    array, affine = read_by_simpleitk(paths)
    assert np.array_equal(array, ct.array)
    assert np.allclose(affine, ct.affine, atol=1e-3)
    image = pydicom.dcmread(paths[0])
    assert image.SeriesDescription.startswith("Volume, corrected: ")
    assert image.SourceImageSequence[0].SpatialLocationsPreserved == "NO"
    assert [error for path in paths for error in dciodvfy_errors(path)] == []


def test_a_mask_is_no_volume(source, tmp_path):
    with pytest.raises(InputError, match=r"int16 Hounsfield units, this one uint8; is it a mask\?"):
        write_results(phantoms.mask(), source, tmp_path / "out", results=["volume"])


def test_a_volume_that_came_out_otherwise_never_appears(source, tmp_path, monkeypatch):
    from dicom_writer.series import slice_files

    write = slice_files.write_slice_files

    def one_more(files, meta, common, *, dtype):
        write(files, meta, common, dtype=dtype)
        path = files[2].path
        path.write_bytes(path.read_bytes()[:-2] + b"\1\0")

    monkeypatch.setattr(slice_files, "write_slice_files", one_more)
    with pytest.raises(OutputError, match="1 pixels in slice 3 of the series differ"):
        write_results(read_series(source), source, tmp_path / "out", results=["volume"])
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["totalseg/example_ct_dicom", "dcmqi/23x38x3/multiframe"])
def test_real_series_go_back_as_they_were_read(real_data, tmp_path, folder, dciodvfy_errors):
    ct = read_series(real_data / folder, rules=phantoms.ANY_UNITS)
    paths = write_results(ct, real_data / folder, tmp_path / "out", results=["volume"])
    array, affine = read_by_simpleitk(paths)
    assert np.array_equal(array, ct.array)
    assert np.allclose(affine, ct.affine, atol=1e-3)
    assert [error for path in paths for error in dciodvfy_errors(path)] == []
