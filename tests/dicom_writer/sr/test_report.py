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
from dicom_writer.kinds import kinds_named
from dicom_writer.sr.report import ReportResult
from dicom_writer.sr.verify import verify_report
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
    assert kinds_named("report") == ("seg", "report")


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
    assert [g.finding_sites[0].value for g in (liver, tumours, tumour)] == [codes.SCT.Liver] * 3


def test_no_outline_can_be_taken_for_a_rectangle_drawn_by_hand(files, empty):
    # OHIF offers to edit closed lines of four corners
    empty[2, 4:6, 6:8] = 2
    report = pydicom.dcmread(files(empty)[1])
    lines = [item for group in report.ContentSequence[-1].ContentSequence for item in group.ContentSequence]
    counts = [len(item.GraphicData) // 2 for item in lines if item.ValueType == "SCOORD"]
    assert counts == [6, 6, 6]


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


def regions(path):
    """Return per tracked thing the outlines in its groups: image, and corners as column and row."""
    found = {}
    content = hd.sr.srread(path).content
    for group in content.get_planar_roi_measurement_groups():
        (image,) = group.roi.ContentSequence
        where = (image.referenced_sop_instance_uid, sorted(map(tuple, group.roi.value.tolist())))
        found.setdefault(group.tracking_uid, []).append((group, *where))
    return found


def test_each_label_has_the_outline_of_the_slice_where_it_is_largest(files):
    # by hand: the liver has 13 pixels of 0.48 mm2 in slice 1 and 11 in slice 2, the tumour 4 in slice 2
    segmentation, path = files()
    liver, tumours = (regions(path)[s.TrackingUID] for s in pydicom.dcmread(segmentation).SegmentSequence)
    ((group, image, corners),) = liver
    assert (image, numbers(group)) == (phantoms.uid_of(1), {"Area": (6.24, "mm2")})
    assert (corners[0], corners[-1]) == ((4, 3), (9, 6))
    ((group, image, corners),) = tumours
    assert (image, numbers(group)) == (phantoms.uid_of(2), {"Area": (1.92, "mm2")})
    assert (corners[0], corners[-1]) == ((6, 4), (8, 6))


def test_of_several_pieces_in_a_slice_the_largest_is_outlined(files, empty):
    empty[3, 2:4, 2:4], empty[3, 6:9, 10:13], empty[3, 4, 4] = 1, 1, 1  # 4 pixels, 9, and one at a corner
    empty[3, 7, 11] = 0  # a hole
    segmentation, path = files(empty)
    ((group, image, corners),) = regions(path)[pydicom.dcmread(segmentation).SegmentSequence[0].TrackingUID]
    assert (image, numbers(group)) == (phantoms.uid_of(3), {"Area": (8 * 0.48, "mm2")})
    assert (corners[0], corners[-1]) == ((10, 6), (13, 9))


def test_an_absent_label_has_the_outline_of_an_image_that_was_examined(files, empty):
    empty[3, 2, 2] = 1
    segmentation, path = files(empty)
    ((group, image, corners),) = regions(path)[pydicom.dcmread(segmentation).SegmentSequence[1].TrackingUID]
    assert (image, numbers(group)) == (phantoms.uid_of(2), {"Area": (0.0, "mm2")})
    assert (corners[0], corners[-1]) == ((0, 0), (20, 16))
    assert "Absent" in [e.value.meaning for e in group.get_qualitative_evaluations()]


def test_every_thing_that_is_tracked_has_an_outline(files, empty):
    empty[1, 2:4, 2:4] = 2  # viewers show no report of which one thing has none
    report = pydicom.dcmread(files(empty)[1])
    drawn = {}
    for group in report.ContentSequence[-1].ContentSequence:
        kinds = {item.ValueType for item in group.ContentSequence}
        drawn.setdefault(child(group, "Tracking Unique Identifier").UID, set()).update(kinds)
    assert len(drawn) == 3
    assert all("SCOORD" in kinds for kinds in drawn.values())


def test_the_outlines_of_a_lesion_begin_where_it_was_measured(groups, empty):
    empty[1, 4:6, 4:6], empty[2, 4:10, 4:6], empty[3, 4, 4] = 2, 2, 2
    lesion = groups(empty)[-1]
    images = [region.ContentSequence[0].referenced_sop_instance_uid for region in lesion.roi]
    assert images == [phantoms.uid_of(2), phantoms.uid_of(1), phantoms.uid_of(3)]


def test_it_is_preliminary_and_unverified(files):
    report = pydicom.dcmread(files()[1])
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")


def test_equal_content_has_the_same_uids(groups):
    one, again, other = (
        [g.tracking_uid for g in groups(provenance=Provenance(algorithm_version=n))] for n in "112"
    )
    assert one == again
    assert not set(one) & set(other)


@pytest.mark.slow
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
    assert 'NUM:(,,"Number of lesions")="1" (1,UCUM,"no units")' in done.stdout
    assert dciodvfy_errors(path) == []
    assert dciodvfy_errors(segmentation) == []


def group_of(report, number):
    measurements = report.ContentSequence[-1]
    return measurements.ContentSequence[number]


def child(group, meaning):
    return next(c for c in group.ContentSequence if c.ConceptNameCodeSequence[0].CodeMeaning == meaning)


def another_volume(report):
    child(group_of(report, 4), "Volume").MeasuredValueSequence[0].NumericValue = "0.0049"


def another_length(report):
    child(group_of(report, 4), "Long Axis").MeasuredValueSequence[0].NumericValue = "2.1"


def another_number(report):
    child(group_of(report, 2), "Number of lesions").MeasuredValueSequence[0].NumericValue = "2"


def absent(report):
    child(group_of(report, 0), "Presence").ConceptCodeSequence[0].CodeValue = "272519000"


def another_segment(report):
    child(group_of(report, 0), "Referenced Segment").ReferencedSOPSequence[0].ReferencedSegmentNumber = 2


def another_area(report):
    child(group_of(report, 1), "Area").MeasuredValueSequence[0].NumericValue = "6.25"


def a_smaller_slice(report):
    image = child(group_of(report, 1), "Image Region").ContentSequence[0].ReferencedSOPSequence[0]
    image.ReferencedSOPInstanceUID = phantoms.uid_of(2)
    child(group_of(report, 1), "Area").MeasuredValueSequence[0].NumericValue = "4.32"


def a_shifted_section(report):
    region = child(group_of(report, 3), "Image Region")
    region.GraphicData = [v + 1 for v in region.GraphicData]
    child(group_of(report, 3), "Area").MeasuredValueSequence[0].NumericValue = "0.48"


def a_count_with_a_point(report):
    child(group_of(report, 2), "Number of lesions").MeasuredValueSequence[0].NumericValue = "1.0"


def another_outline(report):
    region = child(group_of(report, 4), "Image Region")
    region.GraphicData = [v + 1 for v in region.GraphicData]


def another_image(report):
    image = child(group_of(report, 4), "Image Region").ContentSequence[0].ReferencedSOPSequence[0]
    image.ReferencedSOPInstanceUID = phantoms.uid_of(1)


def one_group_less(report):
    del report.ContentSequence[-1].ContentSequence[4]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (another_volume, "the volume of Liver tumour 1 is 0.0049 ml in the report, expected 0.0048 ml"),
        (another_length, "the longest diameter of Liver tumour 1 is 2.1 mm in the report, expected 2 mm"),
        (another_number, r"counts \['2'\] of Liver tumour, expected \['1'\]"),
        (a_count_with_a_point, r"counts \['1.0'\] of Liver tumour, expected \['1'\]"),
        (another_area, "the largest area of Liver is 6.25 mm2 in the report, expected 6.24 mm2"),
        (a_smaller_slice, "the outline of Liver in the report is on slice 3, where it is not largest"),
        (a_shifted_section, "the outline of Liver tumour in the report is not that of its largest piece"),
        (absent, "says that Liver is absent"),
        (another_segment, "does not refer to segment 1 for Liver"),
        (another_outline, "6 pixels in slice 3 of the outlines of Liver tumour"),
        (another_image, "4 pixels in slice 2 of the outlines of Liver tumour"),
        (one_group_less, "has 4 groups, expected 5"),
    ],
)
def test_a_report_that_was_changed_is_refused(result_request, tmp_path, damage, message):
    what = result_request(results=["seg", "report"])
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
