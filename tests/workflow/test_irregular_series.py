"""The reference workflow on real series that are tilted, unevenly spaced, or not whole."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest

from stages import find_volumes, read_volume
from tests.workflow.conftest import LIVER_SEG, ROOT, clara_wf

VALUES = ROOT / "clara-reference-workflows/charts/clara-workflow/values.yaml"
NO_ARGUMENTS = 'args: ["", "", ""]'

pytestmark = [pytest.mark.workflow, pytest.mark.triton, pytest.mark.real_data]


def chart_with(folder, *reader_arguments):
    """Write a chart whose dicom-reader has these arguments."""
    text = VALUES.read_text(encoding="utf-8")
    assert text.count(NO_ARGUMENTS) == 1
    path = folder / "values.yaml"
    path.write_text(text.replace(NO_ARGUMENTS, f'args: [{json.dumps(reader_arguments)}, "", ""]'))
    return path


@pytest.mark.parametrize(
    ("folder", "arguments", "kinds", "images"),
    [
        ("dcm_qa_ct_GE", (), ("gantry tilt", "uneven spacing"), 28),
        ("dicom2nifti_failing/gantrytilting", (), ("gantry tilt",), 4),
        ("dicom2nifti_failing/sliceincrement", ("--fill-missing", "1"), ("missing slices",), 4),
    ],
)
@pytest.mark.slow
def test_the_segmentation_refers_to_the_slices_as_acquired(
    tmp_path, real_data, dciodvfy_errors, folder, arguments, kinds, images
):
    places = ("--values", chart_with(tmp_path, *arguments), "--payloads", tmp_path / "payloads")
    done = clara_wf("test", LIVER_SEG, "--json", "--input", real_data / folder, *places)
    assert done.code == 0, done.err
    (path,) = map(Path, done.report["results"])
    assert dciodvfy_errors(path) == []
    (volume,) = find_volumes(Path(done.report["payload"]) / "ai-livertumor/output")
    mask = read_volume(volume)
    assert mask.origin.correction.kinds == kinds
    source = {}
    for file in (real_data / folder).rglob("*"):
        if file.is_file() and file.read_bytes()[128:132] == b"DICM":
            ds = pydicom.dcmread(file, stop_before_pixels=True)
            source[ds.SOPInstanceUID] = ds
    assert len(source) == images
    dataset = pydicom.dcmread(path)
    assert (dataset.Rows, dataset.Columns) == (512, 512)
    referenced = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {item.ReferencedSOPInstanceUID for item in referenced} == set(source)
    orientation = (
        dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    )
    for group in dataset.PerFrameFunctionalGroupsSequence:
        image = source[group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert np.allclose(orientation, image.ImageOrientationPatient)
        assert np.allclose(
            group.PlanePositionSequence[0].ImagePositionPatient, image.ImagePositionPatient, atol=1e-6
        )


def test_a_series_with_a_missing_slice_ends_with_3_and_says_which(tmp_path, real_data):
    folder = real_data / "dicom2nifti_failing/sliceincrement"
    done = clara_wf("test", LIVER_SEG, "--input", folder, "--payloads", tmp_path)
    assert done.code == 3
    assert "slices 3 and 4 (IM-0001-0009-0001.dcm, IM-0001-0010-0001.dcm) are 10.00 mm apart" in done.err
    assert "the rest of the series 5.00 mm; 1 slice(s) may be missing" in done.err
