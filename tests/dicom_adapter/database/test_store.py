import sqlite3
import threading
from pathlib import Path

import pytest

from dicom_adapter.config.blocks import WorkflowRule
from dicom_adapter.database.records import ReceivedInstance, StateError
from dicom_adapter.database.removals import plan_removal
from dicom_adapter.database.store import Store

LIVER = WorkflowRule.model_validate(
    {
        "name": "liver",
        "clara-ae-title": "CT",
        "destination-name": ["PACS", "COPY"],
        "workflow": "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd",
    }
)
SPLEEN = LIVER.model_copy(update={"name": "spleen", "destination_name": ()})


def received(number=1, *, study="1.2.3", ae="CT", **more):
    return ReceivedInstance(
        ae_title=ae,
        study_uid=study,
        sop_instance_uid=f"1.2.3.4.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        path=Path(f"/data/{ae}/{study}/{number}.dcm"),
        size=100,
        **more,
    )


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "adapter.sqlite")
    yield opened
    opened.close()


def completed(store, *rules):
    store.add_instances([received(1), received(2)])
    (study,) = store.studies()
    return study, store.complete(study.id, rules or [LIVER])


def test_instance_is_in_the_books_once(store):
    store.add_instances([received(1), received(2)])
    store.add_instances([received(2)])
    (study,) = store.studies("receiving")
    assert (study.instances, study.generation) == (2, 0)
    assert [each.sop_instance_uid for each in store.instances(study.id)] == ["1.2.3.4.1", "1.2.3.4.2"]
    assert store.knows(received(1).path)
    assert not store.knows(Path("/data/other"))


def test_study_under_another_ae_title_is_another_study(store):
    store.add_instances([received(1), received(1, ae="MR")])
    assert {study.ae_title for study in store.studies()} == {"CT", "MR"}


def test_instance_in_conflict_is_kept_and_is_no_input(store):
    store.add_instances([received(1)])
    study, _ = completed(store)
    store.add_instances([received(3, conflict=True)])
    found = store.study(study.id)
    assert (found.state, found.instances, found.conflicts) == ("complete", 3, 1)
    assert len(store.instances(study.id)) == 2


def test_complete_study_becomes_a_job_for_each_rule(store):
    study, jobs = completed(store, LIVER, SPLEEN)
    assert [(job.rule, job.state, job.destinations) for job in jobs] == [
        ("liver", "queued", ("PACS", "COPY")),
        ("spleen", "queued", ()),
    ]
    assert store.study(study.id).state == "complete"
    with pytest.raises(StateError, match="cannot become complete"):
        store.complete(study.id, [LIVER])
    assert len(store.jobs()) == 2


def test_job_of_a_study_has_the_same_id_in_other_books(store, tmp_path):
    _, (job,) = completed(store)
    other = Store(tmp_path / "other.sqlite")
    assert completed(other)[1][0].id == job.id
    other.close()


def test_late_instance_opens_the_study_again_and_makes_another_job(store):
    study, (first,) = completed(store)
    store.add_instances([received(3)])
    assert store.study(study.id).state == "receiving"
    (second,) = store.complete(study.id, [LIVER])
    assert second.id != first.id
    assert second.generation == 2
    assert store.job(first.id).state == "queued"


def test_superseded_job_delivers_nothing_more(store):
    study, (first,) = completed(store)
    store.start_next(0)
    store.finish(first.id, {"1.9": Path("/x")})
    sent, _ = store.deliveries("waiting")
    store.move_delivery(sent.id, "delivered")
    store.add_instances([received(3)])
    store.complete(study.id, [LIVER], supersede=True)
    assert store.job(first.id).state == "superseded"
    assert sorted(each.state for each in store.deliveries(job_id=first.id)) == ["cancelled", "delivered"]


def test_jobs_start_in_their_order_and_not_before_their_time(store):
    _, (first, second) = completed(store, LIVER, SPLEEN)
    assert store.start_next(10).id == first.id
    store.retry(first.id, exit_code=6, reason="no server", not_before=20)
    assert store.start_next(10).id == second.id
    assert store.start_next(19) is None
    again = store.start_next(20)
    assert (again.id, again.tries, again.reason) == (first.id, 2, "no server")


def test_job_of_a_rule_with_a_bonus_overtakes_those_that_are_not_that_much_older(store):
    _, (liver, spleen) = completed(store, LIVER, SPLEEN)
    with store.transaction() as database:
        database.execute("UPDATE jobs SET created = '2026-01-01T00:00:00+00:00' WHERE rule = 'liver'")
        database.execute("UPDATE jobs SET created = '2026-01-01T00:09:00+00:00' WHERE rule = 'spleen'")
    assert store.start_next(0, bonus_s={"spleen": 500}).id == liver.id
    store.retry(liver.id, exit_code=6, reason="no server", not_before=0)
    assert store.start_next(0, bonus_s={"spleen": 600}).id == spleen.id


def test_dead_letter_is_replayed(store):
    _, (job,) = completed(store)
    store.start_next(0)
    store.dead_letter(job.id, exit_code=3, reason="no CT")
    assert store.start_next(1e12) is None
    store.replay(job.id)
    assert store.start_next(0).id == job.id


def test_delivery_that_was_given_up_is_replayed_without_its_job(store):
    _, (job,) = completed(store)
    store.start_next(0)
    store.finish(job.id, {"1.9": Path("/x")})
    for each in store.due("PACS", 0):
        store.move_delivery(each.id, "dead", message="refused")
    store.replay(job.id)
    assert store.job(job.id).state == "done"
    assert len(store.due("PACS", 0)) == 1


def test_what_is_finished_is_delivered_to_every_destination_once(store):
    _, (job,) = completed(store)
    store.start_next(0)
    store.finish(job.id, {"1.9": Path("/x"), "1.8": Path("/y")})
    assert len(store.deliveries("waiting")) == 4
    with pytest.raises(StateError):
        store.finish(job.id, {"1.9": Path("/x")})
    assert len(store.deliveries()) == 4


def test_only_what_is_delivered_is_ever_cleaned_up(store):
    study, (job,) = completed(store)
    assert store.finished_studies(0) == []
    store.start_next(0)
    store.finish(job.id, {"1.9": Path("/x")})
    assert store.finished_studies(0) == []
    for each in store.deliveries():
        store.move_delivery(each.id, "delivered")
    assert [found.id for found in store.finished_studies(0)] == [study.id]
    assert store.finished_studies(1e9) == []
    plan_removal(store, study.id, Path("/payloads"))
    assert store.study(study.id).state == "removed"
    assert store.finished_studies(0) == []


def test_books_are_the_same_after_they_were_closed(tmp_path):
    file = tmp_path / "adapter.sqlite"
    first = Store(file)
    _, (job,) = completed(first)
    first.close()
    second = Store(file)
    assert second.job(job.id) == job
    second.close()


def test_books_that_another_process_writes_are_waited_for(store, tmp_path):
    other = sqlite3.connect(tmp_path / "adapter.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, other.execute, ["ROLLBACK"]).start()
    store.add_instances([received(1)])
    assert len(store.studies()) == 1
    other.close()


def test_many_threads_take_each_job_once(store):
    store.add_instances([received(n, study=f"1.2.{n}") for n in range(1, 41)])
    for study in store.studies():
        store.complete(study.id, [LIVER])
    taken, lock = [], threading.Lock()

    def work():
        while (job := store.start_next(0)) is not None:
            with lock:
                taken.append(job.id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 40


def finished_twice(store, contents, later=None, *, state="delivered", supersede=False):
    """Finish a job with one result, move its delivery, and finish the job of a late instance."""
    study, (first,) = completed(store)
    store.start_next(0)
    store.finish(first.id, {"1.9": Path("/x")}, contents={"1.9": contents})
    for each in store.deliveries():
        if state != "waiting":
            store.move_delivery(each.id, state)
    store.add_instances([received(3)])
    (second,) = store.complete(study.id, [LIVER], supersede=supersede)
    store.start_next(0)
    told = store.finish(second.id, {"1.9": Path("/y")}, contents={"1.9": later or contents})
    return second, told


@pytest.mark.parametrize("state", ["waiting", "uncommitted", "delivered"])
def test_a_result_that_its_destination_has_or_gets_is_not_sent_again(store, state):
    second, told = finished_twice(store, "abc", state=state)
    assert told == (2, 0)
    assert {each.state for each in store.deliveries(job_id=second.id)} == {"unchanged"}


def test_other_content_under_the_same_uid_is_sent_and_told(store):
    second, told = finished_twice(store, "abc", "def")
    assert told == (0, 2)
    assert {each.state for each in store.deliveries(job_id=second.id)} == {"waiting"}


def test_what_could_not_be_delivered_is_sent_with_the_next_job(store):
    second, told = finished_twice(store, "abc", state="dead")
    assert told == (0, 0)
    assert {each.state for each in store.deliveries(job_id=second.id)} == {"waiting"}


def test_what_was_cancelled_by_a_superseding_job_is_sent_with_it(store):
    second, _ = finished_twice(store, "abc", state="waiting", supersede=True)
    assert {each.state for each in store.deliveries(job_id=second.id)} == {"waiting"}


def test_what_nobody_could_read_is_always_sent(store):
    second, told = finished_twice(store, "")
    assert told == (0, 0)
    assert {each.state for each in store.deliveries(job_id=second.id)} == {"waiting"}


def test_a_study_that_was_removed_and_comes_again_is_delivered_again(store):
    study, (first,) = completed(store)
    store.start_next(0)
    store.finish(first.id, {"1.9": Path("/x")}, contents={"1.9": "abc"})
    for each in store.deliveries():
        store.move_delivery(each.id, "delivered")
    plan_removal(store, study.id, Path("/payloads"))
    _, (second,) = completed(store)
    store.start_next(0)
    assert store.finish(second.id, {"1.9": Path("/y")}, contents={"1.9": "abc"}) == (0, 0)


def test_a_study_whose_every_result_was_there_already_is_cleaned_up(store):
    finished_twice(store, "abc")
    assert len(store.finished_studies(0)) == 1


def test_what_was_left_to_a_job_that_is_superseded_is_sent_after_all(store):
    store.add_instances([received(1), received(1, ae="MR")])
    of = {each.ae_title: each.id for each in store.studies()}
    jobs = {}
    for ae_title, study in of.items():
        (job,) = store.complete(study, [LIVER.model_copy(update={"clara_ae_title": ae_title})])
        store.start_next(store.clock())
        store.finish(job.id, {"1.2.9": Path("/made.dcm")}, contents={"1.2.9": "abc"})
        jobs[ae_title] = job.id
    first, second = sorted(of, key=lambda each: of[each], reverse=True)
    assert {each.state for each in store.deliveries(job_id=jobs[second])} == {"unchanged"}
    store.add_instances([received(2, ae=first)])
    store.complete(of[first], [LIVER], supersede=True)
    assert {each.state for each in store.deliveries(job_id=jobs[first])} == {"cancelled"}
    assert [each.state for each in store.deliveries(job_id=jobs[second])] == ["waiting"] * 2
