"""The page of a job as text: what it tells, and what it must not."""

import dataclasses
import json
import os
import re

import numpy as np
import pytest

from clara_wf.engines.engine import Outcome
from clara_wf.report.job_report import make_report
from clara_wf.report.measure import compare
from clara_wf.report.page import readable_size, render, write_page
from clara_wf.report.viewer import make_viewer
from stages.volume.io import write_volume
from stages.volume.labels_file import write_labels
from stages.volume.origin import Origin
from stages.volume.volume import Volume
from stages.volume.wording import NOTICE
from tests.finished_job import OTHER_SERIES, SERIES, ct_and_mask, finished_job
from tests.phantoms import LABELS


def text_of(page):
    """Return what a reader sees of a page without scripts."""
    body = re.sub(r"<(script|style|noscript)\b.*?</\1>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_it_tells_workflow_engine_model_and_versions(tmp_path):
    text = text_of(render(finished_job(tmp_path)))
    for told in ("liver-seg", "Succeeded", "job-1", "2026-03-04 12:00:00 UTC", "10.2 s", "process"):
        assert told in text
    assert "small_liver, version 3" in text
    assert NOTICE in text


def test_it_tells_the_image_of_each_stage_with_its_digest(tmp_path):
    job = finished_job(tmp_path)
    outcome = dataclasses.replace(job.outcome, images={"ai-livertumor": "clara/ai:1@sha256:0a1b"})
    text = text_of(render(dataclasses.replace(job, outcome=outcome)))
    assert "ai-livertumor clara/ai:1 done" in text
    assert "clara/ai:1@sha256:0a1b" in text


def test_it_tells_volumes_and_how_far_they_agree_with_the_truth(tmp_path):
    job = finished_job(tmp_path)
    assert "Dice" not in text_of(render(job)).replace("Volumes and Dice are", "")
    found = [dataclasses.replace(f, dice=dice) for f, dice in zip(job.findings, (0.9, None), strict=True)]
    text = text_of(render(dataclasses.replace(job, findings=found)))
    liver_ml = (10 * 30 * 25 - 2 * 6 * 6) * 0.02  # voxels of 5 x 2 x 2 mm
    assert f"Liver {liver_ml:.1f} ml 0.900" in text
    assert "Liver tumour 1.4 ml –" in text


def test_it_tells_which_series_was_chosen_and_why_the_other_was_not(tmp_path):
    text = text_of(render(finished_job(tmp_path)))
    assert "chosen: 20 axial CT slices" in text
    assert "not chosen, fewer slices: 3 axial CT slices" in text
    assert "20 slices of 50 × 60" in text
    assert "5.000 mm between slices, 2.000 × 2.000 mm within" in text
    assert "spacing made even" in text


def test_of_a_series_that_is_several_volumes_it_marks_the_one_that_was_read(tmp_path):
    job = finished_job(tmp_path)
    selection = {f"{SERIES}_phase-1": "not chosen, fewer slices", f"{SERIES}_phase-2": "chosen"}
    origin = dataclasses.replace(job.image.origin, part="phase-2", selection=selection)
    page = render(dataclasses.replace(job, image=dataclasses.replace(job.image, origin=origin)))
    (marked,) = re.findall(r'<tr class="chosen">.*?</tr>', page)
    assert text_of(marked).endswith("1.2.826…1.2.3_phase-2 chosen ")


def test_it_tells_which_stage_failed_and_why(tmp_path):
    lines = [f"2026-03-04T12:00:01Z INFO a: line {n}" for n in range(30)]
    job = finished_job(tmp_path, failed="dicom-reader", message="a slice may be missing", log_lines=lines)
    text = text_of(render(job))
    assert "dicom-reader failed a slice may be missing Exit code 3: the input data cannot be used" in text
    assert "INFO a: line 29" in text
    assert "INFO a: line 9 " not in text
    assert "Slices" not in text


def test_a_warning_is_told_and_what_is_told_elsewhere_is_not_told_again(tmp_path):
    lines = [
        "2026-03-04T12:00:01Z WARNING dicom_reader: two pixels were clipped",
        "2026-03-04T12:00:02Z WARNING dicom_reader: spacing made even",
    ]
    text = text_of(render(finished_job(tmp_path, log_lines=lines)))
    assert text.count("two pixels were clipped") == 1
    assert text.count("spacing made even") == 1
    assert "2 to note" in text


def test_warnings_of_the_volumes_come_before_the_findings_with_their_number(tmp_path):
    line = "2026-03-04T12:00:01Z WARNING dicom_reader: slices may be missing"
    job = finished_job(tmp_path, log_lines=[line])
    image, mask = (
        dataclasses.replace(volume, origin=dataclasses.replace(volume.origin, warnings=told))
        for volume, told in (
            (job.image, ("slices may be missing",)),
            (job.mask, ("slices may be missing", "a liver of 28.8 ml is not plausible")),
        )
    )
    text = text_of(render(dataclasses.replace(job, image=image, mask=mask)))
    assert "2 warnings slices may be missing a liver of 28.8 ml is not plausible What was found" in text
    assert text.count("slices may be missing") == 1


def test_the_files_of_the_result_are_one_row_until_it_is_unfolded(tmp_path):
    page = render(finished_job(tmp_path, results=[f"{n}.dcm" for n in range(84)]))
    (folded,) = re.findall(r'<details class="files">.*?</details>', page, flags=re.S)
    assert text_of(folded).startswith(" 84 files, 168.0 KiB File")
    assert "dicom-writer/output/83.dcm" in folded


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("a\x1b]0;title\x07", r"a\x1b]0;title\x07"),
        ("a\u202efdp.exe", r"a\u202efdp.exe"),
        ("a\nb", r"a\nb"),
    ],
)
def test_what_a_screen_would_obey_is_escaped_in_names_logs_and_messages(tmp_path, name, shown):
    succeeded = finished_job(
        tmp_path / "one", results=[name], log_lines=["2026-03-04T12:00:01Z WARNING a: \x1b[2J\x00"]
    )
    failed = finished_job(tmp_path / "two", failed="dicom-reader", message=f"cannot read {name}\x1b[2J")
    page = write_page(succeeded, tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"<code>dicom-writer/output/{shown}</code>" in page
    assert r"\x1b[2J\x00" in page
    page += write_page(failed, tmp_path / "page.html").read_text(encoding="utf-8")
    assert r"\x1b[2J</p>" in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", page)


def test_a_message_of_several_lines_keeps_them(tmp_path):
    page = render(finished_job(tmp_path, failed="dicom-reader", message="two mistakes:\n\tone\n\ttwo"))
    assert "two mistakes:\n\tone\n\ttwo</p>" in page


def test_a_name_of_many_words_may_break_between_them(tmp_path, monkeypatch):
    def named(image, mask, findings):
        viewer = make_viewer(image, mask, findings)
        return dataclasses.replace(
            viewer, labels=[dataclasses.replace(row, name="lobe_<of>_lung") for row in viewer.labels]
        )

    monkeypatch.setattr("clara_wf.report.page.make_viewer", named)
    assert "lobe_<wbr>&lt;of&gt;_<wbr>lung</th>" in render(finished_job(tmp_path))


HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>'\"&{{ 7*7 }}"


def test_text_of_others_is_shown_as_it_is_and_never_run(tmp_path):
    name = HOSTILE.replace("/", "_") + ".dcm"
    warned = f"2026-03-04T12:00:01Z WARNING dicom_reader: {HOSTILE}"
    succeeded = finished_job(tmp_path / "one", log_lines=[warned], results=[name])
    failed = finished_job(tmp_path / "two", failed="dicom-reader", message=HOSTILE, log_lines=[warned])
    for page in map(render, (succeeded, failed)):
        assert "<img" not in page
        assert page.count("<script") == page.count("</script>")
        assert "<script>alert" not in page
        assert "{{ 7*7 }}" in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_a_label_named_by_nobody_is_shown_too(tmp_path):
    job = finished_job(tmp_path)
    array = job.mask.array.copy()
    array[0, 0, :5] = 9
    mask = job.mask.with_array(array)
    found = compare(mask, LABELS, [9])
    text = text_of(render(dataclasses.replace(job, mask=mask, findings=found)))
    assert "label 9 0.1 ml" in text


def test_no_full_uid_stands_on_the_page(tmp_path):
    message = f"series {SERIES} is odd"
    log = [f"2026-03-04T12:00:01Z WARNING a: {message}"]
    succeeded = finished_job(tmp_path / "one", log_lines=log, results=[f"{SERIES}.seg.dcm"])
    failed = finished_job(tmp_path / "two", failed="dicom-reader", message=message, log_lines=log)
    for page in map(render, (succeeded, failed)):
        assert SERIES not in page
        assert OTHER_SERIES not in page
        assert "1.2.826…1.2.3" in page


def test_the_policy_lets_nothing_be_fetched_and_only_the_pages_own_script_run(tmp_path):
    page = render(finished_job(tmp_path))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"https?://(?!www\.w3\.org)", page)


def test_a_volume_without_mask_is_shown_too(tmp_path):
    page = render(dataclasses.replace(finished_job(tmp_path), mask=None))
    setup = json.loads(re.search(r'id="setup">(.*?)</script>', page)[1])
    assert (setup["mask"], setup["meshes"], setup["labels"]) == (None, [], [])
    assert "What was found" not in page


def test_a_mask_that_is_empty_is_told(tmp_path):
    job = finished_job(tmp_path)
    empty = job.mask.with_array(np.zeros_like(job.mask.array))
    job = dataclasses.replace(job, mask=empty, findings=compare(empty, LABELS))
    assert text_of(render(job)).count("none found") == 2


def test_a_page_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    job, path = finished_job(tmp_path), tmp_path / "report.html"

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_page(job, path)
    assert list(tmp_path.glob("*report*")) + list(tmp_path.glob(".*report*")) == []


def report_on(job: Outcome, tmp_path):
    return make_report(job.workflow, job.payload, job.outcome, seconds=1.0, truth_dir=tmp_path)


def test_a_job_gets_its_page_beside_its_report(tmp_path):
    job = finished_job(tmp_path)
    for volume, stage in zip(ct_and_mask(), ("dicom-reader", "ai-livertumor"), strict=True):
        write_volume(volume, job.payload.folder(f"{stage}/output"))
    report = report_on(job, tmp_path)
    assert report.page == str(job.payload.publish_dir / "report.html")
    assert 'id="image-data"' in (job.payload.publish_dir / "report.html").read_text()


def test_the_report_as_json_has_the_warnings_and_can_be_read_by_anybody(tmp_path):
    name = os.fsdecode(b"caf\xe9.dcm")
    job = finished_job(tmp_path, results=[name, "a\x1b.dcm"])
    image, _ = ct_and_mask(origin=Origin(series_instance_uid=SERIES, warnings=("slices may be missing",)))
    write_volume(image, job.payload.folder("dicom-reader/output"))
    report_on(job, tmp_path)
    report = json.loads((job.payload.publish_dir / "report.json").read_text())
    assert report["warnings"] == ["slices may be missing"]
    names = [path.rpartition("/")[2] for path in report["results"]]
    assert sorted(names) == ["a\x1b.dcm", r"caf\xe9.dcm"]


def test_a_volume_that_the_job_was_given_is_shown_where_no_stage_makes_one(tmp_path):
    job = finished_job(tmp_path)
    ai = job.workflow.steps[1]
    workflow = dataclasses.replace(job.workflow, steps=(ai,), input_folder="ai-livertumor/input")
    statuses = (job.outcome.statuses[1],)
    for volume, folder in zip(ct_and_mask(), ("ai-livertumor/input", ai.output_folder), strict=True):
        write_volume(volume, job.payload.folder(folder))
    outcome = dataclasses.replace(job.outcome, statuses=statuses)
    report = report_on(dataclasses.replace(job, workflow=workflow, outcome=outcome), tmp_path)
    assert [finding.volume_ml for finding in report.findings] == [148.56, 1.44]
    assert 'id="mask-data"' in (job.payload.publish_dir / "report.html").read_text()


def test_what_a_failed_stage_left_is_not_shown(tmp_path):
    job = finished_job(tmp_path, failed="ai-livertumor", message="no memory")
    for volume, stage in zip(ct_and_mask(), ("dicom-reader", "ai-livertumor"), strict=True):
        write_volume(volume, job.payload.folder(f"{stage}/output"))
    report = report_on(job, tmp_path)
    page = (job.payload.publish_dir / "report.html").read_text()
    assert not report.succeeded
    assert 'id="image-data"' in page
    assert 'id="mask-data"' not in page


def test_of_a_job_whose_writer_failed_the_page_shows_what_was_found_until_then(tmp_path):
    job = finished_job(tmp_path, failed="dicom-writer", message="no space is left")
    for volume, stage in zip(ct_and_mask(), ("dicom-reader", "ai-livertumor"), strict=True):
        write_volume(volume, job.payload.folder(f"{stage}/output"))
    report = report_on(job, tmp_path)
    text = text_of((job.payload.publish_dir / "report.html").read_text())
    assert "this is what it had found by then" in text
    assert "1.4 ml" in text
    assert (report.findings, report.picture) == ([], None)


def test_a_page_that_cannot_be_drawn_is_said_and_takes_nothing_from_the_result(tmp_path, caplog, monkeypatch):
    job = finished_job(tmp_path)
    (job.payload.publish_dir / "report.html").write_text("of an earlier run")
    monkeypatch.setattr("clara_wf.report.page._own_file", lambda name: "{{ unknown }}")
    report = report_on(job, tmp_path)
    assert report.succeeded
    assert report.page is None
    assert "could not be drawn" in caplog.text
    assert not (job.payload.publish_dir / "report.html").exists()


def test_an_oblique_series_is_told(tmp_path):
    job = finished_job(tmp_path)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    oblique = Volume(array=job.image.array, affine=turn @ job.image.affine, origin=job.image.origin)
    text = text_of(render(dataclasses.replace(job, image=oblique, mask=None)))
    assert "11.5° from the patient's axes" in text.replace("&#39;", "'")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (2048, "2.0 KiB"), (5 * 2**30, "5.0 GiB")]
)
def test_sizes_are_readable(size, text):
    assert readable_size(size) == text


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_a_mask_is_shown_whatever_integers_hold_it(tmp_path, dtype):
    job = finished_job(tmp_path)
    write_volume(job.image, job.payload.folder("dicom-reader/output"))
    mask = job.mask.with_array(job.mask.array.astype(dtype))
    write_volume(mask, job.payload.folder("ai-livertumor/output"))
    report = make_report(job.workflow, job.payload, job.outcome, seconds=1.0, truth_dir=tmp_path)
    assert [(f.name, f.volume_ml) for f in report.findings] == [("Liver", 148.56), ("Liver tumour", 1.44)]


def test_a_job_that_was_given_a_mask_and_no_volume_of_ct_tells_what_it_holds_and_its_warnings(tmp_path):
    job = finished_job(tmp_path)
    mask = job.mask.with_array(job.mask.array.astype(np.int16))
    mask = dataclasses.replace(mask, origin=dataclasses.replace(mask.origin, warnings=("a slice is lost",)))
    write_volume(mask, job.payload.folder(job.workflow.input_folder))
    report = make_report(job.workflow, job.payload, job.outcome, seconds=1.0, truth_dir=tmp_path)
    assert [(f.name, f.volume_ml) for f in report.findings] == [("Liver", 148.56), ("Liver tumour", 1.44)]
    assert report.warnings == ["a slice is lost"]
    text = text_of((job.payload.publish_dir / "report.html").read_text())
    assert "Liver 148.6 ml Liver tumour 1.4 ml" in text
    assert "a slice is lost" in text


def test_labels_that_a_stage_stated_in_an_earlier_run_count_no_more_when_it_has_failed(tmp_path):
    job = finished_job(tmp_path)
    write_volume(job.image, job.payload.folder("dicom-reader/output"))
    write_volume(job.mask, job.payload.folder("ai-livertumor/output"))
    stated = [dataclasses.replace(label, name=f"Old {label.value}") for label in LABELS]
    write_labels(stated, job.payload.publish_dir / "dicom-writer", SERIES)
    page = job.payload.publish_dir / "report.html"
    make_report(job.workflow, job.payload, job.outcome, seconds=1.0, truth_dir=tmp_path)
    assert "Old 1" in text_of(page.read_text())
    failed = finished_job(tmp_path, failed="dicom-writer", message="no")
    make_report(job.workflow, failed.payload, failed.outcome, seconds=1.0, truth_dir=tmp_path)
    assert "Old 1" not in text_of(page.read_text())
    assert "Liver tumour 1.4 ml" in text_of(page.read_text())


def test_a_job_of_several_volumes_says_that_it_shows_one_and_has_the_warnings_of_all(tmp_path):
    job = finished_job(tmp_path)
    for name, lost in ((SERIES, ()), (OTHER_SERIES, ("a slice is lost",))):
        for volume, folder in ((job.image, "dicom-reader/output"), (job.mask, "ai-livertumor/output")):
            origin = dataclasses.replace(volume.origin, series_instance_uid=name, warnings=lost)
            write_volume(dataclasses.replace(volume, origin=origin), job.payload.folder(folder))
    report = make_report(job.workflow, job.payload, job.outcome, seconds=1.0, truth_dir=tmp_path)
    assert report.warnings == [
        "a slice is lost",
        "the job has 1 more volume than are shown and measured here: what was found in them is in the "
        "results alone",
    ]


def test_another_mask_of_the_same_volume_is_told(tmp_path):
    job = finished_job(tmp_path)
    write_volume(job.image, job.payload.folder("dicom-reader/output"))
    for folder, labels in (("ai-livertumor/output", LABELS[:1]), ("dicom-writer/output", LABELS)):
        values = tuple(label.value for label in labels)
        origin = dataclasses.replace(job.mask.origin, labels=labels, label_values=values)
        write_volume(dataclasses.replace(job.mask, origin=origin), job.payload.folder(folder))
    report = make_report(job.workflow, job.payload, job.outcome, seconds=1.0, truth_dir=tmp_path)
    assert report.warnings == ["another mask of the same volume is in the results alone"]
