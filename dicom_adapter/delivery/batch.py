"""The results of one job sent to one destination, and what becomes of each written down.

A delivery stands in the database before anything is sent and is marked right after the destination's Success.
What goes out is marked before, once for all that goes together: after a crash, or an answer that was lost,
the destination is asked whether it has what may have arrived, and gets it again only where it has not, or
cannot be asked. It has the same SOPInstanceUID and content then, so that it is kept once.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Sequence

from clara_wf.report.logs import without_uids
from dicom_adapter.config.dicom_blocks import Destination
from dicom_adapter.context import AdapterContext
from dicom_adapter.database.deliveries import has_other_content, mark_as_sending, put_off
from dicom_adapter.database.records import DeliveryRecord, StateError
from dicom_adapter.database.retry_while_locked import retry_while_locked
from dicom_adapter.delivery.answers import Answer, DestinationError, OnAnswer
from dicom_adapter.delivery.commit_requests import REFUSALS, commits
from dicom_adapter.delivery.connection import DestinationConnections
from dicom_adapter.delivery.senders import address_of, found_at, sender_to
from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.storage.results import ResultFile, read_result
from dicom_adapter.supervision.worker import heartbeat
from stages.errors import OutputError
from stages.runtime.retry import Backoff

logger = logging.getLogger(__name__)

_FAILED_QUERIES = 2  # in a row, after which what may have arrived is sent again
_DUPLICATE = "0x0111"


class BatchSender:
    """Sends to one destination, any thread of its worker; a destination that fails is left alone for a while.

    Parameters
    ----------
    name
        Of the destination.
    context
        What the adapter's parts work with.
    backoff
        How long to wait before something is sent again.
    connections
        Where its connections are known, so that a stop ends them.
    stopping
        Set when the adapter stops: after the instance that is being sent.

    Attributes
    ----------
    not_before
        Seconds of service; nothing is sent earlier.
    """

    def __init__(
        self,
        name: str,
        context: AdapterContext,
        backoff: Backoff,
        connections: DestinationConnections,
        stopping: threading.Event,
    ) -> None:
        self._name, self._context, self._backoff = name, context, backoff
        self._connections, self._stopping = connections, stopping
        self._failures, self.not_before = 0, 0.0

    def send(self, destination: Destination, batch: Sequence[DeliveryRecord]) -> None:
        """Send the results of one job, and write down what became of each.

        Parameters
        ----------
        destination, batch
            The destination and the deliveries of one job.
        """
        if self._stopping.is_set() or self._context.clock() < self.not_before:
            return
        waiting = {each.sop_instance_uid: each for each in batch}
        accepted = 0

        def on_answer(result: ResultFile, answer: Answer) -> None:
            nonlocal accepted
            heartbeat()
            delivery = waiting.pop(result.sop_instance_uid)
            accepted += self._write_down(destination, delivery, answer) == "accepted"
            if self._stopping.is_set():
                raise _StoppedError

        results = [found for each in batch if (found := self._readable(destination, each, waiting))]
        try:
            self._ask_first(destination, results, waiting, on_answer)
            left = [each for each in results if each.sop_instance_uid in waiting]
            if left:
                retry_while_locked(lambda: mark_as_sending(self._context.store, waiting.values()))
                scu = self._context.config().dicom.scu
                sender_to(destination, scu, self._connections).send(left, on_answer)
            self._failures = 0
        except _StoppedError:
            self._stop_halfway(waiting, "")
        except DestinationError as error:
            if self._stopping.is_set():
                self._stop_halfway(waiting, error.in_flight)
            else:
                self._put_off(waiting, error)
        self._log(destination, batch, accepted)

    def _readable(
        self, destination: Destination, delivery: DeliveryRecord, waiting: dict[str, DeliveryRecord]
    ) -> ResultFile | None:
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
        results: Sequence[ResultFile],
        waiting: dict[str, DeliveryRecord],
        on_answer: OnAnswer,
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
                on_answer(each, Answer(verdict="accepted", status="found"))
            else:
                waiting[uid] = dataclasses.replace(waiting[uid], unsure=False)

    def _is_askable(self, delivery: DeliveryRecord) -> bool:
        return delivery.unsure and not has_other_content(self._context.store, delivery)

    def _found(self, destination: Destination, results: Sequence[ResultFile]) -> set[str] | None:
        """Return which results a destination has; None if it is not asked."""
        if not destination.query:
            return None
        try:
            return found_at(destination, self._context.config().dicom.scu, self._connections, results)
        except DestinationError:
            if self._failures < _FAILED_QUERIES:
                raise
            return None  # the query itself may be what is wrong

    def _write_down(self, destination: Destination, delivery: DeliveryRecord, answer: Answer) -> str:
        """Write down what a destination has said of a result, and return its verdict."""
        if answer.status == _DUPLICATE and delivery.unsure:
            answer = dataclasses.replace(answer, verdict="accepted", message="")
        message = without_uids(answer.message)
        self._context.metrics.deliveries.labels(self._name, answer.verdict).inc()
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
            more["not_before"] = self._context.clock() + self._backoff.wait_s(tries)
        self._move(delivery, state, **more)
        return answer.verdict

    def _move(self, delivery: DeliveryRecord, state: str, **more: object) -> None:
        try:
            retry_while_locked(
                lambda: self._context.store.move_delivery(delivery.id, state, **more),
                until=self._stopping.is_set,
            )
        except StateError:
            logger.info("a result of job %s went out, and was superseded meanwhile", delivery.job_id)

    def _put_off(self, waiting: dict[str, DeliveryRecord], error: DestinationError) -> None:
        self._context.metrics.destination_errors.labels(self._name).inc()
        message = without_uids(str(error))
        self._leave(waiting, error.in_flight, message=message, not_before=self._pause(message))

    def _stop_halfway(self, waiting: dict[str, DeliveryRecord], in_flight: str) -> None:
        self._leave(waiting, in_flight, message=None, not_before=0)
        logger.info("sending to %s stops, and goes on after the restart", self._name)

    def _leave(
        self, waiting: dict[str, DeliveryRecord], in_flight: str, *, message: str | None, not_before: float
    ) -> None:
        """Write down that results wait, those that may have arrived marked."""
        unsure = {each.id for uid, each in waiting.items() if each.unsure or uid == in_flight}
        retry_while_locked(
            lambda: put_off(
                *(self._context.store, waiting.values()),
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
        self.not_before = self._context.clock() + wait_s
        logger.warning("%s; trying again in %.0f s", why, wait_s)
        return self.not_before

    def _log(self, destination: Destination, batch: Sequence[DeliveryRecord], accepted: int) -> None:
        job = retry_while_locked(lambda: self._context.store.job(batch[0].job_id))
        study = study_hash(retry_while_locked(lambda: self._context.store.study(job.study_id)).study_uid)
        logger.info(
            "%d of %d results of job %s delivered to %s",
            *(accepted, len(batch), job.id, self._name),
            extra={"job": job.id, "study": study},
        )
        self._context.trail.sent(
            study=study,
            job=job.id,
            destination=destination.ae_title,
            address=address_of(destination),
            instances=accepted,
            outcome=0 if accepted == len(batch) else 4 if accepted else 8,
        )


class _StoppedError(Exception):
    """The adapter stops."""
