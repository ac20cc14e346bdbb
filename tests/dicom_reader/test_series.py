"""Which series becomes the volume, and why."""

import os

import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from dicom_reader.find import find_headers
from dicom_reader.series import choose_series
from stages import InputError
from tests import phantoms


def chosen(folder, **how):
    return choose_series(find_headers(folder), **how)


def test_files_are_found_at_any_depth_and_by_any_name(tmp_path):
    phantoms.save(phantoms.ct_slices(), tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "IM000").rename(tmp_path / "a/b/no name.txt") if (tmp_path / "IM000").exists() else None
    assert len(find_headers(tmp_path).headers) == 5


def test_other_files_are_counted_and_named(tmp_path, caplog):
    phantoms.save(phantoms.ct_slices(), tmp_path)
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "folder.dcm").mkdir()
    with caplog.at_level("INFO"):
        found = find_headers(tmp_path)
    assert sorted(found.others) == ["empty.dcm", "notes.txt"]
    assert "ignored 2 file(s)" in caplog.text
    assert "notes.txt" in caplog.text


def test_links_are_not_followed(tmp_path):
    outside = phantoms.save(phantoms.ct_slices(series="1.9"), tmp_path / "outside")
    folder = phantoms.save(phantoms.ct_slices(), tmp_path / "in")
    (folder / "file").symlink_to(next(p for p in outside.rglob("IM*")))
    (folder / "link").symlink_to(outside, target_is_directory=True)
    found = find_headers(folder)
    assert {h.text("SeriesInstanceUID") for h in found.headers} == {phantoms.SERIES}
    assert found.others == ["file", "link"]


def test_the_series_with_most_axial_slices_is_chosen(tmp_path):
    phantoms.save(phantoms.ct_slices((3, 8, 8), series="1.1"), tmp_path / "small")
    phantoms.save(phantoms.ct_slices(), tmp_path / "large")
    phantoms.save(phantoms.mr_slices(9), tmp_path / "mr")
    series, selection = chosen(tmp_path)
    assert series.uid == phantoms.SERIES
    assert selection == {
        "1.1": "not chosen, fewer slices: 3 axial CT slices",
        "1.2.3.2": "chosen: 5 axial CT slices",
        "1.2.3.5": "not chosen, no axial CT: 9 MR",
    }


def test_of_equal_series_the_first_uid_is_chosen(tmp_path):
    for uid in ("1.7", "1.5", "1.6"):
        phantoms.save(phantoms.ct_slices(series=uid), tmp_path / uid)
    series, selection = chosen(tmp_path)
    assert series.uid == "1.5"
    assert selection["1.7"] == "not chosen, as many slices: 5 axial CT slices"


def test_a_series_can_be_asked_for(tmp_path):
    for uid in ("1.5", "1.6"):
        phantoms.save(phantoms.ct_slices(series=uid), tmp_path / uid)
    assert chosen(tmp_path, series_instance_uid="1.6")[0].uid == "1.6"
    with pytest.raises(InputError, match=r"no series 1\.8 in the input folder; found 2 series: 2 axial CT"):
        chosen(tmp_path, series_instance_uid="1.8")


def test_a_localizer_in_the_series_is_left_out(tmp_path):
    slices = [*phantoms.ct_slices(), phantoms.localizer(series=phantoms.SERIES)]
    slices[-1].SOPInstanceUID = "1.2.99"
    phantoms.save(slices, tmp_path)
    series, selection = chosen(tmp_path)
    assert len(series.slices) == 5
    assert selection[series.uid] == "chosen: 5 axial CT slices and 1 CT localizer, the latter left out"


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "CT screen capture"),
        ({"SamplesPerPixel": 3}, "CT in colour"),
        ({"RescaleType": "OD"}, "CT in OD instead of Hounsfield units"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "CT more than 35 degrees from axial"),
        ({"Modality": "PT"}, "PT"),
    ],
)
def test_what_is_no_axial_ct_is_named(tmp_path, attributes, kind):
    phantoms.save(phantoms.ct_slices(**attributes), tmp_path)
    with pytest.raises(
        InputError, match=f"no axial CT series in the input folder; found 1 series: 1 {kind}$"
    ):
        chosen(tmp_path)


def test_the_error_says_what_was_found_instead(tmp_path):
    phantoms.save(phantoms.mr_slices(), tmp_path / "1")
    phantoms.save(phantoms.mr_slices(series="1.2.8"), tmp_path / "2")
    phantoms.save([phantoms.localizer()], tmp_path / "3")
    with pytest.raises(InputError, match=r"found 3 series: 2 MR, 1 CT localizer"):
        chosen(tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"the input folder .*nowhere does not exist"):
        find_headers(tmp_path / "nowhere")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no DICOM image in the input folder, which holds 0 other file"):
        chosen(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_refused(tmp_path):
    phantoms.save(phantoms.ct_slices(), tmp_path)
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "secret").chmod(0)
    with pytest.raises(InputError, match="cannot read secret: Permission denied"):
        find_headers(tmp_path)


def test_a_newline_in_a_file_name_does_not_break_the_log(tmp_path, caplog):
    (tmp_path / "a\nb").write_text("x")
    with caplog.at_level("INFO"):
        find_headers(tmp_path)
    assert r"'a\nb'" in caplog.text


def test_a_dicomdir_is_no_image(tmp_path):
    phantoms.save(phantoms.ct_slices(), tmp_path)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MediaStorageDirectoryStorage, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    directory.FileSetID = "X"
    directory.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    assert find_headers(tmp_path).others == ["DICOMDIR"]


@pytest.mark.parametrize("kept", [400, 480])
def test_a_dicom_file_cut_before_its_series_is_refused_not_ignored(tmp_path, kept):
    phantoms.save(phantoms.ct_slices(), tmp_path)
    path = tmp_path / "IM007"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"IM007: .*send (it|the file) again"):
        chosen(tmp_path)
