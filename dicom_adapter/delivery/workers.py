"""Results on their way: a courier for each destination, so that a dead one never keeps another waiting.

A delivery stands in the books before anything is sent and is marked right after the destination's Success.
What goes out is marked before, once for all that goes together: after a crash, or an answer that was lost,
the destination is asked whether it has what may have arrived, and gets it again only where it has not, or
cannot be asked. It has the same SOPInstanceUID and content then, so that it is kept once.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Iterator, Sequence

from clara_wf.report.logs import without_uids
from dicom_adapter.config.blocks import Destination
from dicom_adapter.database import deliveries as books
from dicom_adapter.database.records import Delivery
from dicom_adapter.database.retry_while_locked import insist
from dicom_adapter.database.set_aside import set_aside
from dicom_adapter.database.store import StateError
from dicom_adapter.delivery.answers import Answer, DestinationError, Told
from dicom_adapter.delivery.commit_requests import REFUSALS, CommitRequests, commits
from dicom_adapter.delivery.commitment import Report
from dicom_adapter.delivery.connection import Connections
from dicom_adapter.delivery.senders import address_of, found_at, sender_to
from dicom_adapter.jobs.job_queue import PATIENCE, Surroundings
from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.storage.results import Result, read_result
from dicom_adapter.supervision.backoff import Backoff
from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.supervisor import (
    Worker,
    adopt,
    is_of_surroundings,
    reason_of,
    sign_of_life,
    stop_all,
    traceback_of,
    worker_here,
)
from stages.errors import OutputError

logger = logging.getLogger(__name__)

_LOOK_S = 0.5
_BACKOFF = Backoff(first_s=5.0, longest_s=900.0)
_ASKING = Backoff(first_s=60.0, longest_s=3600.0)
_BURIAL_S = 2.0
_FAILED_QUESTIONS = 2  # in a row, after which what may have arrived is sent again
_STOP_S, _END_S = 3.0, 2.0  # for what is being sent; for what is ended then
_DUPLICATE = "0x0111"


class Couriers:
    """All couriers, one for each destination of the configuration; new ones come with a new configuration.

    Parameters
    ----------
    backoff
        How long to wait before something is sent again.
    asking
        How long to wait for a report on storage commitment before it is asked for again.
    """

    def __init__(
        self, around: Surroundings, *, backoff: Backoff = _BACKOFF, asking: Backoff = _ASKING
    ) -> None:
        self._around, self._backoff = around, backoff
        self._requests = CommitRequests(around, asking=asking, sending=backoff)
        self._couriers: dict[str, Courier] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin, and take over destinations that are new in the configuration."""
        with self._lock:
            for each in self._around.config().dicom.scu.destinations:
                if each.name not in self._couriers:
                    courier = Courier(each.name, self._around, self._backoff, self._requests)
                    self._couriers[each.name] = courier
                    courier.start()
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
        """Stop after the instance that is being sent, or in the middle of it where that takes too long.

        Returns
        -------
        list of str
            The names of threads that have not ended in time.
        """
        self.ask_to_stop()
        couriers = list(self._couriers.values())
        workers = [each.worker for each in couriers]
        left_s = deadline.left_s() if deadline else _STOP_S + _END_S
        if stop_all(workers, Deadline(min(_STOP_S, left_s / 2))):
            for each in couriers:
                each.end()
        return stop_all(workers, deadline or Deadline(_END_S))

    def take_report(self, report: Report, caller: str, address: str) -> bool:
        """Write down what a destination reports on a request for commitment, and return whether it is one.

        Parameters
        ----------
        caller, address
            AE title and address of who reports.
        """
        is_believed, lost = self._requests.take_report(report, caller, address)
        if lost:
            self.wake()
        return is_believed


class Courier:
    """What sends to one destination, one batch after the other, until it is told to stop."""

    def __init__(self, name: str, around: Surroundings, backoff: Backoff, requests: CommitRequests) -> None:
        self._name, self._around, self._backoff, self._requests = name, around, backoff, requests
        self._connections = Connections()
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

    def end(self) -> None:
        """End what is being sent."""
        self._connections.end()

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
        if not commits(destination) and (count := books.without_commitment(self._around.store, self._name)):
            logger.info(
                "%d results waited for the commitment of %s, which is not asked for any more",
                *(count, self._name),
            )
        due = self._around.store.due(self._name, at)
        if due:
            self._deliver(destination, due)
        elif commits(destination):
            self._requests.ask_due(destination, self._connections, set_aside=self._set_aside)

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
        """Send the results of several jobs at once, over an association for each."""
        by_job: dict[str, list[Delivery]] = {}
        for each in due:
            by_job.setdefault(each.job_id, []).append(each)
        batches, worker = iter([*by_job.values()]), worker_here()
        errors: list[Exception] = []
        at_once = min(self._around.config().dicom.scu.max_associations, len(by_job))
        threads = [
            threading.Thread(
                target=self._send_each,
                args=(destination, batches, worker, errors),
                name=f"to {self._name} {n}",
                daemon=True,
            )
            for n in range(at_once)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _send_each(
        self,
        destination: Destination,
        batches: Iterator[Sequence[Delivery]],
        worker: Worker | None,
        errors: list[Exception],
    ) -> None:
        """Send batches, each of which is taken by one of several threads."""
        adopt(worker)
        try:
            for batch in batches:
                self._send_or_set_aside(destination, batch)
        except Exception as error:  # raised again in the worker's own thread
            errors.append(error)

    def _send_or_set_aside(self, destination: Destination, batch: Sequence[Delivery]) -> None:
        """Send the results of one job; what fails in a way that nobody foresaw is set aside by itself."""
        try:
            self._send(destination, batch)
        except Exception as error:  # a border: one result harms no other
            if is_of_surroundings(error):
                raise
            left = {
                each.id: each for each in self._around.store.deliveries("waiting", job_id=batch[0].job_id)
            }
            waiting = [left[each.id] for each in batch if each.id in left]  # with what may have arrived
            if len(batch) > 1:
                for each in waiting:
                    self._send_or_set_aside(destination, [each])
            elif waiting:
                self._set_aside(waiting, error)

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
            accepted += self._write_down(destination, delivery, answer) == "accepted"
            if self._stopping.is_set():
                raise _StoppedError

        results = [found for each in batch if (found := self._readable(destination, each, waiting))]
        try:
            self._ask_first(destination, results, waiting, told)
            left = [each for each in results if each.sop_instance_uid in waiting]
            if left:
                insist(lambda: books.mark_as_sending(self._around.store, waiting.values()))
                scu = self._around.config().dicom.scu
                sender_to(destination, scu, self._connections).send(left, told)
            self._failures = 0
        except _StoppedError:
            self._stop_halfway(waiting, "")
        except DestinationError as error:
            if self._stopping.is_set():
                self._stop_halfway(waiting, error.in_flight)
            else:
                self._put_off(waiting, error)
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

    def _ask_first(
        self,
        destination: Destination,
        results: Sequence[Result],
        waiting: dict[str, Delivery],
        told: Told,
    ) -> None:
        """Ask whether what may have arrived is there; what is not asked for, or is not there, waits on."""
        unsure = [each for each in results if self._is_askable(waiting[each.sop_instance_uid])]
        if not unsure:
            return
        found = self._found(destination, unsure)
        if found is None and commits(destination):
            for each in unsure:
                delivery = waiting.pop(each.sop_instance_uid)
                self._move(delivery, "uncommitted", not_before=0)
            return
        logger.info(
            "%d results may have arrived at %s; %s",
            *(len(unsure), self._name),
            "it cannot be asked, and they are sent again" if found is None else f"it has {len(found)}",
        )
        if found is None:
            return
        for each in unsure:
            uid = each.sop_instance_uid
            if uid in found:
                told(each, Answer(verdict="accepted", status="found"))
            else:
                waiting[uid] = dataclasses.replace(waiting[uid], unsure=False)

    def _is_askable(self, delivery: Delivery) -> bool:
        return delivery.unsure and not books.has_other_content(self._around.store, delivery)

    def _found(self, destination: Destination, results: Sequence[Result]) -> set[str] | None:
        """Return which results a destination has; None if it is not asked."""
        if not destination.query:
            return None
        try:
            return found_at(destination, self._around.config().dicom.scu, self._connections, results)
        except DestinationError:
            if self._failures < _FAILED_QUESTIONS:
                raise
            return None  # what is wrong may be the question

    def _write_down(self, destination: Destination, delivery: Delivery, answer: Answer) -> str:
        """Write down what a destination has said of a result, and return its verdict."""
        if answer.status == _DUPLICATE and delivery.unsure:
            answer = dataclasses.replace(answer, verdict="accepted", message="")
        message = without_uids(answer.message)
        self._around.metrics.deliveries.labels(self._name, answer.verdict).inc()
        tries = delivery.tries + 1
        refusals = delivery.refusals + (answer.verdict == "refused")
        more: dict[str, object] = {
            "tries": tries,
            "refusals": refusals,
            "status": answer.status,
            "message": message,
            "unsure": answer.may_be_there,
        }
        if answer.verdict == "accepted":
            state = "uncommitted" if commits(destination) else "delivered"
        elif refusals >= REFUSALS:
            state = "dead"
            logger.error("a result of job %s is a dead letter: %s", delivery.job_id, message)
        else:
            state = "waiting"
            more["not_before"] = self._around.clock() + self._backoff.wait_s(tries)
        self._move(delivery, state, **more)
        return answer.verdict

    def _move(self, delivery: Delivery, state: str, **more: object) -> None:
        try:
            insist(
                lambda: self._around.store.move_delivery(delivery.id, state, **more),
                until=self._stopping.is_set,
            )
        except StateError:
            logger.info("a result of job %s went out, and was superseded meanwhile", delivery.job_id)

    def _put_off(self, waiting: dict[str, Delivery], error: DestinationError) -> None:
        self._around.metrics.destination_errors.labels(self._name).inc()
        message = without_uids(str(error))
        self._leave(waiting, error.in_flight, message=message, not_before=self._pause(message))

    def _stop_halfway(self, waiting: dict[str, Delivery], in_flight: str) -> None:
        self._leave(waiting, in_flight, message=None, not_before=0)
        logger.info("sending to %s stops, and goes on after the restart", self._name)

    def _leave(
        self, waiting: dict[str, Delivery], in_flight: str, *, message: str | None, not_before: float
    ) -> None:
        """Let results wait, those that may have arrived marked."""
        unsure = {each.id for uid, each in waiting.items() if each.unsure or uid == in_flight}
        insist(
            lambda: books.put_off(
                *(self._around.store, waiting.values()),
                message=message,
                not_before=not_before,
                unsure=unsure,
            ),
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


class _StoppedError(Exception):
    """The adapter stops."""
