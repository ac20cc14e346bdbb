"""The Structured Report, TID 1500."""

import logging
import shutil
import subprocess

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from dicom_writer import Provenance, write_results
from dicom_writer.report import ReportResult
from dicom_writer.results import results_named
from dicom_writer.verify_report import verify_report
from stages import OutputError
from tests import phantoms
from tests.dicom_writer.test_corrected import CASES, mask_on, series


@pytest.fixture
def files(source, tmp_path):
    """Return what writes a mask as segmentation and report and gives their paths."""

    def write(array=None, **how):
        return write_results(phantoms.mask(array), source, tmp_path / "out", results=["report"], **how)

    return write


@pytest.fixture
def groups(files):
    """Return what writes a report and gives its groups of measurements, read by highdicom."""

    def read(array=None, **how):
        report = hd.sr.srread(files(array, **how)[1])
        return report.content.get_volumetric_roi_measurement_groups()

    return read


def numbers(group):
    return {m.name.meaning: (float(m.value), m.unit.value) for m in group.get_measurements()}


def test_a_report_brings_the_segmentation_that_it_refers_to(files, caplog):
    caplog.set_level(logging.INFO)
    segmentation, report = files()
    assert segmentation.name.endswith(".seg.dcm")
    assert report.name.endswith(".report.dcm")
    assert "the result seg is written as well" in caplog.text
    assert results_named("report") == ("seg", "report")


def test_highdicom_reads_volume_number_and_diameter(groups):
    # by hand: 24 and 4 voxels of 1.2 mm3; the tumour has 2 x 2 pixels of 0.8 x 0.6 mm
    liver, tumours, tumour = groups()
    assert numbers(liver) == {"Volume": (0.0288, "mL")}
    assert numbers(tumours) == {"Volume": (0.0048, "mL"), "Number of lesions": (1.0, "1")}
    assert numbers(tumour) == {"Volume": (0.0048, "mL"), "Long Axis": (2.0, "mm")}
    assert [g.tracking_identifier for g in (liver, tumours, tumour)] == [
        "Liver", "Liver tumour", "Liver tumour 1",
    ]  # fmt: skip
    assert tumour.finding_type == codes.SCT.Neoplasm
    assert tumour.finding_sites[0].value == codes.SCT.Liver


def test_labels_refer_to_their_segments_and_lesions_to_the_images(files):
    segmentation, path = files()
    liver, tumours, tumour = hd.sr.srread(path).content.get_volumetric_roi_measurement_groups()
    written = pydicom.dcmread(segmentation)
    for number, group in enumerate((liver, tumours), start=1):
        segment = group.referenced_segment
        assert segment.referenced_sop_instance_uid == written.SOPInstanceUID
        assert segment.referenced_segment_numbers == [number]
        assert group.tracking_uid == written.SegmentSequence[number - 1].TrackingUID
    (region,) = tumour.roi
    (image,) = region.ContentSequence
    assert image.referenced_sop_instance_uid == phantoms.uid_of(2)
    corners = sorted(map(tuple, region.value))
    assert corners[0] == (6, 4)  # column, row; the outer corner of the first pixel is (0, 0)
    assert corners[-1] == (8, 6)


def test_evidence_names_all_images_and_the_segmentation(files):
    segmentation, path = files()
    (study,) = pydicom.dcmread(path).CurrentRequestedProcedureEvidenceSequence
    images, made = study.ReferencedSeriesSequence
    assert study.StudyInstanceUID == phantoms.STUDY
    assert images.SeriesInstanceUID == phantoms.SERIES
    assert [i.ReferencedSOPInstanceUID for i in images.ReferencedSOPSequence] == [
        phantoms.uid_of(n) for n in range(5)
    ]
    assert (
        made.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == pydicom.dcmread(segmentation).SOPInstanceUID
    )


def test_an_empty_mask_is_reported_as_examined_and_absent(files, empty):
    _, path = files(empty)
    liver, tumours = hd.sr.srread(path).content.get_volumetric_roi_measurement_groups()
    assert numbers(liver) == {"Volume": (0.0, "mL")}
    assert numbers(tumours) == {"Volume": (0.0, "mL"), "Number of lesions": (0.0, "1")}
    for group in (liver, tumours):
        said = {e.name.meaning: e.value.value for e in group.get_qualitative_evaluations()}
        assert said["Presence"] == "272519000"
    assert pydicom.dcmread(path).SeriesDescription == "AI report: No liver or liver tumour found"


def test_it_is_preliminary_and_unverified(files):
    report = pydicom.dcmread(files()[1])
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")


def test_equal_content_has_the_same_uids(groups):
    one, again, other = (
        [g.tracking_uid for g in groups(provenance=Provenance(algorithm_version=n))] for n in "112"
    )
    assert one == again
    assert not set(one) & set(other)


def test_more_lesions_than_are_listed_are_counted(groups, empty, caplog):
    empty[::2, ::2, ::2] = 2  # 3 x 8 x 10
    found = groups(empty)
    assert numbers(found[1])["Number of lesions"] == (240.0, "1")
    assert len(found) == 2 + 100
    assert "counts 240 of Liver tumour and lists the 100 largest" in caplog.text


def test_dsrdump_reads_it(files, dciodvfy_errors):
    if shutil.which("dsrdump") is None:
        pytest.skip("dsrdump (DCMTK) is not installed")
    segmentation, path = files()
    done = subprocess.run(["dsrdump", str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'NUM:(,,"Long Axis")="2.0" (mm,UCUM,"mm")' in done.stdout
    assert 'NUM:(,,"Number of lesions")="1.0" (1,UCUM,"no units")' in done.stdout
    assert dciodvfy_errors(path) == []
    assert dciodvfy_errors(segmentation) == []


def group_of(report, number):
    measurements = report.ContentSequence[-1]
    return measurements.ContentSequence[number]


def child(group, meaning):
    return next(c for c in group.ContentSequence if c.ConceptNameCodeSequence[0].CodeMeaning == meaning)


def another_volume(report):
    child(group_of(report, 2), "Volume").MeasuredValueSequence[0].NumericValue = "0.0049"


def another_length(report):
    child(group_of(report, 2), "Long Axis").MeasuredValueSequence[0].NumericValue = "2.1"


def another_number(report):
    child(group_of(report, 1), "Number of lesions").MeasuredValueSequence[0].NumericValue = "2"


def absent(report):
    child(group_of(report, 0), "Presence").ConceptCodeSequence[0].CodeValue = "272519000"


def another_segment(report):
    child(group_of(report, 0), "Referenced Segment").ReferencedSOPSequence[0].ReferencedSegmentNumber = 2


def another_outline(report):
    region = child(group_of(report, 2), "Image Region")
    region.GraphicData = [v + 1 for v in region.GraphicData]


def another_image(report):
    image = child(group_of(report, 2), "Image Region").ContentSequence[0].ReferencedSOPSequence[0]
    image.ReferencedSOPInstanceUID = phantoms.uid_of(1)


def one_group_less(report):
    del report.ContentSequence[-1].ContentSequence[2]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (another_volume, "the volume of Liver tumour 1 is 0.0049 ml in the report, expected 0.0048 ml"),
        (another_length, "the longest diameter of Liver tumour 1 is 2.1 mm in the report, expected 2 mm"),
        (another_number, r"counts \[2\] of Liver tumour, expected \[1\]"),
        (absent, "says that Liver is absent"),
        (another_segment, "does not refer to segment 1 for Liver"),
        (another_outline, "6 pixels in slice 3 of the outlines of Liver tumour"),
        (another_image, "4 pixels in slice 2 of the outlines of Liver tumour"),
        (one_group_less, "has 2 groups, expected 3"),
    ],
)
def test_a_report_that_was_changed_is_refused(given, tmp_path, damage, message):
    what = given(results=["seg", "report"])
    (path,) = ReportResult().make(what, tmp_path)
    report = pydicom.dcmread(path)
    damage(report)
    report.save_as(path)
    with pytest.raises(OutputError, match=message):
        verify_report(path, what)


@pytest.mark.parametrize("case", CASES)
def test_lesions_of_a_corrected_series_lie_on_the_slices_as_acquired(tmp_path, dciodvfy_errors, case):
    source = series(tmp_path / "source", **CASES[case])
    mask = mask_on(source, tmp_path)
    _, path = write_results(mask, source, tmp_path / "out", results=["report"])
    tumour = hd.sr.srread(path).content.get_volumetric_roi_measurement_groups()[2]
    uids = {ds.SOPInstanceUID for ds in map(pydicom.dcmread, source.rglob("IM*"))}
    assert {region.ContentSequence[0].referenced_sop_instance_uid for region in tumour.roi} < uids
    meant_ml = np.count_nonzero(mask.array == 2) * mask.voxel_volume_mm3 / 1000
    assert numbers(tumour)["Volume"][0] == pytest.approx(meant_ml, rel=0.15)
    assert dciodvfy_errors(path) == []
