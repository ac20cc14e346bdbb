"""A job's folders: how its input arrives, and which stages have to run."""

import json
import shutil

import pytest

from clara_wf.definitions.workflow import find_workflow, load_workflows
from clara_wf.payload import Payload, fill_input, payload_for, steps_to_run
from stages.errors import InputError, OutputError
from stages.lifecycle import locks, outputs, validity
from tests.clara_wf.definitions.test_workflow import CHART

STAGES = ["dicom-reader", "ai-livertumor", "dicom-writer"]


@pytest.fixture
def workflow():
    return find_workflow(load_workflows(CHART), "liver-seg")


@pytest.fixture
def payload(tmp_path, workflow):
    payload = Payload(root=tmp_path / "payloads/job-1", job_id="job-1")
    payload.make_folders(workflow)
    return payload


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    (folder / "deeper").mkdir(parents=True)
    (folder / "deeper/a.dcm").write_bytes(b"abc")
    return folder


def finish(payload, workflow, *names):
    """Write the output and the lock of stages as their drivers would."""
    for step in workflow.steps:
        if step.name in names:
            output = payload.folder(step.output_folder)
            (output / "result").write_text(step.name)
            lock = locks.Lock(
                job=payload.job_id,
                stage=step.name,
                inputs=validity.digests_of(payload.lock_dir, step.wait_locks),
                outputs=outputs.describe_files(output),
            )
            locks.publish(payload.lock_dir / step.block.lockName, lock)


def test_the_input_is_copied_and_its_lock_names_every_file(payload, workflow, source):
    fill_input(payload, workflow, source)
    assert (payload.root / "dicom-reader/input/deeper/a.dcm").read_bytes() == b"abc"
    lock = json.loads((payload.lock_dir / "input.lock").read_text())
    assert lock["outputs"] == [
        {
            "path": "deeper/a.dcm",
            "size": 3,
            "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        }
    ]


def test_the_same_input_again_leaves_the_job_as_it_is(payload, workflow, source):
    fill_input(payload, workflow, source)
    before = (payload.lock_dir / "input.lock").read_bytes()
    fill_input(payload, workflow, source)
    assert (payload.lock_dir / "input.lock").read_bytes() == before


def test_another_input_makes_every_lock_void(payload, workflow, source):
    fill_input(payload, workflow, source)
    finish(payload, workflow, *STAGES)
    (source / "b.dcm").write_bytes(b"new")
    fill_input(payload, workflow, source)
    assert sorted(p.name for p in payload.lock_dir.glob("*.lock")) == ["input.lock"]


@pytest.mark.parametrize("place", ["dicom-reader", "dicom-reader/input"])
def test_a_link_where_the_input_belongs_is_refused_and_nothing_is_written_behind_it(
    payload, workflow, source, tmp_path, place
):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "input/deeper").mkdir(parents=True)
    (elsewhere / "input/deeper/a.dcm").write_text("precious")
    shutil.rmtree(payload.root / "dicom-reader")
    (payload.root / place).parent.mkdir(exist_ok=True)
    (payload.root / place).symlink_to(elsewhere if place == "dicom-reader" else elsewhere / "input")
    with pytest.raises(OutputError, match="is a symbolic link; a folder of the job belongs there: remove it"):
        fill_input(payload, workflow, source)
    assert [path.read_text() for path in elsewhere.rglob("*.dcm")] == ["precious"]


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: folder.mkdir()])
def test_a_missing_or_empty_input_is_refused_by_name(payload, workflow, tmp_path, make):
    folder = tmp_path / "nothing"
    make(folder)
    with pytest.raises(InputError, match=f"{folder} (does not exist|is empty)"):
        fill_input(payload, workflow, folder)


@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_a_job_goes_on_at_the_first_stage_without_a_valid_lock(payload, workflow, source, done):
    fill_input(payload, workflow, source)
    finish(payload, workflow, *STAGES[:done])
    assert list(steps_to_run(payload, workflow, fresh=False)) == STAGES[done:]


def test_a_changed_output_runs_its_stage_and_those_behind_it(payload, workflow, source):
    fill_input(payload, workflow, source)
    finish(payload, workflow, *STAGES)
    (payload.root / "ai-livertumor/output/result").write_text("tampered")
    assert list(steps_to_run(payload, workflow, fresh=False)) == STAGES[1:]


def test_fresh_runs_all_and_clears_what_was_left(payload, workflow, source):
    fill_input(payload, workflow, source)
    finish(payload, workflow, *STAGES)
    locks.publish(payload.lock_dir / "dicom-writer.failed", {"message": "old"})
    assert list(steps_to_run(payload, workflow, fresh=True)) == STAGES
    assert sorted(p.name for p in payload.lock_dir.iterdir()) == ["input.lock"]


def test_a_foreign_stage_behind_one_that_runs_again_runs_too(payload, workflow, source):
    fill_input(payload, workflow, source)
    finish(payload, workflow, "dicom-reader", "ai-livertumor")
    (payload.lock_dir / "dicom-writer.lock").touch()
    (payload.root / "ai-livertumor/output/result").write_text("tampered")
    assert list(steps_to_run(payload, workflow, fresh=False)) == STAGES[1:]


def test_a_job_of_another_workflow_is_never_taken_for_ones_own(tmp_path, payload, workflow):
    payload.describe(workflow, engine="process")
    other = find_workflow(load_workflows(CHART), "ai-only")
    assert payload_for(tmp_path / "payloads", "job-1", workflow).job_id == "job-1"
    own = payload_for(tmp_path / "payloads", "job-1", other)
    assert own.job_id != "job-1"
    assert own.root == tmp_path / "payloads" / own.job_id
    assert payload_for(tmp_path / "payloads", "job-1", other) == own
    assert payload_for(tmp_path / "payloads", "job-2", other).job_id == "job-2"


def test_the_jobs_own_folder_as_its_source_loses_nothing(payload, workflow, source):
    own = payload.folder(workflow.input_folder)
    own.mkdir(parents=True)
    (own / "a.dcm").write_bytes(b"abc")
    fill_input(payload, workflow, own)
    (own / "b.dcm").write_bytes(b"more")
    fill_input(payload, workflow, own)
    lock = locks.read_lock(payload.lock_dir / "input.lock")
    assert [each.path for each in lock.outputs] == ["a.dcm", "b.dcm"] == sorted(p.name for p in own.iterdir())


def test_links_that_lead_to_no_file_stay_links_for_the_reader_to_tell(payload, workflow, source, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (source / "folder").symlink_to(tmp_path / "elsewhere")
    (source / "gone").symlink_to(tmp_path / "gone")
    (source / "file").symlink_to(source / "deeper/a.dcm")
    for _ in range(2):
        fill_input(payload, workflow, source)
        target = payload.root / "dicom-reader/input"
        assert sorted(p.name for p in target.iterdir() if p.is_symlink()) == ["folder", "gone"]
        assert (target / "file").read_bytes() == b"abc"


def test_a_file_as_input_is_said_to_be_one(payload, workflow, source):
    with pytest.raises(InputError, match=r"a\.dcm is a file, a folder is expected"):
        fill_input(payload, workflow, source / "deeper/a.dcm")
