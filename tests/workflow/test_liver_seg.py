"""The reference workflow, from a DICOM series to a verified DICOM segmentation."""

import re
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from PIL import Image

from stages import Volume, find_volumes, read_volume
from tests.workflow.conftest import LIVER_SEG, clara_wf

pytestmark = [pytest.mark.workflow, pytest.mark.triton]

STAGES = ["dicom-reader", "ai-livertumor", "dicom-writer"]


@pytest.fixture(scope="module")
def mask(main_job) -> Volume:
    return read_volume(find_volumes(main_job.payload / "ai-livertumor/output")[0])


@pytest.fixture(scope="module")
def segmentation(main_job) -> Path:
    (path,) = map(Path, main_job.report["results"])
    return path


def test_every_stage_of_the_main_job_is_done(main_job):
    assert [(s["name"], s["state"]) for s in main_job.report["stages"]] == [(name, "done") for name in STAGES]
    assert all(s["peak_memory_bytes"] > 20e6 for s in main_job.report["stages"])


def test_the_phantoms_liver_and_tumours_are_found(main_job):
    liver, tumour = main_job.report["findings"]
    assert 800 < liver["volume_ml"] < 2500
    assert liver["dice"] > 0.95
    assert tumour["dice"] > 0.6


def test_the_readme_shows_what_the_main_job_finds(main_job):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for finding in main_job.report["findings"]:
        line = re.search(rf"^ +{finding['name']} +([\d.]+) ml +Dice ([\d.]+)", readme, re.MULTILINE)
        volume, dice = line.groups()
        assert finding["volume_ml"] == pytest.approx(float(volume), rel=0.01)
        assert finding["dice"] == pytest.approx(float(dice), abs=0.005)
    shown = dict(re.findall(r"^ +([\w-]+) +done +[\d.]+ s +(\d+) MiB", readme, re.MULTILINE))
    assert list(shown) == STAGES
    for stage in main_job.report["stages"]:
        assert stage["peak_memory_bytes"] / 2**20 == pytest.approx(float(shown[stage["name"]]), rel=0.35)


def test_highdicom_gives_back_the_mask_voxel_by_voxel(segmentation, mask):
    volume = highdicom.seg.segread(segmentation).get_volume(combine_segments=True)
    same_grid = volume.match_geometry(
        highdicom.VolumeGeometry(mask.affine, mask.array.shape, coordinate_system="PATIENT")
    )
    assert np.array_equal(same_grid.array, mask.array)


def test_pydicom_gives_back_the_mask_voxel_by_voxel(segmentation, mask):
    dataset = pydicom.dcmread(segmentation)
    slices = {s.sop_instance_uid: n for n, s in enumerate(mask.origin.slices)}
    found = np.zeros(mask.array.shape, dtype=np.uint8)
    for frame, groups in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        label = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[slices[source]][frame > 0] = label
    assert np.array_equal(found, mask.array)


def test_every_source_instance_is_referenced(main_job, segmentation):
    source = {
        pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID
        for path in (main_job.payload / "dicom-reader/input").iterdir()
    }
    series = pydicom.dcmread(segmentation).ReferencedSeriesSequence[0]
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == source


def test_the_picture_shows_three_planes(main_job):
    picture = np.asarray(Image.open(main_job.report["picture"]))
    assert picture.shape[1] == 2 * 512 + 8
    liver = main_job.report["findings"][0]["rgb"]
    outline = (np.abs(picture.astype(int) - liver) < 12).all(axis=2)
    assert outline[:, :512].sum() < 500  # the legend only
    assert outline[:, 520:].sum() > 500


@pytest.mark.slow
def test_a_finished_job_is_not_run_again(main_job):
    again = clara_wf("test", LIVER_SEG, "--json", "--payloads", main_job.payload.parent)
    assert [s["state"] for s in again.report["stages"]] == ["kept", "kept", "kept"]
    assert again.report["findings"] == main_job.report["findings"]


def test_dciodvfy_finds_no_error(segmentation, dciodvfy_errors):
    assert dciodvfy_errors(segmentation) == []


@pytest.mark.real_data
@pytest.mark.slow
def test_a_real_scan_gives_a_valid_segmentation_and_prints_its_dice(
    tmp_path, real_ct, dciodvfy_errors, capsys
):
    done = clara_wf("test", LIVER_SEG, "--json", "--input", real_ct.folder, "--payloads", tmp_path)
    assert done.code == 0, done.err
    (segmentation,) = done.report["results"]
    assert dciodvfy_errors(Path(segmentation)) == []
    found = read_volume(find_volumes(Path(done.report["payload"]) / "ai-livertumor/output")[0])
    dice = real_ct.liver_dice(found)
    with capsys.disabled():
        print(f"\nliver Dice on the TotalSegmentator example CT (Siemens, 20 slices): {dice:.3f}")  # noqa: T201
    assert 0 <= dice <= 1
    assert found.array.shape == (20, 512, 512)
