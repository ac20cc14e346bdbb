"""The mask as a series of CT images."""

import numpy as np
import pydicom
import pytest

from dicom_reader import read_series
from dicom_writer import Provenance, write_results
from stages import read_volume, write_volume
from tests import phantoms

REAL = {
    "totalseg/example_ct_dicom": "JPEG 2000, no UID in its files",
    "dcmqi/ct-3slice": "implicit VR",
    "dcmqi/23x38x3/multiframe": "enhanced CT",
    "dcm_qa_ct_GE/GE": "gantry tilt and uneven spacing",
    "dicom2nifti_failing/gantrytilting/001": "gantry tilt",
}


@pytest.fixture
def series(source, tmp_path):
    """Return what writes a mask as a series and gives its images in slice order."""

    def write(array=None, **how):
        paths = write_results(phantoms.mask(array), source, tmp_path / "out", results=["series"], **how)
        return [pydicom.dcmread(path) for path in paths]

    return write


def test_each_slice_is_an_image_in_its_source_s_place(series):
    images = series()
    assert [image.InstanceNumber for image in images] == [1, 2, 3, 4, 5]
    for source, image, plane in zip(phantoms.ct_slices(), images, phantoms.labels(), strict=True):
        assert image.ImagePositionPatient == source.ImagePositionPatient
        assert image.ImageOrientationPatient == source.ImageOrientationPatient
        assert image.PixelSpacing == source.PixelSpacing
        assert np.array_equal(image.pixel_array, plane)
        assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        (referenced,) = image.ReferencedSeriesSequence
        assert referenced.SeriesInstanceUID == phantoms.SERIES
        assert referenced.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID


def test_it_is_a_new_series_of_the_study(series):
    images = series()
    assert {image.StudyInstanceUID for image in images} == {phantoms.STUDY}
    assert len({image.SeriesInstanceUID for image in images} - {phantoms.SERIES}) == 1
    assert len({image.SOPInstanceUID for image in images}) == 5
    assert [image.file_meta.MediaStorageSOPInstanceUID for image in images] == [
        image.SOPInstanceUID for image in images
    ]
    assert images[0].ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
    assert images[0].SeriesDescription == "AI mask: Liver and liver tumour"
    assert images[0].DerivationDescription == "Mask: 0 background, 1 Liver, 2 Liver tumour"
    assert {str(image.PatientName) for image in images} == {"Doe^Jane"}


def test_the_window_shows_all_labels(series):
    image = series()[2]
    shown = pydicom.pixels.apply_voi_lut(image.pixel_array, image)
    assert shown[phantoms.labels()[2] == 0].max() == 0
    assert shown[phantoms.labels()[2] == 2].min() == 65535


def test_equal_content_has_the_same_uids(series):
    def uids(version):
        return [image.SOPInstanceUID for image in series(provenance=Provenance(algorithm_version=version))]

    assert uids("1") == uids("1")
    assert not set(uids("1")) & set(uids("2"))


def test_an_empty_mask_gives_a_series_that_says_so(series, empty):
    images = series(empty)
    assert not any(image.pixel_array.any() for image in images)
    assert images[0].SeriesDescription == "AI mask: No liver or liver tumour found"


def test_dciodvfy_finds_no_error(written, dciodvfy_errors, source, tmp_path):
    for path in write_results(phantoms.mask(), source, tmp_path / "out", results=["series"]):
        assert dciodvfy_errors(path) == []


def corner_mask(ct):
    """Return a mask with a liver and a tumour, none of them in the middle."""
    array = np.zeros(ct.array.shape, np.uint8)
    n, r, c = array.shape
    array[n // 4 : max(n - n // 4, 1), r // 4 : r // 2, c // 4 : c // 2 + c // 8] = 1
    array[n // 2 : n // 2 + 2, r // 3 : r // 3 + max(2, r // 20), c // 3 : c // 3 + max(2, c // 10)] = 2
    return phantoms.drawn_on(ct, array)


@pytest.mark.real_data
@pytest.mark.parametrize("folder", REAL)
def test_real_series_become_every_voxel_result_without_an_error(real_data, tmp_path, dciodvfy_errors, folder):
    ct = read_series(real_data / folder, rules=phantoms.ANY_UNITS)
    mask = read_volume(write_volume(corner_mask(ct), tmp_path / "mask"))
    paths = write_results(mask, real_data / folder, tmp_path / "out", results=["seg", "labelmap", "series"])
    seg, labelmap, *images = paths
    assert dciodvfy_errors(seg) == []
    assert dciodvfy_errors(labelmap) == ["Error - Information Object Not found"]
    assert [error for path in images for error in dciodvfy_errors(path)] == []
    assert len(images) == len(ct.origin.slices)


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["totalseg/example_ct_dicom", "dcmqi/ct-3slice"])
def test_simpleitk_finds_mask_and_source_on_one_grid(real_data, tmp_path, folder):
    import SimpleITK

    ct = read_series(real_data / folder, rules=phantoms.ANY_UNITS)
    paths = write_results(corner_mask(ct), real_data / folder, tmp_path / "out", results=["series"])
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(paths[0].parent)))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), corner_mask(ct).array)
    assert np.allclose(image.GetOrigin(), ct.affine[:3, 3], atol=1e-4)
    assert np.allclose(image.GetSpacing()[::-1], ct.spacing, atol=1e-4)
