"""Results on their way to real archives, with destinations that are down, slow, refusing or dying."""

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import threading

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicom_adapter.database.set_aside import all_items
from dicom_adapter.delivery.commitment import handle_report
from dicom_adapter.delivery.workers import DeliveryWorkers
from stages.runtime.retry import Backoff
from tests.dicom_adapter.certificates import secured
from tests.dicom_adapter.destinations import Storescp, Wire, free_port, wait_until
from tests.dicom_adapter.offline_adapter import destination
from tests.dicom_adapter.reports import told_by
from tests.dicom_adapter.workflows import ROOT

UIDS = sorted(f"1.2.3.1.77.{n + 1}" for n in range(5))


def test_every_result_reaches_each_destination_once_and_the_books_and_the_trail_say_so(
    offline, archive, tmp_path
):
    with Storescp(tmp_path / "got") as other:
        bench = offline(
            destination("A", archive.port, "ORTHANC"),
            destination("B", other.port, "STORESCP"),
            {"name": "W", "dicomweb": archive.url + "/dicom-web"},
        )
        bench.done_job("A", "B", "W")
        bench.deliver(lambda: bench.states() == {"delivered": 15})
        assert archive.instances() == UIDS
        assert len(other.files()) == 5
    assert {(each.status, each.tries) for each in bench.store.deliveries()} == {
        ("0x0000", 1),
        ("HTTP 200", 1),
    }
    told = [json.loads(line) for line in (bench.folder / "audit.jsonl").read_text().splitlines()]
    assert [each["EventIdentification"]["EventOutcomeIndicator"] for each in told] == [0, 0, 0]


def test_one_that_is_down_is_waited_for_and_keeps_no_other_waiting(offline, tmp_path):
    port = free_port()
    with Storescp(tmp_path / "b") as other:
        bench = offline(destination("DOWN", port, "STORESCP"), destination("UP", other.port, "STORESCP"))
        bench.done_job("DOWN", "UP")
        bench.deliver(lambda: bench.states("UP") == {"delivered": 5})
        assert bench.states("DOWN") == {"waiting": 5}
        assert "cannot be reached" in bench.store.deliveries(destination="DOWN")[0].message
        with Storescp(tmp_path / "a", port=port):
            bench.deliver(lambda: bench.states("DOWN") == {"delivered": 5})
    assert len(list((tmp_path / "a").iterdir())) == 5


def test_a_result_whose_row_cannot_be_changed_is_set_aside_and_the_others_are_delivered(offline, tmp_path):
    with Storescp(tmp_path / "got") as other:
        bench = offline(destination("A", other.port, "STORESCP"))
        bench.done_job("A")
        with bench.store.transaction() as database:
            database.execute(
                "CREATE TRIGGER broken BEFORE UPDATE ON deliveries WHEN OLD.id = 2 "
                "BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        bench.deliver(lambda: bench.states() == {"delivered": 4, "waiting": 1} and all_items(bench.store))
    assert [(each.kind, each.item) for each in all_items(bench.store)] == [("delivery", "2")]
    assert bench.store.due("A", 1e12) == []


def test_one_that_is_slow_keeps_no_other_waiting(offline, archive):
    with Wire(archive.port, delay_s=0.15) as slow:
        bench = offline(
            destination("SLOW", slow.port, "ORTHANC"), destination("FAST", archive.port, "ORTHANC")
        )
        bench.done_job("SLOW", "FAST")
        bench.deliver(lambda: bench.states("FAST") == {"delivered": 5})
        assert bench.states("SLOW").get("delivered", 0) < 5
        bench.deliver(lambda: bench.states("SLOW") == {"delivered": 5})


@pytest.mark.parametrize("cuts", [[100], [3000], [3000, 2000, 1500, 2500]])
def test_one_that_dies_half_way_gets_the_rest_later_and_nothing_twice_as_two(offline, archive, cuts):
    with Wire(archive.port, cut_after=cuts) as wire:
        bench = offline(destination("A", wire.port, "ORTHANC"))
        bench.done_job("A")
        bench.deliver(lambda: bench.states() == {"delivered": 5})
        assert archive.instances() == UIDS
        assert wire.cut


def answering(status, *, calls):
    """Return a server that answers every C-STORE with a status."""
    entity = AE(ae_title="PACS")
    entity.add_supported_context("1.2.840.10008.5.1.4.1.1.2")

    def store(event):
        calls.append(event.request.AffectedSOPInstanceUID)
        return status(len(calls)) if callable(status) else status

    return entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])


def test_one_that_refuses_for_good_makes_dead_letters_after_five_tries_which_a_replay_sends(offline):
    calls = []
    server = answering(lambda n: 0xC000 if n <= 5 else 0, calls=calls)
    try:
        bench = offline(destination("A", server.server_address[1], "PACS"))
        job = bench.done_job("A", results=1)
        bench.deliver(lambda: bench.states() == {"dead": 1})
        assert len(calls) == 5
        assert (
            bench.store.deliveries()[0].message == "A refused it (0xC000, it cannot understand the data set)"
        )
        bench.store.replay(job.id)
        bench.deliver(lambda: bench.states() == {"delivered": 1})
    finally:
        server.shutdown()


def test_one_that_is_out_of_resources_is_asked_again_until_it_is_not(offline):
    calls = []
    server = answering(lambda n: 0xA700 if n <= 8 else 0, calls=calls)
    try:
        bench = offline(destination("A", server.server_address[1], "PACS"))
        bench.done_job("A", results=1)
        bench.deliver(lambda: bench.states() == {"delivered": 1})
        assert len(calls) == 9
    finally:
        server.shutdown()


def test_an_answer_that_it_is_busy_is_no_refusal(offline):
    calls = []
    answers = {**dict.fromkeys(range(1, 5), 0xA700), 5: 0xC000, 6: 0xC000}
    server = answering(lambda n: answers.get(n, 0), calls=calls)
    try:
        bench = offline(destination("A", server.server_address[1], "PACS"))
        bench.done_job("A", results=1)
        bench.deliver(lambda: bench.states() == {"delivered": 1})
        assert len(calls) == 7
    finally:
        server.shutdown()


@pytest.mark.parametrize("client", ["client", "stranger", None])
def test_a_destination_that_asks_for_a_certificate_gets_ours(offline, certificates, tmp_path, client):
    with Storescp(tmp_path / "got", *secured(certificates, "server", "client")) as archive:
        tls = {"authorities": str(certificates / "server.pem")}
        if client:
            tls |= {"certificate": f"{certificates}/{client}.pem", "key": f"{certificates}/{client}.key"}
        bench = offline(destination("A", archive.port, "STORESCP", tls=tls))
        bench.done_job("A")
        if client == "client":
            bench.deliver(lambda: bench.states() == {"delivered": 5})
        else:
            bench.deliver(lambda: bench.store.deliveries()[0].message)
        assert len(archive.files()) == (5 if client == "client" else 0)


def test_a_destination_with_a_certificate_that_we_do_not_trust_gets_nothing(offline, certificates, tmp_path):
    with Storescp(tmp_path / "got", *secured(certificates, "server", "client")) as archive:
        tls = {
            "authorities": str(certificates / "stranger.pem"),
            "certificate": str(certificates / "client.pem"),
            "key": str(certificates / "client.key"),
        }
        bench = offline(destination("A", archive.port, "STORESCP", tls=tls))
        bench.done_job("A")
        bench.deliver(lambda: bench.store.deliveries()[0].message)
        assert bench.states() == {"waiting": 5}
        assert archive.files() == []


def test_what_nobody_took_for_too_long_is_a_dead_letter_and_is_not_lost(offline):
    bench = offline(destination("A", free_port(), "NOBODY"))
    job = bench.done_job("A", results=2)
    bench.change(**{"give-up-hours": 0.0001})
    bench.deliver(lambda: bench.states() == {"dead": 2})
    message = bench.store.deliveries()[0].message
    assert message.startswith("given up after 0.0001 hours")
    assert bench.store.finished_studies(0) == []
    bench.change(**{"give-up-hours": 1})
    bench.store.replay(job.id)
    assert bench.states() == {"waiting": 2}


def test_a_result_whose_file_is_gone_is_a_dead_letter_and_the_others_go_out(offline, tmp_path):
    with Storescp(tmp_path / "got") as archive:
        bench = offline(destination("A", archive.port, "STORESCP"))
        bench.done_job("A")
        bench.store.deliveries()[2].path.unlink()
        bench.deliver(lambda: bench.states() == {"delivered": 4, "dead": 1})


def test_certificates_that_are_not_there_are_told_and_lose_nothing(offline, tmp_path):
    tls = {"certificate": str(tmp_path / "none.pem")}
    bench = offline(destination("A", free_port(), "PACS", tls=tls))
    bench.done_job("A")
    bench.deliver(lambda: "cannot be used" in bench.store.deliveries()[0].message)
    assert bench.states() == {"waiting": 5}


def test_logs_and_the_trail_name_no_patient_and_no_study(offline, tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "dicom_adapter")
    with Storescp(tmp_path / "got") as archive:
        bench = offline(destination("A", archive.port, "STORESCP"), destination("B", free_port(), "X"))
        bench.done_job("A", "B")
        bench.deliver(lambda: bench.states("A") == {"delivered": 5})
    told = caplog.text + (bench.folder / "audit.jsonl").read_text()
    assert "Doe" not in told
    assert "P-1" not in told
    assert "1.2.3.1" not in told


# Storage commitment


@pytest.fixture
def takers(report_port):
    """Return the list of those who get what is reported to CLARA."""
    takers = []

    def handle(event):
        return handle_report(*told_by(event), lambda *told: all([take(*told) for take in takers])), None

    entity = AE(ae_title="CLARA")
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    handlers = [(evt.EVT_N_EVENT_REPORT, handle)]
    server = entity.start_server(("127.0.0.1", report_port), block=False, evt_handlers=handlers)
    yield takers
    server.shutdown()


def test_a_destination_that_commits_itself_makes_results_delivered(offline, archive, takers):
    bench = offline(destination("A", archive.port, "ORTHANC", commitment=True))
    bench.done_job("A")
    takers.append(DeliveryWorkers(bench.context).take_report)
    bench.deliver(lambda: bench.states() == {"delivered": 5})
    assert {each.status for each in bench.store.deliveries()} == {"committed"}


def test_what_a_destination_has_lost_is_sent_again(offline, archive, takers):
    """The first report says that one is lost, and so it is."""
    bench = offline(destination("A", archive.port, "ORTHANC", commitment=True))
    bench.done_job("A")
    lost = []

    def lose_one(report, caller, address):
        if not lost:
            lost.append(report.committed[0])
            archive.delete(*lost)
            kept = report.committed[1:]
            report = dataclasses.replace(report, committed=kept, failed={lost[0]: 0x0112})
        return DeliveryWorkers(bench.context).take_report(report, caller, address)

    takers.append(lose_one)
    bench.deliver(lambda: bench.states() == {"delivered": 5})
    assert archive.instances() == UIDS
    assert len(lost) == 1


def test_without_a_report_nothing_counts_as_delivered(offline, tmp_path):
    with Storescp(tmp_path / "got") as archive:
        bench = offline(destination("A", archive.port, "STORESCP", commitment=True))
        bench.done_job("A")
        bench.deliver(lambda: bench.states() == {"uncommitted": 5})
    assert bench.store.finished_studies(0) == []


# Killed

SCRIPT = """
import sys, time, json
from pathlib import Path
from tests.dicom_adapter.offline_adapter import OfflineAdapter, destination
from dicom_adapter.delivery.workers import DeliveryWorkers
bench = OfflineAdapter(Path(sys.argv[1]), destination("A", int(sys.argv[2]), "ORTHANC"))
DeliveryWorkers(bench.context).start()
print("started", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_killed_at_any_moment_of_a_delivery_it_ends_with_each_result_there_once(offline, archive):
    """Eight kills, a little later each time, from before the association to after the last answer."""
    with Wire(archive.port, delay_s=0.02) as wire:
        bench = offline(destination("A", wire.port, "ORTHANC"))
        jobs = 4
        for n in range(jobs):
            bench.done_job("A", study_uid=f"1.2.{n + 10}")
        for n in range(8):
            killed = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(bench.folder), str(wire.port)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                text=True,
            )
            assert killed.stdout.readline() == "started\n"
            threading.Event().wait(0.05 * n)
            killed.send_signal(signal.SIGKILL)
            killed.wait()
            killed.stdout.close()
            known = set(archive.instances())
            marked = {each.sop_instance_uid for each in bench.store.deliveries("delivered")}
            assert marked <= known, "the database says delivered, and the archive has it not"
        bench.deliver(lambda: bench.states() == {"delivered": 5 * jobs}, backoff=Backoff(first_s=0.1))
        assert len(archive.instances()) == 5 * jobs


def test_a_stop_ends_after_the_instance_that_is_being_sent(offline, archive):
    with Wire(archive.port, delay_s=0.1) as wire:
        bench = offline(destination("A", wire.port, "ORTHANC"))
        bench.done_job("A")
        bench.deliver(lambda: bench.states().get("delivered"))
        sent = bench.states()["delivered"]
        assert sent < 5
        wait_until(lambda: len(archive.instances()) >= sent)
