"""Results on their way: a courier for each destination, so that a dead one never keeps another waiting.

A delivery stands in the books before anything is sent and is marked right after the destination's Success. A
crash between the two sends an instance again: with the same SOPInstanceUID and content, so that the
destination keeps it once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pydicom.uid import generate_uid

from dicom_adapter.books import delivery_books as books
from dicom_adapter.books.insist import insist
from dicom_adapter.books.records import Delivery
from dicom_adapter.books.set_aside import items_of, set_aside
from dicom_adapter.books.store import StateError
from dicom_adapter.config_blocks import Destination
from dicom_adapter.deadline import Deadline
from dicom_adapter.delivering.answers import Answer, DestinationError
from dicom_adapter.delivering.commitment import Report, request_commitment
from dicom_adapter.delivering.results import Result, read_result
from dicom_adapter.delivering.senders import address_of, peer_of, sender_to
from dicom_adapter.retry import Backoff
from dicom_adapter.running.jobs import PATIENCE, Surroundings
from dicom_adapter.supervisor import (
    adopt,
    is_of_surroundings,
    reason_of,
    sign_of_life,
    stop_all,
    traceback_of,
    worker_here,
)
from dicom_adapter.watching.pseudonym import study_hash
from stages.errors import OutputError

logger = logging.getLogger(__name__)

_LOOK_S = 0.5
_REFUSALS = 5  # of one instance, before it is a dead letter
_BACKOFF = Backoff(first_s=5.0, longest_s=900.0)
_BURIAL_S = 2.0
_ASK_AGAIN_S = 3600.0
_STOP_S = 10.0
_REPORT_S = 2.0  # how long the association stays open for the report


class Couriers:
    """All couriers, one for each destination of the configuration; new ones come with a new configuration."""

    def __init__(self, around: Surroundings, *, backoff: Backoff = _BACKOFF) -> None:
        self._around, self._backoff = around, backoff
        self._couriers: dict[str, Courier] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin, and take over destinations that are new in the configuration."""
        with self._lock:
            for each in self._around.config().dicom.scu.destinations:
                if each.name not in self._couriers:
                    self._couriers[each.name] = Courier(each.name, self._around, self._backoff)
                    self._couriers[each.name].start()
        self.wake()

    def wake(self) -> None:
        """Look for deliveries at once."""
        for each in list(self._couriers.values()):
            each.wake()

    def ask_to_stop(self) -> None:
        """Stop soon, after the instance that is being sent."""
        for each in self._couriers.values():
            each.ask_to_stop()

    def stop(self, deadline: Deadline | None = None) -> list[str]:
        """Stop, and return the names of threads that have not ended in time."""
        self.ask_to_stop()
        return stop_all([each.worker for each in self._couriers.values()], deadline or Deadline(_STOP_S))

    def take_report(self, report: Report) -> None:
        """Write down what a destination reports on a request for commitment."""
        failed = {uid: f"not kept (0x{reason:04X})" for uid, reason in report.failed.items()}
        kept, lost = insist(
            lambda: books.take_report(self._around.store, report.transaction_uid, report.committed, failed)
        )
        logger.info("a destination commits itself to keep %d results, and has lost %d", kept, lost)
        if lost:
            self.wake()


class Courier:
    """What sends to one destination, one batch after the other, until it is told to stop."""

    def __init__(self, name: str, around: Surroundings, backoff: Backoff) -> None:
        self._name, self._around, self._backoff = name, around, backoff
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._failures, self._not_before, self._next_burial = 0, 0.0, 0.0
        self.worker = around.supervisor.worker(f"delivery to {name}", self._work, patience=PATIENCE)

    def start(self) -> None:
        """Begin."""
        self.worker.start()

    def wake(self) -> None:
        """Look for deliveries at once."""
        self._wake.set()

    def ask_to_stop(self) -> None:
        """Stop soon."""
        self._stopping.set()
        self._wake.set()

    def _work(self) -> None:
        self._wake.clear()
        destination = self._destination()
        if destination is not None:
            self._look(destination)
        self._wake.wait(_LOOK_S)

    def _destination(self) -> Destination | None:
        found = self._around.config().dicom.scu.destinations
        return next((each for each in found if each.name == self._name), None)

    def _look(self, destination: Destination) -> None:
        at = self._around.clock()
        if at < self._not_before:
            return
        self._bury()
        due = self._around.store.due(self._name, at)
        if due:
            self._deliver(destination, due)
        elif destination.commitment and not destination.dicomweb:
            aside = items_of(self._around.store, "delivery")
            for deliveries in books.to_commit(self._around.store, self._name, at).values():
                if asked := [each for each in deliveries if str(each.id) not in aside]:
                    self._ask_or_set_aside(destination, asked)

    def _bury(self) -> None:
        """Give up what has waited for too long, which is looked for now and then."""
        if self._around.clock() < self._next_burial:
            return
        self._next_burial = self._around.clock() + _BURIAL_S
        hours = self._around.config().dicom.scu.give_up_hours
        oldest = self._around.clock() - hours * 3600
        reason = f"given up after {hours:g} hours"
        if count := books.bury_older(self._around.store, self._name, oldest, reason=reason):
            logger.error("%d results for %s are dead letters: it never took them", count, self._name)

    def _deliver(self, destination: Destination, due: Sequence[Delivery]) -> None:
        by_job: dict[str, list[Delivery]] = {}
        for each in due:
            by_job.setdefault(each.job_id, []).append(each)
        at_once = self._around.config().dicom.scu.max_associations
        with ThreadPoolExecutor(
            at_once, f"to {self._name}", initializer=adopt, initargs=(worker_here(),)
        ) as pool:
            for done in [pool.submit(self._send_or_set_aside, destination, b) for b in by_job.values()]:
                done.result()

    def _send_or_set_aside(self, destination: Destination, batch: Sequence[Delivery]) -> None:
        """Send the results of one job; what fails in a way that nobody foresaw is set aside by itself."""
        try:
            self._send(destination, batch)
        except Exception as error:  # a border: one result harms no other
            if is_of_surroundings(error):
                raise
            ids = {each.id for each in self._around.store.deliveries("waiting", job_id=batch[0].job_id)}
            waiting = [each for each in batch if each.id in ids]
            if len(batch) > 1:
                for each in waiting:
                    self._send_or_set_aside(destination, [each])
            elif waiting:
                self._set_aside(waiting, error)

    def _ask_or_set_aside(self, destination: Destination, deliveries: Sequence[Delivery]) -> None:
        try:
            self._ask(destination, deliveries)
        except Exception as error:  # a border, as above
            if is_of_surroundings(error):
                raise
            self._set_aside(deliveries, error)

    def _set_aside(self, deliveries: Sequence[Delivery], error: Exception) -> None:
        job = deliveries[0].job_id
        logger.error(
            "a result of job %s cannot be delivered to %s (%s)",
            *(job, self._name, reason_of(error)),
            extra={"job": job},
            exc_info=traceback_of(error),
        )
        for each in deliveries:
            set_aside(self._around.store, "delivery", each.id, reason=reason_of(error))

    def _send(self, destination: Destination, batch: Sequence[Delivery]) -> None:
        """Send the results of one job, and write down what became of each."""
        if self._stopping.is_set() or self._around.clock() < self._not_before:
            return
        waiting = {each.sop_instance_uid: each for each in batch}
        accepted = 0

        def told(result: Result, answer: Answer) -> None:
            nonlocal accepted
            sign_of_life()
            delivery = waiting.pop(result.sop_instance_uid)
            accepted += answer.verdict == "accepted"
            self._write_down(destination, delivery, answer)
            if self._stopping.is_set():
                raise _StoppedError

        results = [found for each in batch if (found := self._readable(destination, each, waiting))]
        try:
            if results:
                sender_to(destination, self._around.config().dicom.scu).send(results, told)
            self._failures = 0
        except _StoppedError:
            logger.info("sending to %s stops, and goes on after the restart", self._name)
        except DestinationError as error:
            self._put_off(list(waiting.values()), str(error))
        self._tell(destination, batch, accepted)

    def _readable(
        self, destination: Destination, delivery: Delivery, waiting: dict[str, Delivery]
    ) -> Result | None:
        try:
            return read_result(delivery.path)
        except OutputError as error:
            del waiting[delivery.sop_instance_uid]
            answer = Answer(verdict="refused", status="file", message=str(error))
            self._write_down(destination, delivery, answer)
            return None

    def _write_down(self, destination: Destination, delivery: Delivery, answer: Answer) -> None:
        self._around.metrics.deliveries.labels(self._name, answer.verdict).inc()
        commits = destination.commitment and not destination.dicomweb
        tries = delivery.tries + 1
        refusals = delivery.refusals + (answer.verdict == "refused")
        more: dict[str, object] = {
            "tries": tries,
            "refusals": refusals,
            "status": answer.status,
            "message": answer.message,
        }
        if answer.verdict == "accepted":
            state = "uncommitted" if commits else "delivered"
        elif refusals >= _REFUSALS:
            state = "dead"
            logger.error("a result of job %s is a dead letter: %s", delivery.job_id, answer.message)
        else:
            state = "waiting"
            more["not_before"] = self._around.clock() + self._backoff.wait_s(tries)
        try:
            insist(
                lambda: self._around.store.move_delivery(delivery.id, state, **more),
                until=self._stopping.is_set,
            )
        except StateError:
            logger.info("a result of job %s went out, and was superseded meanwhile", delivery.job_id)

    def _put_off(self, waiting: Sequence[Delivery], message: str) -> None:
        self._around.metrics.destination_errors.labels(self._name).inc()
        not_before = self._pause(message)
        insist(
            lambda: books.put_off(self._around.store, waiting, message=message, not_before=not_before),
            until=self._stopping.is_set,
        )

    def _pause(self, why: str) -> float:
        """Leave the destination alone for a while, longer each time in a row; return until when."""
        self._failures += 1
        wait_s = self._backoff.wait_s(self._failures)
        self._not_before = self._around.clock() + wait_s
        logger.warning("%s; trying again in %.0f s", why, wait_s)
        return self._not_before

    def _tell(self, destination: Destination, batch: Sequence[Delivery], accepted: int) -> None:
        job = insist(lambda: self._around.store.job(batch[0].job_id))
        study = study_hash(insist(lambda: self._around.store.study(job.study_id)).study_uid)
        logger.info(
            "%d of %d results of job %s delivered to %s",
            *(accepted, len(batch), job.id, self._name),
            extra={"job": job.id, "study": study},
        )
        self._around.trail.sent(
            study=study,
            job=job.id,
            destination=destination.ae_title,
            address=address_of(destination),
            instances=accepted,
            outcome=0 if accepted == len(batch) else 4 if accepted else 8,
        )

    def _ask(self, destination: Destination, deliveries: Sequence[Delivery]) -> None:
        """Ask for commitment; a request that is lost or not answered is made anew later."""
        transaction = str(generate_uid(prefix=None))
        store = self._around.store
        books.ask(store, deliveries, transaction, not_before=self._around.clock() + _ASK_AGAIN_S)

        def on_report(report: Report) -> None:
            failed = {uid: f"not kept (0x{reason:04X})" for uid, reason in report.failed.items()}
            books.take_report(store, report.transaction_uid, report.committed, failed)

        try:
            request_commitment(
                peer_of(destination, self._around.config().dicom.scu),
                [read_result(each.path) for each in deliveries],
                transaction,
                on_report=on_report,
                wait_s=_REPORT_S,
            )
        except (DestinationError, OutputError) as error:
            self._around.metrics.destination_errors.labels(self._name).inc()
            logger.warning("%s; storage commitment is asked for again later", error)


class _StoppedError(Exception):
    """The adapter stops."""
