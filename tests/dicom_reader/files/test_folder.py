"""Whatever else lies in a folder, its DICOM images are found, and nothing outside of it is."""

import logging
import os

import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_reader import read_series
from dicom_reader.files import folder as find
from dicom_reader.files.folder import scan_folder
from stages import InputError
from tests import phantoms


def dicomdir(path):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.9"
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.FileSetID, ds.DirectoryRecordSequence = "CD", []
    dcmwrite(path, ds, enforce_file_format=True)


def test_images_are_found_at_any_depth_under_any_name(tmp_path):
    deep = tmp_path / "a/b.dcm/c d/ü/.hidden"
    deep.mkdir(parents=True)
    for n, ds in enumerate(phantoms.ct_slices()):
        ds.save_as((deep if n else tmp_path) / f"no extension, {n}%", enforce_file_format=True)
    assert len(scan_folder(tmp_path).headers) == 5


def test_other_files_are_counted_and_named_and_never_fatal(tmp_path, caplog):
    phantoms.save(phantoms.ct_slices(), tmp_path)
    dicomdir(tmp_path / "DICOMDIR")
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.7" + bytes(1000))
    (tmp_path / "empty").touch()
    (tmp_path / "secret-folder").mkdir()
    (tmp_path / "secret-folder/line\nbreak.txt").write_text("text")
    os.mkfifo(tmp_path / "pipe")
    with caplog.at_level(logging.INFO, logger="dicom_reader"):
        found = scan_folder(tmp_path)
    assert len(found.headers) == 5
    assert set(found.others) == {"DICOMDIR", "report.pdf", "empty", r"line\nbreak.txt", "pipe"}
    line, _ = [r.getMessage() for r in caplog.records if r.name == find.__name__]
    assert line.startswith("ignored 5 file(s) that are no DICOM images, or links: ")
    assert "secret-folder" not in line


def test_links_are_not_followed_out_of_the_folder(tmp_path):
    phantoms.save(phantoms.ct_slices(), tmp_path / "in")
    phantoms.save(phantoms.ct_slices(series="1.2.3.66"), tmp_path / "outside")
    (tmp_path / "in/folder").symlink_to(tmp_path / "outside")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/file").symlink_to(next(p for p in (tmp_path / "outside").iterdir() if p.is_file()))
    (tmp_path / "in/broken").symlink_to(tmp_path / "nothing")
    found = scan_folder(tmp_path / "in")
    assert len(found.headers) == 5
    assert {h.uid("SeriesInstanceUID") for h in found.headers} == {phantoms.SERIES}
    assert sorted(found.others) == ["broken", "file", "folder", "loop"]


def test_links_that_lead_out_of_the_folder_are_counted_and_told(tmp_path, caplog):
    """Four of five slices are links, as git-annex makes them; two more lead to where all is found anyway."""
    folder, store = tmp_path / "in", tmp_path / "store"
    phantoms.save(phantoms.ct_slices(), store)
    first, *others = sorted(p for p in store.rglob("IM*") if p.is_file())
    folder.mkdir()
    first.rename(folder / first.name)
    for path in others:
        (folder / path.name).symlink_to(path)
    (folder / "same").symlink_to(folder / first.name)
    (folder / "here").symlink_to(folder)
    found = scan_folder(folder)
    ((why, count),) = found.left_out.items()
    assert count == 4
    assert "symbolic links that lead out of it" in why
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warning == f"4 file(s) of the input were left out: {why}"


def test_a_folder_that_is_a_link_itself_is_read(tmp_path):
    phantoms.save(phantoms.ct_slices(), tmp_path / "store")
    (tmp_path / "in").symlink_to(tmp_path / "store")
    (tmp_path / "store/inner").symlink_to(tmp_path / "store/IM007")
    found = scan_folder(tmp_path / "in")
    assert (len(found.headers), found.left_out) == (5, {})


def test_an_empty_file_is_told_since_it_may_be_a_slice(tmp_path, caplog):
    phantoms.save(phantoms.ct_slices(), tmp_path)
    (tmp_path / "IM099").touch()
    (tmp_path / ".keep").touch()
    assert sum(scan_folder(tmp_path).left_out.values()) == 1
    assert "1 file(s) of the input were left out: they are empty" in caplog.text


def test_the_order_is_that_of_the_paths_whatever_the_file_system_says(tmp_path):
    folder = phantoms.save(phantoms.ct_slices(), tmp_path)
    paths = [str(h.path) for h in scan_folder(folder).headers]
    assert paths == sorted(paths)


def test_the_header_pass_never_reads_the_pixels(tmp_path, monkeypatch):
    folder = phantoms.save(phantoms.ct_slices((3, 600, 600)), tmp_path)
    for path in folder.rglob("IM*"):
        os.truncate(path, 8192)
    headers = scan_folder(folder).headers
    assert {h.pixel_length for h in headers} == {600 * 600 * 2}
    with pytest.raises(InputError, match=r"IM\d+ is truncated"):
        read_series(folder)


def test_a_file_instead_of_a_folder_is_told(tmp_path):
    (tmp_path / "IM1").touch()
    with pytest.raises(InputError, match="IM1 is a file, a folder is expected"):
        scan_folder(tmp_path / "IM1")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("scan.zip", b"PK\3\4rest", "they are archives"),
        ("scan.tar.gz", b"\x1f\x8brest", "they are archives"),
        ("IM099", bytes(700), "they are named or begin as DICOM files do, and have no header"),
        ("IM099.part", bytes(60), "they are named or begin as DICOM files do, and have no header"),
        ("IM099.DCM", b"\r\n", "they are named or begin as DICOM files do, and have no header"),
    ],
)
def test_what_may_hold_images_and_cannot_be_read_is_told(tmp_path, name, content, why):
    (tmp_path / name).write_bytes(content)
    ((told, count),) = scan_folder(tmp_path).left_out.items()
    assert (told.startswith(why), count) == (True, 1)
    with pytest.raises(InputError, match=f"no DICOM image in the input folder, .*1 were left out: {why}"):
        read_series(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("report.docx", b"PK\3\4rest"),
        ("mask.nii.gz", b"\x1f\x8brest"),
        ("notes.txt", b"hello"),
        ("._a.dcm", b"\0\5"),
    ],
)
def test_what_holds_no_images_is_no_loss(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert not scan_folder(tmp_path).left_out


def test_an_object_of_no_patient_is_no_damaged_image(tmp_path):
    """A hanging protocol has neither modality nor series."""
    slices = phantoms.ct_slices()
    protocol = slices.pop()
    protocol.SOPClassUID = protocol.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.38.1"
    del protocol.Modality, protocol.SeriesInstanceUID, protocol.PixelData
    assert read_series(phantoms.save([*slices, protocol], tmp_path)).array.shape[0] == len(slices)
