"""What went out and was not answered: asked for first, and sent again only where the archive has it not."""

import threading

import pytest

from dicom_adapter.delivery import workers
from dicom_adapter.delivery.query import found_by_query
from dicom_adapter.delivery.store_scu import StoreScu
from dicom_adapter.delivery.stow import StowClient
from dicom_adapter.delivery.workers import DeliveryWorkers
from dicom_adapter.storage.results import find_results, read_result
from tests.dicom_adapter.delivery.test_store_scu import peer
from tests.dicom_adapter.destinations import DICOMWEB, Storescp
from tests.dicom_adapter.faulty_peers import (
    FaultyPeer,
    accept,
    answer_stores,
    message,
    read_message,
    silence,
    stored,
)
from tests.dicom_adapter.offline_adapter import destination
from tests.phantoms import ct_slices, save

UIDS = sorted(f"1.2.3.1.77.{n + 1}" for n in range(5))


def left_unsure(bench, uids, *, at):
    """Let an adapter have been killed after it sent some of a job, and before it heard of any."""
    files = [read_result(each.path) for each in bench.store.deliveries() if each.sop_instance_uid in uids]
    StoreScu(peer=peer(at.port, at.ae_title)).send(files, lambda result, answer: None)
    with bench.store.transaction() as database:
        database.execute("UPDATE deliveries SET unsure = 1")


def test_an_archive_is_asked_for_many_at_once_and_says_what_it_has(tmp_path, archive):
    files = find_results(save(ct_slices((60, 4, 4)), tmp_path / "ct"))
    to = peer(archive.port, archive.ae_title)
    StoreScu(peer=to).send(files[3:58], lambda result, answer: None)
    assert found_by_query(to, files) == {each.sop_instance_uid for each in files[3:58]}


def test_one_that_answers_no_query_is_not_asked(tmp_path):
    files = find_results(save(ct_slices(), tmp_path / "ct"))
    with Storescp(tmp_path / "got") as other:
        assert found_by_query(peer(other.port, other.ae_title), files) is None


@pytest.mark.skipif(not DICOMWEB.exists(), reason="Orthanc's DICOMweb plugin is not installed")
def test_a_service_with_a_url_is_asked_by_qido(tmp_path, archive):
    files = find_results(save(ct_slices(), tmp_path / "ct"))
    client = StowClient(name="WEB", url=archive.url + "/dicom-web", timeout_s=5)
    assert client.found(files) == set()
    client.send(files[:2], lambda result, answer: None)
    assert client.found(files) == {each.sop_instance_uid for each in files[:2]}


@pytest.mark.parametrize("commitment", [False, True])
def test_after_a_kill_only_what_the_archive_has_not_is_sent(offline, archive, commitment):
    bench = offline(destination("A", archive.port, "ORTHANC", commitment=commitment))
    bench.done_job("A")
    left_unsure(bench, UIDS[:3], at=archive)
    end = "uncommitted" if commitment else "delivered"
    bench.deliver(lambda: bench.states() == {end: 5})
    assert {each.sop_instance_uid: each.status for each in bench.store.deliveries()} == {
        **dict.fromkeys(UIDS[:3], "found"),
        **dict.fromkeys(UIDS[3:], "0x0000"),
    }
    assert archive.instances() == UIDS
    assert not any(each.unsure for each in bench.store.deliveries())


def test_one_that_cannot_be_asked_gets_it_again(offline, tmp_path):
    with Storescp(tmp_path / "got") as other:
        bench = offline(destination("A", other.port, "STORESCP"))
        bench.done_job("A")
        left_unsure(bench, UIDS[:3], at=other)
        bench.deliver(lambda: bench.states() == {"delivered": 5})
        assert len(other.files()) == 5
    assert {each.status for each in bench.store.deliveries()} == {"0x0000"}


def test_one_that_is_not_to_be_asked_is_not(offline, archive):
    bench = offline(destination("A", archive.port, "ORTHANC", query=False))
    bench.done_job("A")
    left_unsure(bench, UIDS[:3], at=archive)
    bench.deliver(lambda: bench.states() == {"delivered": 5})
    assert {each.status for each in bench.store.deliveries()} == {"0x0000"}


def test_a_question_that_breaks_the_association_does_not_keep_it_for_ever(offline):
    """It hangs up at three questions, the last of which is not waited for; the fourth call is none."""
    with FaultyPeer(lambda wire: answer_stores(wire) if faulty.calls > 3 else wire.recv(10)) as faulty:
        bench = offline(destination("A", faulty.port, "PACS"))
        bench.done_job("A")
        with bench.store.transaction() as database:
            database.execute("UPDATE deliveries SET unsure = 1")
        bench.deliver(lambda: bench.states() == {"delivered": 5})


def test_only_what_was_under_way_is_unsure_after_a_lost_answer(offline):
    def hang_up_at_the_third(wire):
        accept(wire)
        for n in range(3):
            context, fields, _ = read_message(wire)
            if n < 2:
                wire.sendall(message(context, stored(fields)))

    with FaultyPeer(hang_up_at_the_third) as faulty:
        bench = offline(destination("A", faulty.port, "PACS"))
        bench.done_job("A")
        bench.deliver(lambda: any(each.message for each in bench.store.deliveries("waiting")))
    assert [each.unsure for each in bench.store.deliveries("waiting")] == [True, False, False]


def test_a_stop_does_not_wait_for_one_that_never_answers_and_what_was_under_way_is_unsure(
    offline, monkeypatch
):
    monkeypatch.setattr(workers, "_STOP_S", 0.2)
    came = threading.Event()

    def behave(wire):
        accept(wire)
        read_message(wire)
        came.set()
        silence(wire)

    with FaultyPeer(behave) as faulty:
        bench = offline(destination("A", faulty.port, "PACS"))
        bench.change(**{"timeout-seconds": 600})
        bench.done_job("A")
        work = DeliveryWorkers(bench.context)
        work.start()
        assert came.wait(10)
        stopper = threading.Thread(target=work.stop)
        stopper.start()
        stopper.join(3)
        assert not stopper.is_alive()
    assert [each.unsure for each in bench.store.deliveries("waiting")] == [True, False, False, False, False]


def test_all_that_goes_out_is_marked_before_the_first_of_it_does(offline):
    marks = []

    def behave(wire):
        accept(wire)
        read_message(wire)
        marks.append([each.unsure for each in bench.store.deliveries()])

    with FaultyPeer(behave) as faulty:
        bench = offline(destination("A", faulty.port, "PACS"))
        bench.done_job("A")
        bench.deliver(lambda: marks)
    assert marks[0] == [True] * 5


def test_other_content_under_a_uid_that_is_there_is_sent_without_a_question(offline, archive):
    bench = offline(destination("A", archive.port, "ORTHANC"))
    job = bench.done_job("A")
    left_unsure(bench, UIDS, at=archive)
    with bench.store.transaction() as database:
        same = "study_id, rule, workflow, destinations, generation, state, created, changed"
        database.execute(f"INSERT INTO jobs (id, {same}) SELECT 'earlier', {same} FROM jobs")
        same = "destination, sop_instance_uid, path, created, changed"
        database.execute(
            f"INSERT INTO deliveries (job_id, state, content, {same}) "
            f"SELECT 'earlier', 'delivered', 'other', {same} FROM deliveries"
        )
    bench.deliver(lambda: bench.states() == {"delivered": 10})
    assert {each.status for each in bench.store.deliveries(job_id=job.id)} == {"0x0000"}
