"""The road, mask to verified file."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_writer import write_results
from dicom_writer.mask.measure import Measurement
from dicom_writer.wording import summary
from stages import InputError, OutputError, SettingsError, find_volumes, read_volume, write_volume
from stages.volume.labels_file import write_labels
from tests import phantoms
from tests.phantoms import LABELS

ROOT = Path(__file__).parents[2]


def test_the_file_is_named_after_the_source_series(written, tmp_path):
    assert written() == tmp_path / "out" / "1.2.3.2.seg.dcm"
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["1.2.3.2.seg.dcm"]


def test_a_kind_that_there_is_not_is_refused_by_its_name(tmp_path):
    with pytest.raises(SettingsError, match="there is no result 'segs'; choose from seg,"):
        write_results(phantoms.mask(), tmp_path, tmp_path / "out", results=["seg", "segs"])
    assert not (tmp_path / "out").exists()


def test_volumes_are_logged_and_the_patient_is_not(written, caplog):
    with caplog.at_level("INFO"):
        written()
    assert "Liver and liver tumour: Liver 0.029 ml, Liver tumour 0.0048 ml" in caplog.text
    assert "verified each file against the mask" in caplog.text
    assert "Doe" not in caplog.text


def test_an_empty_mask_gives_a_valid_object_that_says_so(written, empty, caplog):
    with caplog.at_level("INFO"):
        path = written(empty)
    dataset = pydicom.dcmread(path)
    assert dataset.ContentDescription == "No liver or liver tumour found"
    assert dataset.SeriesDescription == "AI segmentation: No liver or liver tumour found"
    assert [s.SegmentLabel for s in dataset.SegmentSequence] == ["Liver", "Liver tumour"]
    assert not phantoms.read_back(path).any()
    assert "No liver or liver tumour found: Liver 0.0 ml" in caplog.text


def test_a_liver_without_tumour_is_described_as_that(written):
    array = phantoms.labels()
    array[array == 2] = 1
    path = written(array)
    dataset = pydicom.dcmread(path)
    assert dataset.ContentDescription == "Liver, no liver tumour found"
    assert len(dataset.SegmentSequence) == 2
    assert np.array_equal(phantoms.read_back(path), array)


@pytest.mark.parametrize("count", [2, 30])
@pytest.mark.parametrize("there", [0, 1, 2])
def test_findings_fit_into_a_series_description(count, there):
    labels = [replace(LABELS[0], value=n + 1, name=f"Segment {n}") for n in range(count)]
    measured = {n + 1: Measurement(float(n < there), None) for n in range(count)}
    assert len("AI segmentation: " + summary(labels, measured)) <= 64


def test_an_unknown_label_is_refused(written):
    array = phantoms.labels()
    array[0, 0, 0] = 3
    with pytest.raises(
        InputError, match=r"holds values \[3\], known are \[0, 1, 2\], .*name the others there"
    ):
        written(array)


def test_a_mask_of_fractions_is_refused(written):
    with pytest.raises(InputError, match="a mask holds integers, this one float32"):
        written(phantoms.labels().astype(np.float32))


def test_nothing_is_left_when_verification_fails(written, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OutputError("it differs")

    monkeypatch.setattr("dicom_writer.seg.verify.verify_segmentation", refuse)
    with pytest.raises(OutputError, match="it differs"):
        written()
    assert list((tmp_path / "out").iterdir()) == []


def test_an_output_folder_that_cannot_be_written_is_named(source, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write results to .*file"):
        write_results(phantoms.mask(), source, tmp_path / "file")


def run(module, *arguments):
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_command_writes_a_verified_file(source, tmp_path):
    write_volume(phantoms.mask(), tmp_path / "mask")
    done = run("dicom_writer", "--input", tmp_path / "mask", "--source", source, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(phantoms.read_back(tmp_path / "out/1.2.3.2.seg.dcm"), phantoms.labels())


@pytest.mark.slow
def test_the_command_refuses_a_mask_that_says_nothing_unless_a_file_says_it(source, tmp_path):
    write_volume(phantoms.mask(), tmp_path / "mask", with_origin=False)
    folders = ("--input", tmp_path / "mask", "--source", source, "--output", tmp_path / "out")
    done = run("dicom_writer", *folders)
    assert done.returncode == 3
    assert "nobody said what the labels of the mask mean" in done.stderr
    done = run("dicom_writer", *folders, "--labels", write_labels(phantoms.LABELS, tmp_path, "mine"))
    assert done.returncode == 0, done.stderr


def test_the_command_ends_with_3_when_the_source_is_another_one(tmp_path):
    write_volume(phantoms.mask(), tmp_path / "mask")
    other = phantoms.save(phantoms.ct_slices(series="1.9"), tmp_path / "source")
    done = run("dicom_writer", "--input", tmp_path / "mask", "--source", other, "--output", tmp_path / "out")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "meta_only"), [("totalseg/example_ct_dicom", True), ("dcmqi/ct-3slice", False)]
)
@pytest.mark.slow
def test_real_series_end_to_end(real_data, tmp_path, dciodvfy_errors, folder, meta_only):
    import highdicom as hd

    assert run("dicom_reader", "--input", real_data / folder, "--output", tmp_path / "ct").returncode == 0
    (path,) = find_volumes(tmp_path / "ct")
    ct = read_volume(path)
    array = np.zeros(ct.array.shape, np.uint8)
    array[1:, 150:300, 100:250] = 1
    array[1, 200:210, 120:140] = 2
    write_volume(phantoms.drawn_on(ct, array), tmp_path / "mask")
    done = run(
        *("dicom_writer", "--input", tmp_path / "mask"),
        *("--source", real_data / folder, "--output", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "out").iterdir()
    assert dciodvfy_errors(written) == []
    volume = hd.seg.segread(written).get_volume(combine_segments=True)
    grid = hd.VolumeGeometry(ct.affine, array.shape, coordinate_system="PATIENT")
    assert np.array_equal(volume.match_geometry(grid).array, array)
    referenced = pydicom.dcmread(written).ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert len(referenced) == len(array)
