"""What was delivered is cleaned up after its time; what was not never is."""

import os
import subprocess

import pytest

from dicom_adapter.database.records import StateError
from dicom_adapter.database.removals import pending_removals, plan_removal
from dicom_adapter.storage.folders import mounts_in, remove_folder
from dicom_adapter.storage.paths import AdapterPaths
from dicom_adapter.storage.study_locks import StudyLocks
from dicom_adapter.studies.recovery import recover_instances
from dicom_adapter.studies.retention import Retention
from tests.dicom_adapter.offline_adapter import AE, STUDY_UID, OfflineAdapter, destination


@pytest.fixture
def bench(tmp_path):
    made = OfflineAdapter(tmp_path / "a", destination("A", 1, "X"), **{"retention-hours": 0})
    yield made
    made.close()


def retention_of(bench, study_locks=None):
    return Retention(bench.context, forget=lambda folder: None, study_locks=study_locks or StudyLocks())


def clean_up(bench, study_locks=None):
    return retention_of(bench, study_locks).clean_up()


def files(bench):
    return sorted(p.name for p in (bench.folder / "adapter/studies").rglob("*") if p.is_file())


def deliver(bench, state="delivered"):
    for each in bench.store.deliveries("waiting"):
        bench.store.move_delivery(each.id, state)


def test_delivered_study_goes_with_its_payload_and_stays_in_the_books(bench):
    job = bench.done_job("A")
    deliver(bench)
    assert clean_up(bench) == 1
    assert files(bench) == []
    assert not (bench.folder / "payloads" / job.id).exists()
    assert [each.state for each in bench.store.studies()] == ["removed"]
    assert bench.store.job(job.id).state == "done"
    assert clean_up(bench) == 0


@pytest.mark.parametrize("state", ["waiting", "uncommitted", "dead"])
def test_what_was_not_delivered_stays(bench, state):
    bench.done_job("A")
    deliver(bench)
    bench.done_job("A", study_uid="1.2.9")
    deliver(bench, state)
    assert clean_up(bench) == 1
    assert len(files(bench)) == 5


def test_a_study_whose_job_is_not_done_or_goes_nowhere_or_has_none_stays(bench):
    bench.done_job(study_uid="1.2.8")
    bench.complete(bench.receive("1.2.7"), "A")
    bench.store.complete(bench.receive("1.2.9"), [])
    assert clean_up(bench) == 0
    assert len(files(bench)) == 15


def test_before_its_time_nothing_goes(bench):
    bench.done_job("A")
    deliver(bench)
    bench.settings["storage"]["retention-hours"] = 1
    bench.change()
    assert clean_up(bench) == 0
    assert len(files(bench)) == 5


def test_a_study_of_which_more_came_meanwhile_stays(bench):
    bench.done_job("A")
    deliver(bench)
    (study,) = bench.store.finished_studies(0)
    bench.receive(slices=5)
    bench.store.add_instances([])
    late = bench.folder / "adapter/studies/late.dcm"
    late.write_bytes(b"x")
    bench.store.add_instances([bench_file(late)])
    with pytest.raises(StateError, match="is kept"):
        plan_removal(bench.store, study.id, bench.folder / "payloads")
    assert clean_up(bench) == 0
    assert len(files(bench)) == 6


def test_a_study_of_which_some_comes_again_just_now_stays_until_that_is_in_the_books(bench):
    bench.done_job("A")
    deliver(bench)
    study_locks = StudyLocks()
    study_locks.acquire((AE, STUDY_UID))
    clean_up(bench, study_locks)
    assert len(files(bench)) == 5
    study_locks.release((AE, STUDY_UID))
    clean_up(bench, study_locks)
    assert files(bench) == []


def bench_file(path):
    from tests.dicom_adapter.offline_adapter import received_file

    return received_file(path, "1.2.3.1.99")


def test_a_crash_between_books_and_files_is_finished_at_the_start_and_starts_nothing_anew(bench):
    bench.done_job("A")
    deliver(bench)
    (study,) = bench.store.finished_studies(0)
    plan_removal(bench.store, study.id, bench.folder / "payloads")
    assert len(files(bench)) == 5
    assert len(pending_removals(bench.store)[study.id]) == 6  # files and a payload
    retention_of(bench).finish()
    assert files(bench) == []
    assert recover_instances(bench.store, AdapterPaths(root=bench.folder / "adapter")) == 0
    assert pending_removals(bench.store) == {}


def left_payload(bench, make):
    """Clean up after something was made of a job's payload; return that job."""
    job = bench.done_job("A")
    deliver(bench)
    make(bench.folder / "payloads" / job.id)
    clean_up(bench)
    return job


def test_a_payload_that_is_a_link_is_left_with_what_it_leads_to_and_told(bench, caplog):
    elsewhere = bench.folder / "elsewhere"

    def link(payload):
        payload.rename(elsewhere)
        payload.symlink_to(elsewhere)

    job = left_payload(bench, link)
    assert sum(path.is_file() for path in elsewhere.rglob("*")) == 5
    assert f"the payload of job {job.id} was delivered, and cannot be removed" in caplog.text
    assert "is a symbolic link" in caplog.text


def test_a_removal_that_failed_is_tried_again_and_in_the_audit_trail_once(bench):
    elsewhere = bench.folder / "elsewhere"
    job = left_payload(bench, lambda payload: (payload.rename(elsewhere), payload.symlink_to(elsewhere)))
    assert '"110105"' not in (bench.folder / "audit.jsonl").read_text()
    payload = bench.folder / "payloads" / job.id
    payload.unlink()
    elsewhere.rename(payload)
    clean_up(bench)
    clean_up(bench)
    assert not payload.exists()
    assert (bench.folder / "audit.jsonl").read_text().count('"csd-code":"110105"') == 1


def test_nothing_is_removed_of_a_folder_that_something_is_mounted_in(tmp_path):
    (tmp_path / "a b/disk").mkdir(parents=True)
    table = tmp_path / "mountinfo"
    table.write_text(
        f"36 35 0:5 / {tmp_path}/a\\040b/disk rw - tmpfs tmpfs rw\n35 1 0:4 / / rw - ext4 x rw\n"
    )
    assert mounts_in(tmp_path / "a b", mounts=table) == [tmp_path / "a b/disk"]
    assert mounts_in(tmp_path / "c", mounts=table) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_disk_that_is_mounted_in_a_payload_keeps_its_files(tmp_path):
    disk, outside = tmp_path / "payload/disk", tmp_path / "outside"
    disk.mkdir(parents=True)
    outside.mkdir()
    (outside / "kept").write_text("x")
    if subprocess.run(["mount", "--bind", outside, disk], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        with pytest.raises(OSError, match=r"something is mounted on .*disk; unmount it"):
            remove_folder(tmp_path / "payload")
    finally:
        subprocess.run(["umount", disk], check=True)
    assert (outside / "kept").exists()
    remove_folder(tmp_path / "payload")
    assert not (tmp_path / "payload").exists()


def test_what_the_database_says_of_a_removed_study_is_forgotten_after_its_time(bench):
    bench.done_job("A")
    bench.done_job("A", study_uid="1.2.9")
    for each in bench.store.deliveries(job_id=bench.store.jobs()[0].id):
        bench.store.move_delivery(each.id, "delivered")
    clean_up(bench)
    assert [each.state for each in bench.store.studies()] == ["complete", "removed"]
    bench.settings["storage"]["record-days"] = 0
    bench.change()
    clean_up(bench)
    assert [each.study_uid for each in bench.store.studies()] == ["1.2.9"]
    assert len(bench.store.jobs()) == 1
    assert len(bench.store.deliveries()) == 5


def test_a_study_that_is_not_gone_from_the_disk_is_not_forgotten(bench):
    left_payload(bench, lambda payload: (payload.rename(bench.folder / "e"), payload.symlink_to("e")))
    bench.settings["storage"]["record-days"] = 0
    bench.change()
    clean_up(bench)
    assert [each.state for each in bench.store.studies()] == ["removed"]


def test_the_time_counts_from_the_delivery(bench):
    now = [1000.0]
    bench.store.clock = lambda: now[0]
    bench.settings["storage"]["retention-hours"] = 1
    bench.change()
    bench.done_job("A")
    now[0] += 7200  # it waits for its destination
    deliver(bench)
    assert clean_up(bench) == 0
    now[0] += 3599
    assert clean_up(bench) == 0
    now[0] += 1
    assert clean_up(bench) == 1
