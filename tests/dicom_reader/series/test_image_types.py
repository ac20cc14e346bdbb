"""Each image is judged by itself: one that is no slice never decides for or against those around it."""

import re

import numpy as np
import pytest

from dicom_reader import read_all_series, read_series
from dicom_reader.read import judge_folder
from dicom_reader.selection.rules import Rules
from stages import GeometryError, InputError
from tests import phantoms

CORONAL = (1, 0, 0, 0, 0, -1)


def scan(folder, *strays, shape=(10, 8, 8), series="1.2", **attributes):
    """Save a scan of ten slices, and what else has its series UID; the strays are of -1 HU."""
    slices = phantoms.ct_slices(shape, series=series, **attributes)
    for n, ds in enumerate(strays):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{series}.{500 + n}"
        ds.SeriesInstanceUID, ds.InstanceNumber = series, 500 + n
        ds.PixelData = (np.frombuffer(ds.PixelData, np.uint16) * 0 + 1023).astype(np.uint16).tobytes()
    return phantoms.save([*slices, *strays], folder)


def stray(count=1, shape=(8, 8), **attributes):
    attributes = {"first": (-30, 40, 111.25), **attributes}  # between the slices of a scan
    return phantoms.ct_slices((count, *shape), **attributes)


def selection(folder, **how):
    return {v.series.name: str(v) for v in judge_folder(folder, **how)}


DERIVED = [
    ["DERIVED", "SECONDARY", "AXIAL", "MIP"],
    ["DERIVED", "PRIMARY", "MPR"],
    ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"],
    ["DERIVED", "SECONDARY", "PROJECTION IMAGE"],
    ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 MIP"],
    ["ORIGINAL", "PRIMARY", "MINIP"],
    ["ORIGINAL", "PRIMARY", "AVERAGE"],
    ["ORIGINAL", "PRIMARY", "VOLUME", "MAXIMUM"],
]


@pytest.mark.parametrize("image_type", DERIVED, ids=lambda values: values[-1])
def test_derived_images_between_the_slices_are_set_apart_and_told(tmp_path, image_type):
    scan(tmp_path, *stray(4, ImageType=image_type))
    volume = read_series(tmp_path)
    assert np.array_equal(volume.array, phantoms.hounsfield((10, 8, 8)))
    assert volume.origin.selection == {
        "1.2": "chosen: 10 axial CT slices",
        "1.2_derived": "not chosen, derived: 4 derived axial CT slices",
    }


@pytest.mark.parametrize(
    "image_type",
    [
        ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"],
        ["ORIGINAL", "PRIMARY", "AXIAL", "ADD"],
        ["ORIGINAL"],
        None,
    ],
)
def test_what_scanners_write_of_acquired_slices_is_not_derived(tmp_path, image_type):
    scan(tmp_path, ImageType=image_type)
    assert selection(tmp_path) == {"1.2": "chosen: 10 axial CT slices"}


def test_one_original_image_among_derived_ones_does_not_make_them_a_scan(tmp_path):
    mip = phantoms.ct_slices((20, 8, 8), series="1.1", ImageType=DERIVED[0])
    mip[19].ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    phantoms.save(mip, tmp_path / "mip")
    scan(tmp_path / "scan")
    volume = read_series(tmp_path)
    assert volume.origin.series_instance_uid == "1.2"
    assert volume.origin.selection["1.1_derived"] == "not chosen, derived: 19 derived axial CT slices"
    with pytest.raises(
        InputError, match=r"one slice only .*; 19 derived image\(s\) of the series were left out"
    ):
        read_series(tmp_path, series_instance_uid="1.1")
    mips = Rules.model_validate({"require": {"image_type": ["MIP"]}})
    assert read_series(tmp_path, rules=mips).origin.file_name == "1.1_derived"


def test_one_slice_that_says_secondary_does_not_make_a_series_secondary(tmp_path):
    slices = phantoms.ct_slices((10, 8, 8), series="1.2", ConvolutionKernel="BONE")
    slices[3].ImageType = ["ORIGINAL", "SECONDARY", "AXIAL"]
    phantoms.save(slices, tmp_path / "primary")
    scan(tmp_path / "other", series="1.1", ImageType=["ORIGINAL", "SECONDARY", "AXIAL"])
    assert selection(tmp_path)["1.1"] == "not chosen, not primary: 10 axial CT slices"


def test_where_a_series_is_asked_for_its_acquired_slices_go_before_its_derived_ones(tmp_path):
    scan(tmp_path, *stray(12, ImageType=DERIVED[0]))
    anything = Rules.model_validate({"require": {"image_type": "any"}})
    assert read_series(tmp_path, rules=anything).origin.file_name == "1.2"
    assert read_series(tmp_path, series_instance_uid="1.2").array.max() == 477
    assert [v.origin.file_name for v in read_all_series(tmp_path, rules=anything)] == ["1.2", "1.2_derived"]


def test_where_derived_images_lie_in_a_gap_nobody_is_advised_to_fill_it(tmp_path):
    slices = phantoms.ct_slices((10, 8, 8))
    slices[4].ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    with pytest.raises(GeometryError) as refused:
        read_series(phantoms.save(slices, tmp_path))
    assert str(refused.value).endswith(
        "1 slice(s) may be missing, 1 derived image(s) of the series were left out and may be what is "
        "missing; send the series again"
    )


def test_nobody_is_advised_to_invent_half_a_scan(tmp_path):
    slices = phantoms.ct_slices((12, 8, 8))
    del slices[4:8]
    with pytest.raises(GeometryError, match=r"4 slice\(s\) may be missing, send the series again$"):
        read_series(phantoms.save(slices, tmp_path))


# units and colour


@pytest.mark.parametrize(
    "spelling",
    ["HU", "hu", " HU ", "Hounsfield Unit", "hounsfield units", "HOUNSFIELD_UNITS", "Hounsfield", ""],
)
def test_every_spelling_of_hounsfield_units_is_taken(tmp_path, spelling):
    scan(tmp_path, RescaleType=spelling)
    assert read_series(tmp_path).origin.warnings == ()


@pytest.mark.parametrize("units", ["US", "OD", "Z_EFF", "ED", "MGML", "HU_MOD", "normalized", "%"])
def test_values_in_other_units_are_no_scan_by_default_and_a_rule_takes_them_with_a_warning(tmp_path, units):
    scan(tmp_path, RescaleType=units)
    with pytest.raises(InputError, match=f"1 CT in {units.upper()} instead of Hounsfield units"):
        read_series(tmp_path)
    for rules in ({"rescale_type": units}, {"rescale_type": "any"}, {"series_uid": "1.2"}):
        volume = read_series(tmp_path, rules=Rules.model_validate({"require": rules}))
        assert volume.origin.warnings == (
            f"Rescale Type (0028,1054) is {units.upper()}, not HU: values may be no Hounsfield units",
        )


@pytest.mark.parametrize("said", ["HU", "US", None])
def test_a_series_without_any_rescale_is_no_scan_whatever_it_says_of_its_units(tmp_path, said):
    bare = {"RescaleSlope": None, "RescaleIntercept": None, "RescaleType": said}
    scan(tmp_path / "bare", series="1.1", shape=(20, 8, 8), **bare)
    scan(tmp_path / "scan")
    volume = read_series(tmp_path)
    assert volume.origin.series_instance_uid == "1.2"
    assert re.match(
        "not chosen, (without a rescale to|in US instead of) Hounsfield units", volume.origin.selection["1.1"]
    )
    with pytest.raises(InputError, match=r"Rescale Slope \(0028,1053\) is missing"):
        read_series(tmp_path, series_instance_uid="1.1")


@pytest.mark.parametrize("colour", ["PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "HSV"])
def test_colours_are_no_hounsfield_units(tmp_path, colour):
    scan(tmp_path / "map", series="1.1", shape=(20, 8, 8), PhotometricInterpretation=colour)
    scan(tmp_path / "scan")
    assert selection(tmp_path)["1.1"] == (
        f"not chosen, in {colour} instead of grey values: 20 {colour} axial CT slices"
    )
    wanted = Rules.model_validate({"require": {"photometric": colour}})
    (warning,) = read_series(tmp_path, rules=wanted).origin.warnings
    assert warning.startswith(f"Photometric Interpretation (0028,0004) is {colour}")


@pytest.mark.parametrize("grey", ["MONOCHROME1", "MONOCHROME2", "MONOCHROME2 ", ""])
def test_grey_values_are_read_whatever_they_are_shown_as(tmp_path, grey):
    scan(tmp_path, PhotometricInterpretation=grey)
    assert np.array_equal(read_series(tmp_path).array, phantoms.hounsfield((10, 8, 8)))


@pytest.mark.parametrize(
    ("attributes", "part"),
    [({"RescaleType": "US"}, "us"), ({"PhotometricInterpretation": "PALETTE COLOR"}, "palette-color")],
)
def test_one_image_of_other_units_or_in_colour_is_set_apart(tmp_path, attributes, part):
    scan(tmp_path, *stray(**attributes))
    volume = read_series(tmp_path)
    assert volume.array.shape == (10, 8, 8)
    assert set(volume.origin.selection) == {"1.2", f"1.2_{part}"}


# geometry


@pytest.mark.parametrize(
    ("images", "why"),
    [
        (stray(orientation=CORONAL), "of another orientation"),
        (stray(2, orientation=CORONAL), "of another orientation"),
        (stray(orientation=(0, 1, 0, 0, 0, -1)), "of another orientation"),
        (stray(orientation=(1, 0, 0, 0, -1, 0)), "of another orientation"),
        (stray(shape=(16, 8)), "of another matrix (16 x 8 pixels)"),
        (stray(spacing=(2.5, 0.4, 0.3)), "of another pixel spacing (0.4 x 0.3 mm)"),
        (stray(ImagePositionPatient=None, ImageOrientationPatient=None), "without position and orientation"),
        (stray(RescaleSlope=None, RescaleIntercept=None), "without a rescale"),
        (stray(RescaleSlope=None, RescaleIntercept=None, RescaleType="HU"), "without a rescale"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_few_images_of_another_kind_are_set_apart_and_warned_of(tmp_path, images, why):
    scan(tmp_path, *images)
    volume = read_series(tmp_path)
    assert np.array_equal(volume.array, phantoms.hounsfield((10, 8, 8)))
    assert volume.origin.warnings == (
        f"{len(images)} image(s) of the series were left out, {why}; the volume is made of 10",
    )
    assert f"{len(images)} CT image {why}, the latter left out" in volume.origin.selection["1.2"]


@pytest.mark.parametrize("word", ["SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM", "LOCALIZER"])
def test_localizers_are_known_by_every_name_and_are_no_loss(tmp_path, word):
    scan(tmp_path, *stray(2, orientation=CORONAL, ImageType=["ORIGINAL", "PRIMARY", word]))
    volume = read_series(tmp_path)
    assert volume.array.shape == (10, 8, 8)
    assert volume.origin.warnings == ()


def test_slices_of_two_geometries_that_are_many_are_refused_not_set_apart(tmp_path):
    slices = phantoms.ct_slices((10, 8, 8))
    for ds in slices[::3]:
        ds.PixelSpacing = [0.8 + 0.01 * ds.InstanceNumber, 0.6]  # each another one
    with pytest.raises(InputError, match="has a pixel spacing"):
        read_series(phantoms.save(slices, tmp_path))


def test_a_slice_of_another_matrix_leaves_a_gap_that_is_refused_and_explained(tmp_path):
    slices = phantoms.ct_slices((10, 8, 8))
    phantoms.put_pixels(slices[4], np.zeros((8, 10), np.uint16), bits_stored=12)
    with pytest.raises(
        GeometryError, match=r"1 image\(s\) of another matrix \(8 x 10 pixels\) of the series were"
    ):
        read_series(phantoms.save(slices, tmp_path), fill_missing=0)


def test_two_slices_that_watched_the_contrast_at_places_of_the_scan_are_set_apart(tmp_path):
    watching = [*stray(first=(-30, 40, 105)), *stray(first=(-30, 40, 105))]
    for ds in watching:
        ds.AcquisitionNumber = 1
    scan(tmp_path, *watching, AcquisitionNumber=2)
    volume = read_series(tmp_path)
    assert np.array_equal(volume.array, phantoms.hounsfield((10, 8, 8)))
    assert volume.origin.warnings == (
        "2 image(s) of the series were left out, at places of other slices, of another acquisition; the "
        "volume is made of 10",
    )


def test_one_of_two_slices_at_one_place_is_not_set_apart_for_nothing(tmp_path):
    scan(tmp_path, *stray(first=(-30, 40, 105)))
    with pytest.raises(GeometryError, match="lie at the same position"):
        read_series(tmp_path)


def test_a_series_that_was_sent_twice_is_one_volume_whatever_the_second_says_of_its_time(tmp_path):
    second = phantoms.ct_slices((10, 8, 8), series="1.2", SeriesTime="120000", InstanceCreationTime="120000")
    for ds in second:
        ds.SOPInstanceUID = f"{ds.SOPInstanceUID}.2"
    phantoms.save(second, tmp_path / "again")
    scan(tmp_path)
    volume = read_series(tmp_path)
    assert (volume.array.shape, volume.origin.part) == ((10, 8, 8), "")
    assert "left out: it has the place and the pixels of" in volume.origin.repairs[0]
    assert volume.origin.warnings == ()


def test_phases_of_which_a_slice_is_equal_are_still_two_volumes(tmp_path):
    second = phantoms.ct_slices((10, 8, 8), series="1.2", AcquisitionNumber=2)
    for n, ds in enumerate(second):
        ds.SOPInstanceUID = f"{ds.SOPInstanceUID}.2"
        if n > 0:
            ds.PixelData = bytes(len(ds.PixelData))
    phantoms.save(second, tmp_path / "second")
    scan(tmp_path, AcquisitionNumber=1)
    assert [v.origin.part for v in read_all_series(tmp_path)] == ["acquisition-1", "acquisition-2"]
