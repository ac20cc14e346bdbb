"""Storage commitment that is refused, not answered, answered early, late, by others, or with failures."""

import contextlib
from io import BytesIO

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import generate_uid
from pynetdicom.dsutils import encode

from dicom_adapter.database.commitments import ask_again, to_commit
from dicom_adapter.delivery import commit_requests
from dicom_adapter.delivery.commit_requests import reporting
from dicom_adapter.delivery.commitment import CommitmentReport
from dicom_adapter.delivery.workers import DeliveryWorkers
from stages.runtime.retry import Backoff
from tests.dicom_adapter import faulty_peers
from tests.dicom_adapter.destinations import wait_until
from tests.dicom_adapter.faulty_peers import FaultyPeer, accept, number, pdu, read_message, stored
from tests.dicom_adapter.offline_adapter import destination

C_STORE, N_EVENT_REPORT, N_ACTION = 0x0001, 0x0100, 0x0130
MODEL = b"1.2.840.10008.1.20.1"
SOON = Backoff(first_s=0.05, longest_s=0.1)


@pytest.fixture(autouse=True)
def no_wait(monkeypatch):
    monkeypatch.setattr(commit_requests, "_REPORT_S", 0.1)


class Archive:
    """Takes everything; `action` answers requests for commitment, given the wire and what came."""

    def __init__(self, action):
        self.stored, self.asked, self._action = [], [], action

    def __call__(self, wire):
        accept(wire)
        with contextlib.suppress(EOFError):
            while True:
                context, fields, data = read_message(wire)
                if fields[0x0100] == number(C_STORE):
                    self.stored.append(fields[0x1000].rstrip(b"\0").decode())
                    wire.sendall(faulty_peers.message(context, stored(fields)))
                elif fields[0x0100] == number(N_ACTION):
                    asked = read_dataset(BytesIO(data), True, True)
                    self.asked.append(
                        [str(each.ReferencedSOPInstanceUID) for each in asked.ReferencedSOPSequence]
                    )
                    self._action(wire, context, fields, asked)
        wire.sendall(pdu(6, bytes(4)))


def acknowledge(wire, context, fields, asked, status=0):
    answer = {0x0100: number(0x8130), 0x0120: fields[0x0110], 0x0800: number(0x0101), 0x0900: number(status)}
    wire.sendall(faulty_peers.message(context, answer))


def report(wire, context, asked, *, failed=(), reason=0x0110, transaction=None):
    """Report all but some as kept, over the same association, and read the answer."""
    content = Dataset()
    content.TransactionUID = transaction or asked.TransactionUID
    kept = [each for each in asked.ReferencedSOPSequence if each.ReferencedSOPInstanceUID not in failed]
    content.ReferencedSOPSequence = kept
    lost = [each for each in asked.ReferencedSOPSequence if each.ReferencedSOPInstanceUID in failed]
    for each in lost:
        each.FailureReason = reason
    if lost:
        content.FailedSOPSequence = lost
    fields = {0x0002: MODEL, 0x0100: number(N_EVENT_REPORT), 0x0110: number(7), 0x0800: number(1)}
    fields |= {0x1000: b"1.2.840.10008.1.20.1.1", 0x1002: number(1 + bool(lost))}
    wire.sendall(faulty_peers.message(context, fields, encode(content, True, True)))
    return read_message(wire)[1]


@pytest.fixture
def deliver(offline):
    """Return what delivers two results to an archive until something is so, and the bench."""

    def deliver(archive, until, *, asking=SOON):
        with FaultyPeer(archive) as faulty:
            bench = offline(destination("A", faulty.port, "PACS", commitment=True))
            bench.done_job("A", results=2)
            work = DeliveryWorkers(bench.context, backoff=SOON, asking=asking)
            work.start()
            try:
                wait_until(lambda: until(bench), what="the delivery")
            finally:
                work.stop()
        return bench

    return deliver


def test_one_that_refuses_is_told_at_once_and_asked_again(deliver):
    archive = Archive(
        lambda w, c, f, asked: acknowledge(w, c, f, asked, status=0x0112 if len(archive.asked) < 3 else 0)
    )
    bench = deliver(archive, lambda bench: len(archive.asked) > 3)
    assert bench.states() == {"uncommitted": 2}
    assert len(archive.stored) == 2


def test_why_it_is_not_committed_stands_in_the_books_at_once(deliver):
    archive = Archive(lambda w, c, f, asked: acknowledge(w, c, f, asked, status=0x0112))
    bench = deliver(
        archive,
        lambda bench: "refused" in bench.store.deliveries()[0].message,
        asking=Backoff(first_s=60, jitter=0),
    )
    told = "A refused the request for storage commitment (0x0112); it is asked again in 60 s"
    assert {each.message for each in bench.store.deliveries()} == {told}


def test_one_that_does_not_report_is_told_of_while_it_is_waited_for(deliver):
    bench = deliver(
        Archive(acknowledge), lambda bench: "has not reported yet" in bench.store.deliveries()[0].message
    )
    assert bench.states() == {"uncommitted": 2}


def test_a_report_before_the_answer_to_the_request_counts(deliver):
    answered = []

    def action(wire, context, fields, asked):
        answered.append(report(wire, context, asked))
        acknowledge(wire, context, fields, asked)

    deliver(Archive(action), lambda bench: bench.states() == {"delivered": 2})
    assert answered[0][0x0900] == number(0)


def test_what_is_not_kept_is_sent_again_and_nothing_else(deliver):
    def action(wire, context, fields, asked):
        acknowledge(wire, context, fields, asked)
        report(wire, context, asked, failed=archive.stored[1:2] if len(archive.stored) == 2 else ())

    archive = Archive(action)
    deliver(archive, lambda bench: bench.states() == {"delivered": 2})
    assert archive.stored == [*archive.stored[:2], archive.stored[1]]
    assert archive.asked[1] == [archive.stored[1]]


def test_what_is_never_kept_is_a_dead_letter_after_five_times(deliver):
    def action(wire, context, fields, asked):
        acknowledge(wire, context, fields, asked)
        report(wire, context, asked, failed=archive.stored[:1])

    archive = Archive(action)
    bench = deliver(archive, lambda bench: bench.states() == {"delivered": 1, "dead": 1})
    assert archive.stored.count(archive.stored[0]) == 5
    assert bench.store.deliveries("dead")[0].message == "it is not kept (0x0110, processing failure)"


@pytest.mark.parametrize("reason", [0x0119, 0x0122])
def test_what_can_not_be_kept_is_a_dead_letter_at_once(deliver, reason):
    def action(wire, context, fields, asked):
        acknowledge(wire, context, fields, asked)
        report(wire, context, asked, failed=archive.stored[:1], reason=reason)

    archive = Archive(action)
    deliver(archive, lambda bench: bench.states() == {"delivered": 1, "dead": 1})
    assert len(archive.stored) == 2


def test_a_report_for_another_transaction_changes_nothing(deliver):
    def action(wire, context, fields, asked):
        acknowledge(wire, context, fields, asked)
        report(wire, context, asked, transaction=generate_uid() if len(archive.asked) < 3 else None)

    archive = Archive(action)
    deliver(archive, lambda bench: bench.states() == {"delivered": 2})
    assert len(archive.asked) == 3


def test_a_late_report_on_an_earlier_request_counts(offline):
    bench, work, first = asked_twice(offline)
    assert work.take_report(first, "PACS", "127.0.0.1")
    assert bench.states() == {"delivered": 2}


@pytest.mark.parametrize(("caller", "address"), [("OTHER", "127.0.0.1"), ("PACS", "10.0.0.9")])
def test_a_report_of_somebody_else_is_not_believed(offline, caller, address):
    bench, work, first = asked_twice(offline)
    assert not work.take_report(first, caller, address)
    assert bench.states() == {"uncommitted": 2}


def asked_twice(offline):
    """Return a bench with two results asked for twice, its delivery workers, and a report on the first."""
    bench = offline(destination("A", 104, "PACS", commitment=True))
    bench.done_job("A", results=2)
    uids = tuple(each.sop_instance_uid for each in bench.store.deliveries())
    with bench.store.transaction() as database:
        database.execute("UPDATE deliveries SET state = 'uncommitted', transaction_uid = '1.2.1 1.2.2'")
    return (
        bench,
        DeliveryWorkers(bench.context),
        CommitmentReport(transaction_uid="1.2.1", committed=uids, failed={}),
    )


def test_a_source_of_the_same_name_may_report_from_its_address(offline):
    bench = offline(destination("A", 104, "PACS", commitment=True))
    bench.settings["dicom"]["scp"]["sources"] = [{"ae-title": "PACS", "host-ip": "10.0.0.9"}]
    bench.change()
    assert reporting(bench.config, "PACS", "10.0.0.9") == ["A"]
    assert reporting(bench.config, "PACS", "::ffff:127.0.0.1") == ["A"]
    assert reporting(bench.config, "PACS", "10.0.0.8") == []


def test_what_may_have_arrived_is_asked_for_by_commitment_and_sent_after_three_unanswered(offline):
    """The archive answers no query, and no report tells whether what was under way has arrived."""
    archive = Archive(acknowledge)
    with FaultyPeer(archive) as faulty:
        bench = offline(destination("A", faulty.port, "PACS", commitment=True, query=False))
        bench.done_job("A", results=1)
        with bench.store.transaction() as database:
            database.execute("UPDATE deliveries SET unsure = 1")
        work = DeliveryWorkers(bench.context, backoff=SOON, asking=SOON)
        work.start()
        wait_until(lambda: archive.stored, what="sending again")
        work.stop()
    assert len(archive.asked) >= 3


def test_a_command_asks_again_at_once(offline):
    bench, _, _ = asked_twice(offline)
    with bench.store.transaction() as database:
        database.execute("UPDATE deliveries SET not_before = 1e12")
    (job,) = bench.store.jobs()
    assert to_commit(bench.store, "A", 0) == {}
    assert ask_again(bench.store, job.id) == 2
    assert len(to_commit(bench.store, "A", 0)[job.id]) == 2


def test_nothing_waits_for_a_destination_that_is_not_asked_for_commitment_any_more(offline):
    with FaultyPeer(Archive(acknowledge)) as archive:
        bench = offline(destination("PACS", archive.port, "PACS", commitment=True))
        bench.done_job("PACS", results=2)
        bench.deliver(lambda: bench.states() == {"uncommitted": 2})
        unsure, _ = bench.store.deliveries("uncommitted")
        with bench.store.transaction() as database:
            database.execute("UPDATE deliveries SET unsure = 1 WHERE id = ?", (unsure.id,))
        bench.change(destinations=[destination("PACS", archive.port, "PACS", query=False)])
        bench.deliver(lambda: bench.states() == {"delivered": 2})
