"""The original images are found, ordered, and held against the mask's grid."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless

from dicom_writer.source.images import find_source
from dicom_writer.source.positions import require_same_place
from stages import GeometryError, InputError
from stages.volume.original_slices import on_original_slices
from tests import phantoms


def uids(sources):
    return [str(d.SOPInstanceUID) for d in sources]


IN_ORDER = [phantoms.uid_of(n) for n in range(5)]


def test_images_come_in_the_order_of_the_slices_whatever_their_files_are_called(source):
    assert uids(find_source(source, phantoms.mask())) == IN_ORDER


def test_without_a_description_images_are_found_by_series_and_ordered_by_position(source):
    phantoms.save(phantoms.ct_slices(series="1.8"), source / "other")
    phantoms.save([phantoms.localizer(series=phantoms.SERIES)], source / "localizer")
    assert uids(find_source(source, phantoms.mask(with_slices=False))) == IN_ORDER


def test_a_mask_that_grows_downward_gets_its_images_in_its_own_order(source):
    affine = phantoms.AFFINE.copy()
    affine[:3, 3] += 4 * affine[:3, 0]
    affine[:3, 0] *= -1
    mask = phantoms.mask(affine=affine, with_slices=False)
    sources = find_source(source, mask)
    assert uids(sources) == IN_ORDER[::-1]
    require_same_place(on_original_slices(mask), sources)


def test_other_files_and_copies_do_no_harm(source):
    (source / "notes.txt").write_text("text")
    (source / "broken").write_bytes(bytes(128) + b"DICM" + b"\x02\x00\x10\x00UI\xff\xff")
    phantoms.save(phantoms.mr_slices(), source / "mr")
    phantoms.save(phantoms.ct_slices(), source / "again")
    assert uids(find_source(source, phantoms.mask())) == IN_ORDER


def test_compressed_sources_are_read_by_their_headers(tmp_path):
    slices = phantoms.ct_slices((5, 32, 40))
    for ds in slices:
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    assert uids(find_source(phantoms.save(slices, tmp_path), phantoms.mask())) == IN_ORDER


def test_an_instance_may_be_named_by_the_meta_information_only(tmp_path):
    slices = phantoms.ct_slices(SOPInstanceUID="", SOPClassUID="", SeriesInstanceUID="", StudyInstanceUID="")
    sources = find_source(phantoms.save(slices, tmp_path), phantoms.mask())
    assert uids(sources) == IN_ORDER
    assert sources[0].SeriesInstanceUID == phantoms.SERIES
    assert sources[0].StudyInstanceUID == phantoms.STUDY


def test_the_meta_information_may_differ_from_the_instance(tmp_path):
    slices = phantoms.ct_slices()
    for ds in slices:
        ds.file_meta.MediaStorageSOPInstanceUID = "9.9." + ds.SOPInstanceUID
    for ds, path in zip(slices, "abcde", strict=True):
        ds.save_as(tmp_path / path, enforce_file_format=False)
    assert uids(find_source(tmp_path, phantoms.mask())) == IN_ORDER


def test_missing_images_are_counted_and_named(source):
    (source / "IM007").unlink()
    with pytest.raises(
        InputError, match=r"1 of 5 source images are not in the source folder.* 1\.2\.3\.2\.2$"
    ):
        find_source(source, phantoms.mask())


def test_a_missing_series_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no image of series 1\.2\.3\.2 in the source folder"):
        find_source(tmp_path, phantoms.mask(with_slices=False))


def test_a_missing_source_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"the source folder .*nowhere does not exist"):
        find_source(tmp_path / "nowhere", phantoms.mask())


def test_a_source_of_another_study_is_refused(tmp_path):
    folder = phantoms.save(phantoms.ct_slices(StudyInstanceUID="1.5.5"), tmp_path)
    with pytest.raises(InputError, match=r"StudyInstanceUID is 1\.5\.5, the mask says 1\.2\.3\.1"):
        find_source(folder, phantoms.mask())


@pytest.mark.parametrize("name", ["../../etc/x", "mask", ""])
def test_a_mask_whose_name_is_no_uid_is_refused(source, name):
    with pytest.raises(InputError, match="is no UID; name its files after one"):
        find_source(source, phantoms.mask(series=name))


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "PixelSpacing", "Rows"])
def test_a_source_that_lacks_an_attribute_is_refused(tmp_path, keyword):
    slices = phantoms.ct_slices()
    setattr(slices[1], keyword, None)
    with pytest.raises(InputError, match=f"source image 1.2.3.2.2: {keyword} is missing"):
        find_source(phantoms.save(slices, tmp_path), phantoms.mask())


def shifted(by, axis=3):
    affine = phantoms.AFFINE.copy()
    affine[:3, axis] += by
    return affine


@pytest.mark.parametrize(
    ("affine", "slice_number", "mm"),
    [
        (shifted([0, 0, 2.5]), 1, 2.50),  # one slice off
        (shifted([0.6, 0, 0]), 1, 0.60),  # one column off
        (shifted([0, 0, 0.1], axis=0), 5, 0.40),  # spacing 2.6 instead of 2.5, four slices up
        (shifted([0, 0.1, 0], axis=1), 1, 1.50),  # 15 rows of 0.1 mm more
    ],
)
def test_a_mask_that_lies_elsewhere_is_refused_with_slice_and_millimetres(source, affine, slice_number, mm):
    mask = phantoms.mask(affine=affine)
    with pytest.raises(GeometryError, match=rf"a corner of slice {slice_number} is {mm:.2f} mm from where"):
        require_same_place(on_original_slices(mask), find_source(source, mask))


def test_a_mask_turned_over_is_refused(source):
    affine = phantoms.AFFINE.copy()
    affine[:3, 3] += 4 * affine[:3, 0]
    affine[:3, 0] *= -1
    mask = phantoms.mask(affine=affine)
    with pytest.raises(GeometryError, match=r"a corner of slice 1 is 10\.00 mm from where"):
        require_same_place(on_original_slices(mask), find_source(source, mask))


def test_a_mask_of_another_matrix_is_refused(source):
    mask = phantoms.mask(np.zeros((5, 16, 19), np.uint8))
    with pytest.raises(
        GeometryError, match=r"slice 1 of the mask has 16 x 19 pixels, its source image .* 16 x 20"
    ):
        require_same_place(on_original_slices(mask), find_source(source, mask))


def test_a_mask_of_fewer_slices_is_refused(source):
    mask = phantoms.mask(np.zeros((4, 16, 20), np.uint8), with_slices=False)
    with pytest.raises(GeometryError, match="the mask has 4 slices, its source series 5 images"):
        require_same_place(on_original_slices(mask), find_source(Path(source), mask))
