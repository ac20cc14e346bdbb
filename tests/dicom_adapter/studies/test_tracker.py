"""When a study is complete, and what happens to what comes later. The clock is the test's own."""

import os
import sqlite3
import threading

import pytest

from dicom_adapter.config.blocks import Config
from dicom_adapter.config.dicom_blocks import SeriesFilter
from dicom_adapter.database.records import ReceivedInstance
from dicom_adapter.database.set_aside import all_items, set_aside
from dicom_adapter.database.store import Store
from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.storage.paths import AdapterPaths
from dicom_adapter.storage.study_locks import StudyLocks
from dicom_adapter.studies.recovery import recover_instances, write_each
from dicom_adapter.studies.selection import chosen
from dicom_adapter.studies.tracker import StudyTracker
from tests.dicom_adapter.destinations import wait_until
from tests.dicom_adapter.instances import instance, write

WORKFLOWS = ["fd3ee8bf-b9f3-4808-bd60-243f870ff9bd", "8371285c-8ea8-41cd-958e-44e5664c6ec3"]


def config(*, rules=1, **title):
    return Config.model_validate(
        {
            "dicom": {"scp": {"ae-titles": [{"ae-title": "CT", "quiet-seconds": 10, **title}]}},
            "workflows": [
                {"name": f"rule{n}", "clara-ae-title": "CT", "workflow": WORKFLOWS[n]} for n in range(rules)
            ],
        }
    )


class Bench:
    """Books, a clock that stands still, and no threads but the one that writes."""

    def __init__(self, folder, settings):
        self.time, self.config, self.told = 100.0, settings, []
        self.store = Store(folder / "adapter.sqlite")
        self.study_locks = StudyLocks()
        self.studies = StudyTracker(
            self.store,
            lambda: self.config,
            on_jobs=lambda study, jobs: self.told.append((study.id, len(jobs))),
            clock=lambda: self.time,
            study_locks=self.study_locks,
        )
        self.studies._writer.start()

    def receive(self, *numbers, association=1, study="1.2.3", modality="CT", description=""):
        for number in numbers:
            each = ReceivedInstance(
                ae_title="CT",
                study_uid=study,
                sop_instance_uid=f"{study}.{number}",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
                path=f"/data/{study}/{number}.dcm",
                size=1,
                modality=modality,
                series_description=description,
            )
            self.study_locks.acquire(("CT", study))
            self.studies.kept(association, each)
        wait_until(lambda: not any(seen.unwritten for seen in self.studies._open.values()))

    def pass_by(self, seconds):
        self.time += seconds
        self.studies.look()

    @property
    def jobs(self):
        return [(job.generation, job.state) for job in self.store.jobs()]

    def close(self):
        self.studies.stop()
        self.store.close()


@pytest.fixture
def bench(tmp_path):
    made = []

    def start(**settings):
        made.append(Bench(tmp_path, config(**settings)))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_study_is_complete_after_its_quiet_time_and_not_before(bench):
    running = bench()
    running.receive(1, 2)
    running.pass_by(9.9)
    running.receive(3)
    running.pass_by(9.9)
    assert running.jobs == []
    running.pass_by(0.1)
    assert running.jobs == [(1, "queued")]
    assert running.told == [(1, 1)]
    running.pass_by(100)
    assert len(running.jobs) == 1
    assert running.studies._open == {}


def test_study_is_complete_when_the_last_of_its_senders_hangs_up(bench):
    running = bench(complete="association")
    running.receive(1, association=1)
    running.receive(2, association=2)
    running.studies.closed(1)
    running.pass_by(1000)
    assert running.jobs == []
    running.studies.closed(2)
    running.pass_by(0)
    assert running.jobs == [(1, "queued")]


def test_each_rule_of_the_ae_title_makes_a_job(bench):
    running = bench(rules=2)
    running.receive(1)
    running.pass_by(10)
    assert sorted(job.rule for job in running.store.jobs()) == ["rule0", "rule1"]


def test_two_studies_are_two_jobs(bench):
    running = bench()
    running.receive(1, study="1.2.3")
    running.receive(1, study="1.2.4")
    running.pass_by(10)
    assert len({job.id for job in running.store.jobs()}) == 2


def test_duplicates_alone_start_nothing(bench):
    running = bench()
    running.receive(1)
    running.pass_by(10)
    running.receive(1)
    running.pass_by(10)
    assert len(running.jobs) == 1
    assert running.studies._open == {}


@pytest.mark.parametrize(
    ("late", "jobs", "state"),
    [
        ("rerun", [(1, "queued"), (2, "queued")], "complete"),
        ("supersede", [(1, "superseded"), (2, "queued")], "complete"),
        ("wait", [(1, "queued")], "held"),
    ],
)
def test_late_instance_is_never_dropped(bench, late, jobs, state):
    running = bench(late=late)
    running.receive(1, 2)
    running.pass_by(10)
    running.receive(3)
    running.pass_by(10)
    assert running.jobs == jobs
    assert running.store.study(1).state == state
    assert running.store.study(1).instances == 3


def test_held_instances_are_released_by_command(bench):
    running = bench(late="wait")
    running.receive(1)
    running.pass_by(10)
    running.receive(2)
    running.pass_by(10)
    assert len(running.studies.release(1)) == 1
    assert running.jobs == [(1, "queued"), (2, "queued")]


def test_study_of_which_nothing_passes_the_filter_starts_nothing_and_is_kept(bench):
    running = bench(filter={"modalities": ["MR"]})
    running.receive(1)
    running.pass_by(10)
    assert running.jobs == []
    assert running.store.study(1).instances == 1


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        ({}, True),
        ({"modalities": ["MR", "CT"]}, True),
        ({"modalities": ["MR"]}, False),
        ({"sop-classes": ["1.2.840.10008.5.1.4.1.1.2"]}, True),
        ({"sop-classes": ["1.2.840.10008.5.1.4.1.1.4"]}, False),
        ({"descriptions": "(?i)AXIAL"}, True),
        ({"descriptions": "^coronal"}, False),
    ],
)
def test_filter_looks_at_modality_class_and_description(wanted, passes):
    each = ReceivedInstance(
        ae_title="CT",
        study_uid="1.2",
        sop_instance_uid="1.2.3",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        path="/x",
        size=1,
        modality="CT",
        series_description="axial 5 mm",
    )
    assert bool(chosen([each], SeriesFilter.model_validate(wanted))) == passes


def test_an_instance_that_cannot_be_written_is_set_aside_alone_and_the_others_of_its_batch_are(bench):
    running = bench()
    running.studies._writer.stop()
    wait_until(lambda: running.studies._writer.is_over)
    batch = [received(n, description="\ud800" if n == 3 else "axial") for n in range(1, 9)]
    assert write_each(running.store, batch) == 7
    assert sorted(each.sop_instance_uid[-1] for each in running.store.instances(1)) == list("1245678")
    (item,) = all_items(running.store)
    assert (item.kind, item.item, item.study) == ("instance", "/data/3.dcm", study_hash("1.2.3"))
    assert "axial" not in item.reason


def test_a_study_of_which_an_instance_is_set_aside_is_held_and_others_are_not(bench):
    running = bench()
    running.receive(1, description="\udfff")
    running.receive(2, 3)
    running.receive(1, study="1.2.4")
    running.pass_by(10)
    assert running.jobs == [(1, "queued")]
    (held,) = running.store.studies("held")
    assert held.study_uid == "1.2.3"
    running.studies.release(held.id)
    assert running.jobs == [(1, "queued"), (1, "queued")]


def test_a_study_that_cannot_be_completed_is_set_aside_and_the_others_go_on(bench):
    running = bench(late="supersede")
    running.receive(1, study="1.2.3")
    running.receive(1, study="1.2.4")
    running.pass_by(10)
    with running.store.transaction() as database:  # a number that no column takes
        database.execute("UPDATE studies SET state = 'receiving'")
        database.execute("UPDATE studies SET generation = 9223372036854775807 WHERE id = 1")
    running.pass_by(10)
    running.pass_by(10)
    assert sorted(running.jobs) == [(1, "queued"), (1, "superseded"), (2, "queued")]
    ((kind, item),) = [(each.kind, each.item) for each in all_items(running.store)]
    assert (kind, item) == ("study", "1")


def test_what_is_set_aside_is_met_again_at_the_start_and_stays_so(tmp_path, caplog):
    places = AdapterPaths(root=tmp_path)
    (made,) = write(tmp_path / "made", [instance(1)])
    folder = places.study("CT", "1.2.3")
    folder.mkdir(parents=True)
    path = made.rename(folder / "1.2.3.4.1.dcm")
    store = Store(places.database)
    set_aside(store, "instance", path, reason="UnicodeEncodeError")
    assert recover_instances(store, places) == 0
    assert store.studies() == []
    assert "1 received files are set aside" in caplog.text
    assert caplog.text.count("set aside as") == 1
    store.close()


def received(number, *, description):
    return ReceivedInstance(
        ae_title="CT",
        study_uid="1.2.3",
        sop_instance_uid=f"1.2.3.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        path=f"/data/{number}.dcm",
        size=1,
        series_description=description,
    )


def test_study_is_not_complete_before_it_is_in_the_books(bench, tmp_path):
    running = bench()
    running.receive(1)
    other = sqlite3.connect(tmp_path / "adapter.sqlite", check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    each = ReceivedInstance(
        ae_title="CT", study_uid="1.2.3", sop_instance_uid="1.2.3.2", sop_class_uid="1.2", path="/y", size=1
    )
    running.studies.kept(1, each)
    threading.Timer(0.5, other.rollback).start()
    running.pass_by(10)  # waits for the database, or finds that not all is in it
    wait_until(lambda: not any(seen.unwritten for seen in running.studies._open.values()))
    running.pass_by(0)
    assert running.jobs == [(1, "queued")]
    assert running.store.study(1).instances == 2
    other.close()


def test_what_a_crash_kept_out_of_the_books_is_taken_up_once(tmp_path):
    places = AdapterPaths(root=tmp_path)
    folder = places.study("CT AI", "1.2.3")
    for n, path in enumerate(write(tmp_path / "made", [instance(k) for k in range(1, 4)]), start=1):
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / f"1.2.3.4.{n}.dcm")
    (folder / "1.2.3.4.9.dcm").write_bytes(b"broken")
    (folder / "1.2.3.4.8.dcm").mkdir()
    os.mkfifo(folder / "1.2.3.4.7.dcm")
    store = Store(places.database)
    assert recover_instances(store, places) == 3
    assert recover_instances(store, places) == 0
    assert [each.kind for each in all_items(store)] == ["instance"] * 3
    (study,) = store.studies("receiving")
    assert (study.ae_title, study.study_uid, study.instances) == ("CT AI", "1.2.3", 3)
    assert (folder / "1.2.3.4.9.dcm").exists()
    store.close()


def test_a_restart_does_not_complete_a_study_whose_sender_it_has_cut_off(bench):
    running = bench(complete="association")
    running.receive(1)
    running.studies._open.clear()  # as after a restart
    running.pass_by(1)
    assert running.jobs == []
    running.receive(2, association=2)
    running.pass_by(20)
    assert running.jobs == []
    running.studies.closed(2)
    running.pass_by(0)
    assert running.jobs == [(1, "queued")]


def test_a_study_that_a_restart_has_cut_off_is_complete_after_its_quiet_time(bench):
    running = bench(complete="association")
    running.receive(1)
    running.studies._open.clear()  # as after a restart
    running.pass_by(1)
    running.pass_by(10)
    assert running.jobs == [(1, "queued")]


def test_a_study_whose_sender_broke_off_waits_for_the_rest_and_then_for_its_quiet_time(bench):
    running = bench(complete="association")
    running.receive(1, association=1)
    running.studies.closed(1, is_released=False)
    running.pass_by(1)
    assert running.jobs == []
    running.receive(2, association=2)
    running.studies.closed(2, is_released=False)
    running.pass_by(9)
    assert running.jobs == []
    running.pass_by(1.5)
    assert running.jobs == [(1, "queued")]
