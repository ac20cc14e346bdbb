"""Which files are images of which series."""

import os

import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from dicom_reader import read_series
from dicom_reader.files.folder import scan_folder
from dicom_reader.series.series import group_by_series
from stages import InputError
from tests import phantoms


def test_files_are_found_at_any_depth_and_by_any_name(tmp_path):
    phantoms.save(phantoms.ct_slices(), tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "IM000").rename(tmp_path / "a/b/no name.txt") if (tmp_path / "IM000").exists() else None
    assert len(scan_folder(tmp_path).headers) == 5


def test_other_files_are_counted_and_named(tmp_path, caplog):
    phantoms.save(phantoms.ct_slices(), tmp_path)
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "folder.dcm").mkdir()
    with caplog.at_level("INFO"):
        found = scan_folder(tmp_path)
    assert sorted(found.others) == ["empty.dcm", "notes.txt"]
    assert "ignored 2 file(s)" in caplog.text
    assert "notes.txt" in caplog.text


def test_links_are_not_followed(tmp_path):
    outside = phantoms.save(phantoms.ct_slices(series="1.9"), tmp_path / "outside")
    folder = phantoms.save(phantoms.ct_slices(), tmp_path / "in")
    (folder / "file").symlink_to(next(p for p in outside.rglob("IM*")))
    (folder / "link").symlink_to(outside, target_is_directory=True)
    found = scan_folder(folder)
    assert {h.text("SeriesInstanceUID") for h in found.headers} == {phantoms.SERIES}
    assert found.others == ["file", "link"]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"the input folder .*nowhere does not exist"):
        scan_folder(tmp_path / "nowhere")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_refused(tmp_path):
    phantoms.save(phantoms.ct_slices(), tmp_path)
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "secret").chmod(0)
    with pytest.raises(InputError, match="cannot read secret: Permission denied"):
        scan_folder(tmp_path)


def test_a_newline_in_a_file_name_does_not_break_the_log(tmp_path, caplog):
    (tmp_path / "a\nb").write_text("x")
    with caplog.at_level("INFO"):
        scan_folder(tmp_path)
    assert r": a\nb" in caplog.text


def test_a_dicomdir_is_no_image(tmp_path):
    phantoms.save(phantoms.ct_slices(), tmp_path)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MediaStorageDirectoryStorage, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    directory.FileSetID = "X"
    directory.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    assert scan_folder(tmp_path).others == ["DICOMDIR"]


@pytest.mark.parametrize("kept", [400, 480])
def test_a_dicom_file_cut_before_its_series_is_refused_not_ignored(tmp_path, kept):
    phantoms.save(phantoms.ct_slices(), tmp_path)
    path = tmp_path / "IM007"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"IM007: .*send (it|the file) again"):
        read_series(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no DICOM image in the input folder, which holds 0 other file"):
        read_series(tmp_path)


def test_the_plane_of_a_series_without_orientation_is_unknown(tmp_path):
    slices = phantoms.ct_slices()
    for each in slices:
        del each.ImageOrientationPatient
    (found,) = group_by_series(scan_folder(phantoms.save(slices, tmp_path)).headers)
    assert (found.attributes.plane, found.attributes.degrees_from("axial")) == ("", None)
