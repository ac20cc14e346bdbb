"""The road, folder to volume, on phantoms and on real files."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dicom_reader import read_series
from stages import GeometryError, InputError, read_volume
from stages.volume.geometry import points_at
from tests import phantoms

ROOT = Path(__file__).parents[2]


def test_a_series_becomes_a_volume_with_its_place_and_origin(tmp_path):
    volume = read_series(phantoms.save(phantoms.ct_slices(), tmp_path))
    assert np.array_equal(volume.array, phantoms.hounsfield())
    assert np.allclose(volume.affine, phantoms.AFFINE)
    assert points_at(volume.affine, (2, 3, 4)).tolist() == pytest.approx([-27.6, 42.4, 105.0])
    assert volume.origin.series_instance_uid == phantoms.SERIES
    assert volume.origin.study_instance_uid == phantoms.STUDY
    assert volume.origin.frame_of_reference_uid == phantoms.FRAME
    assert [s.sop_instance_uid for s in volume.origin.slices] == [phantoms.uid_of(n) for n in range(5)]
    assert volume.origin.slices[4].position == (-30, 40, 110)
    assert volume.origin.repairs == ()


@pytest.mark.parametrize(
    ("named", "found"),
    [("HEAD", "HEAD"), ("ABDOMENPELVIS", "ABDOMENPELVIS"), ("", ""), ("SMITH JOHN", ""), ("SCHAEDEL", "")],
)
def test_the_part_of_the_body_is_kept_where_it_is_a_term_of_the_standard(tmp_path, named, found):
    slices = phantoms.ct_slices()
    for each in slices:
        each.BodyPartExamined = named
    assert read_series(phantoms.save(slices, tmp_path)).origin.body_part == found


def test_slices_of_several_parts_of_the_body_have_none_in_common(tmp_path):
    slices = phantoms.ct_slices()
    slices[0].BodyPartExamined, slices[1].BodyPartExamined = "NECK", "CHEST"
    assert read_series(phantoms.save(slices, tmp_path)).origin.body_part == ""


def test_missing_uids_are_derived_and_recorded_and_always_the_same(tmp_path):
    slices = phantoms.ct_slices(SeriesInstanceUID="", StudyInstanceUID="", FrameOfReferenceUID="")
    origin = read_series(phantoms.save(slices, tmp_path / "a")).origin
    again = read_series(phantoms.save(slices[::-1], tmp_path / "b")).origin
    uids = {origin.series_instance_uid, origin.study_instance_uid, origin.frame_of_reference_uid}
    assert len(uids) == 3
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)
    assert again.series_instance_uid == origin.series_instance_uid
    assert len(origin.repairs) == 3
    assert origin.repairs[0].startswith(
        "Series Instance UID (0020,000E) is missing in every file; derived 2.25."
    )


@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID", "FrameOfReferenceUID"])
def test_slices_of_two_patients_studies_or_frames_are_refused_without_naming_them(tmp_path, keyword):
    slices = phantoms.ct_slices()
    setattr(slices[2], keyword, "9.9")
    with pytest.raises(InputError, match=r"differs from that of IM\d+, of the same series") as refused:
        read_series(phantoms.save(slices, tmp_path))
    assert "P-1" not in str(refused.value)
    assert "9.9" not in str(refused.value)


def test_the_log_tells_the_story_in_few_lines_and_names_no_patient(tmp_path, caplog):
    with caplog.at_level(logging.DEBUG):
        read_series(phantoms.save(phantoms.ct_slices(), tmp_path))
    ours = [r for r in caplog.records if r.name.startswith("dicom_reader") and r.levelno >= logging.INFO]
    assert 1 < len(ours) <= 5
    assert "read 5 slices of 16 x 20, spacing 2.500 x 0.800 x 0.600 mm" in caplog.text
    for identity in ("Doe", "P-1", "19500101", "A-1"):
        assert identity not in caplog.text


def test_the_command_writes_the_volume(tmp_path):
    folder = phantoms.save(phantoms.ct_slices(), tmp_path / "in")
    command = [
        sys.executable,
        "-m",
        "dicom_reader",
        "--input",
        str(folder),
        "--output",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == [f"{phantoms.SERIES}{suffix}" for suffix in (".json", ".mhd", ".raw")]
    volume = read_volume(tmp_path / "out" / f"{phantoms.SERIES}.mhd")
    assert np.array_equal(volume.array, phantoms.hounsfield())
    assert len(volume.origin.pixel_sha256) == 64


def test_the_command_ends_with_3_and_one_line_when_the_input_cannot_be_used(tmp_path):
    command = [
        sys.executable,
        "-m",
        "dicom_reader",
        "--input",
        str(tmp_path),
        "--output",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "no DICOM image in the input folder" in done.stderr


def expected_by_dcm2niix(real_data, name):
    """Return shape and affine, of [slice, row, column] in LPS, of dcm2niix (RAS, rows flipped)."""
    stored = json.loads((real_data / "ref/dcm2niix_expected.json").read_text())["volumes"]
    (entry,) = [v for key, v in stored.items() if name in key]
    affine = np.diag([-1, -1, 1, 1]) @ np.array(entry["affine"])
    rows = entry["shape"][1]
    affine[:3, 3] += affine[:3, 1] * (rows - 1)
    affine[:3, 1] *= -1
    return tuple(entry["shape"][::-1]), affine[:, [2, 1, 0, 3]]


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["totalseg/example_ct_dicom", "dcmqi/ct-3slice"])
def test_real_series_equal_what_simpleitk_reads(real_data, folder):
    sitk = pytest.importorskip("SimpleITK")
    volume = read_series(real_data / folder)
    files = {f.name: f for f in (real_data / folder).rglob("*") if f.is_file()}
    reader = sitk.ImageSeriesReader()
    by_uid = {}
    import pydicom

    for path in files.values():
        if b"DICM" in path.read_bytes()[128:132]:
            ds = pydicom.dcmread(path, stop_before_pixels=True)
            by_uid[str(ds.SOPInstanceUID or ds.file_meta.MediaStorageSOPInstanceUID)] = str(path)
    reader.SetFileNames([by_uid[s.sop_instance_uid] for s in volume.origin.slices])
    image = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(image), volume.array)
    last = [int(n) - 1 for n in volume.array.shape]
    there = image.TransformIndexToPhysicalPoint(last[::-1])
    assert points_at(volume.affine, last) == pytest.approx(np.array(there), abs=1e-3)


DCM2NIIX = {
    # volume of dcm2niix: folder, and how this reader compares: equal, or as docs/reference/geometry.md says
    "totalseg_example_ct_dicom/example_ct_dicom_0_CT_Body_3.0": ("totalseg/example_ct_dicom", "equal"),
    "dcmqi_ct-3slice/ct-3slice_2_": ("dcmqi/ct-3slice", "equal"),
    "dicom2nifti_failing_gantrytilting/gantrytilting_4__Tilt_1": (
        "dicom2nifti_failing/gantrytilting",
        "equal",
    ),
    "dicom2nifti_failing_gantrytilting/gantrytilting_4_": (
        "dicom2nifti_failing/gantrytilting",
        "its tilt is left in",
    ),
    "dcm_qa_ct_GE/dcm_qa_ct_GE_2_": ("dcm_qa_ct_GE", "its tilt is left in"),
    "dcm_qa_ct_GE/dcm_qa_ct_GE_2__Tilt_Eq_1": ("dcm_qa_ct_GE", "other spacing, axes at an angle"),
    "dicom2nifti_failing_sliceincrement/sliceincrement_2_": (
        "dicom2nifti_failing/sliceincrement",
        "a slice is missing",
    ),
    "dicom2nifti_failing_sliceincrement/sliceincrement_2__Eq_1": (
        "dicom2nifti_failing/sliceincrement",
        "a slice is missing",
    ),
}


@pytest.mark.real_data
def test_every_volume_of_dcm2niix_is_compared(real_data):
    stored = json.loads((real_data / "ref/dcm2niix_expected.json").read_text())["volumes"]
    assert {key.removesuffix(".nii.gz") for key in stored} == set(DCM2NIIX)


@pytest.mark.real_data
@pytest.mark.parametrize("name", DCM2NIIX)
def test_the_geometry_of_a_real_series_compares_with_dcm2niix_as_documented(real_data, name):
    folder, how = DCM2NIIX[name]
    if how == "a slice is missing":
        with pytest.raises(GeometryError, match="may be missing"):
            read_series(real_data / folder)
        return
    volume = read_series(real_data / folder)
    shape, affine = expected_by_dcm2niix(real_data, f"{name}.nii.gz")
    if how == "equal":
        assert volume.array.shape == shape
        assert volume.spacing == pytest.approx(np.linalg.norm(affine[:3, :3], axis=0), abs=2e-5)
        assert (
            np.abs(volume.affine - affine).max() < 3e-3
        )  # its spacing is rounded to 5 digits, over 520 rows
    else:
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        assert abs(float(axes[:, 0] @ axes[:, 1])) > 0.1  # slices and rows are not at right angles
        assert volume.origin.correction.kinds[0] == "gantry tilt"
        assert volume.array.shape[1:] == ((521 if "gantry" in name else 611), 512)


@pytest.mark.real_data
def test_a_real_series_with_a_missing_slice_is_refused(real_data):
    with pytest.raises(GeometryError, match=r"are 10\.00 mm apart, the rest of the series 5\.00 mm"):
        read_series(real_data / "dicom2nifti_failing/sliceincrement")


@pytest.mark.real_data
def test_every_transfer_syntax_with_a_decoder_gives_the_pixels_of_the_original(real_data):
    from dicom_reader.files.headers import read_header
    from dicom_reader.pixels.pixels import read_pixels

    folder = real_data / "transfer_syntaxes"
    original, _ = read_pixels([read_header(folder / "CTImage.dcm")])
    for name in ("BigEndian", "Deflated", "JPEG2000Lossless", "LittleEndianExplicit", "RLE"):
        (path,) = folder.glob(f"CTImage.dcm_{name}*")
        assert np.array_equal(read_pixels([read_header(path)])[0], original), name
