"""Delivery workers: one for each destination, so that a dead one never keeps another waiting.

A delivery stands in the database before anything is sent (`dicom_adapter.delivery.batch`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence

from dicom_adapter.config.dicom_blocks import Destination
from dicom_adapter.context import PATIENCE, AdapterContext
from dicom_adapter.database.commitments import without_commitment
from dicom_adapter.database.deliveries import dead_letter_older
from dicom_adapter.database.records import DeliveryRecord
from dicom_adapter.database.set_aside import set_aside
from dicom_adapter.delivery.batch import BatchSender
from dicom_adapter.delivery.commit_requests import CommitRequests, commits
from dicom_adapter.delivery.commitment import CommitmentReport
from dicom_adapter.delivery.connection import DestinationConnections
from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.failures import is_resource_error, reason_of, traceback_of
from dicom_adapter.supervision.supervisor import stop_all
from dicom_adapter.supervision.worker import Worker, current_worker, work_for
from stages.runtime.retry import Backoff

logger = logging.getLogger(__name__)

_LOOK_S = 0.5
_BACKOFF = Backoff(first_s=5.0, longest_s=900.0)
_ASKING = Backoff(first_s=60.0, longest_s=3600.0)
_GIVE_UP_EVERY_S = 2.0
_STOP_S, _END_S = 3.0, 2.0  # for what is being sent; for what is ended then


class DeliveryWorkers:
    """All delivery workers, one for each destination of the configuration; a new one brings new ones.

    Parameters
    ----------
    context
        What the adapter's parts work with.
    backoff
        How long to wait before something is sent again.
    asking
        How long to wait for a report on storage commitment before it is asked for again.
    """

    def __init__(
        self, context: AdapterContext, *, backoff: Backoff = _BACKOFF, asking: Backoff = _ASKING
    ) -> None:
        self._context, self._backoff = context, backoff
        self._requests = CommitRequests(context, asking=asking, sending=backoff)
        self._workers: dict[str, DeliveryWorker] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin, and take over destinations that are new in the configuration."""
        with self._lock:
            for each in self._context.config().dicom.scu.destinations:
                if each.name not in self._workers:
                    delivery_worker = DeliveryWorker(each.name, self._context, self._backoff, self._requests)
                    self._workers[each.name] = delivery_worker
                    delivery_worker.start()
        self.wake()

    def wake(self) -> None:
        """Look for deliveries at once."""
        for each in list(self._workers.values()):
            each.wake()

    def ask_to_stop(self) -> None:
        """Stop soon, after the instance that is being sent."""
        for each in self._workers.values():
            each.ask_to_stop()

    def stop(self, deadline: Deadline | None = None) -> list[str]:
        """Stop after the instance that is being sent, or in the middle of it where that takes too long.

        Returns
        -------
        list of str
            The names of threads that have not ended in time.
        """
        self.ask_to_stop()
        delivery_workers = list(self._workers.values())
        workers = [each.worker for each in delivery_workers]
        left_s = deadline.left_s() if deadline else _STOP_S + _END_S
        if stop_all(workers, Deadline(min(_STOP_S, left_s / 2))):
            for each in delivery_workers:
                each.end()
        return stop_all(workers, deadline or Deadline(_END_S))

    def take_report(self, report: CommitmentReport, caller: str, address: str) -> bool:
        """Write down what a destination reports on a request for commitment, and return whether it is one.

        Parameters
        ----------
        report
            The report.
        caller, address
            AE title and address of who reports.
        """
        is_believed, lost = self._requests.take_report(report, caller, address)
        if lost:
            self.wake()
        return is_believed


class DeliveryWorker:
    """What sends to one destination, one batch after the other, until it is told to stop.

    Parameters
    ----------
    name
        The destination's name.
    context
        What the adapter's parts work with.
    backoff
        How long it waits after failures.
    requests
        Asks for commitment.
    """

    def __init__(
        self, name: str, context: AdapterContext, backoff: Backoff, requests: CommitRequests
    ) -> None:
        self._name, self._context, self._requests = name, context, requests
        self._connections = DestinationConnections()
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._batches = BatchSender(name, context, backoff, self._connections, self._stopping)
        self._next_give_up = 0.0
        self.worker = context.supervisor.worker(f"delivery to {name}", self._work, patience=PATIENCE)

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
        found = self._context.config().dicom.scu.destinations
        return next((each for each in found if each.name == self._name), None)

    def _look(self, destination: Destination) -> None:
        at = self._context.clock()
        if at < self._batches.not_before:
            return
        self._dead_letter_old()
        if not commits(destination) and (count := without_commitment(self._context.store, self._name)):
            logger.info(
                "%d results waited for the commitment of %s, which is not asked for any more",
                *(count, self._name),
            )
        due = self._context.store.due(self._name, at)
        if due:
            self._deliver(destination, due)
        elif commits(destination):
            self._requests.ask_due(destination, self._connections, set_aside=self._set_aside)

    def _dead_letter_old(self) -> None:
        """Make dead letters of what has waited for too long, which is looked for now and then."""
        if self._context.clock() < self._next_give_up:
            return
        self._next_give_up = self._context.clock() + _GIVE_UP_EVERY_S
        hours = self._context.config().dicom.scu.give_up_hours
        oldest = self._context.clock() - hours * 3600
        reason = f"given up after {hours:g} hours"
        if count := dead_letter_older(self._context.store, self._name, oldest, reason=reason):
            logger.error("%d results for %s are dead letters: it never took them", count, self._name)

    def _deliver(self, destination: Destination, due: Sequence[DeliveryRecord]) -> None:
        """Send the results of several jobs at once, over an association for each."""
        by_job: dict[str, list[DeliveryRecord]] = {}
        for each in due:
            by_job.setdefault(each.job_id, []).append(each)
        batches, worker = iter([*by_job.values()]), current_worker()
        errors: list[Exception] = []
        at_once = min(self._context.config().dicom.scu.max_associations, len(by_job))
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
        batches: Iterator[Sequence[DeliveryRecord]],
        worker: Worker | None,
        errors: list[Exception],
    ) -> None:
        """Send batches, each of which is taken by one of several threads."""
        work_for(worker)
        try:
            for batch in batches:
                self._send_or_set_aside(destination, batch)
        except Exception as error:  # raised again in the worker's own thread
            errors.append(error)

    def _send_or_set_aside(self, destination: Destination, batch: Sequence[DeliveryRecord]) -> None:
        """Send the results of one job; what fails in a way that nobody foresaw is set aside by itself."""
        try:
            self._batches.send(destination, batch)
        except Exception as error:  # a border: one result harms no other
            if is_resource_error(error):
                raise
            left = {
                each.id: each for each in self._context.store.deliveries("waiting", job_id=batch[0].job_id)
            }
            waiting = [left[each.id] for each in batch if each.id in left]  # with what may have arrived
            if len(batch) > 1:
                for each in waiting:
                    self._send_or_set_aside(destination, [each])
            elif waiting:
                self._set_aside(waiting, error)

    def _set_aside(self, deliveries: Sequence[DeliveryRecord], error: Exception) -> None:
        job = deliveries[0].job_id
        logger.error(
            "a result of job %s cannot be delivered to %s (%s)",
            *(job, self._name, reason_of(error)),
            extra={"job": job},
            exc_info=traceback_of(error),
        )
        for each in deliveries:
            set_aside(self._context.store, "delivery", each.id, reason=reason_of(error))
