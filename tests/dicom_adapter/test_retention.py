"""What was delivered is cleaned up after its time; what was not never is."""

import time

import pytest

from dicom_adapter.books.delivery_books import condemn, condemned
from dicom_adapter.books.store import StateError
from dicom_adapter.places import AdapterPlaces
from dicom_adapter.receiving.claims import Claims
from dicom_adapter.retention import Retention
from dicom_adapter.running.studies import take_up
from tests.dicom_adapter.benches import AE, STUDY_UID, Insides, destination


@pytest.fixture
def bench(tmp_path):
    made = Insides(tmp_path / "a", destination("A", 1, "X"), **{"retention-hours": 0})
    yield made
    made.close()


def retention_of(bench, claims=None):
    return Retention(bench.around, forget=lambda folder: None, claims=claims or Claims())


def clean_up(bench, claims=None):
    time.sleep(0.005)  # times in the books are of milliseconds
    return retention_of(bench, claims).clean_up()


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
    (study,) = bench.store.finished_studies("9999")
    bench.receive(slices=5)
    bench.store.add_instances([])
    late = bench.folder / "adapter/studies/late.dcm"
    late.write_bytes(b"x")
    bench.store.add_instances([bench_file(late)])
    with pytest.raises(StateError, match="is kept"):
        condemn(bench.store, study.id)
    assert clean_up(bench) == 0
    assert len(files(bench)) == 6


def test_a_study_of_which_some_comes_again_just_now_stays_until_that_is_in_the_books(bench):
    bench.done_job("A")
    deliver(bench)
    claims = Claims()
    claims.take((AE, STUDY_UID))
    clean_up(bench, claims)
    assert len(files(bench)) == 5
    claims.drop((AE, STUDY_UID))
    clean_up(bench, claims)
    assert files(bench) == []


def bench_file(path):
    from tests.dicom_adapter.benches import received_file

    return received_file(path, "1.2.3.1.99")


def test_a_crash_between_books_and_files_is_finished_at_the_start_and_starts_nothing_anew(bench):
    bench.done_job("A")
    deliver(bench)
    (study,) = bench.store.finished_studies("9999")
    condemn(bench.store, study.id)
    assert len(condemned(bench.store)) == len(files(bench)) == 5
    retention_of(bench).finish()
    assert files(bench) == []
    assert take_up(bench.store, AdapterPlaces(root=bench.folder / "adapter")) == 0
    assert condemned(bench.store) == []
