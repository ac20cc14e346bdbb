"""The queue of jobs: at most so many at once, tried again or kept as dead letters, found again after a crash.

What is to be done stands in the database before anything is done, and a job has the same ID and folder
however often it is begun, so a crash at any moment costs at most the stage that ran.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dicom_adapter.context import PATIENCE, AdapterContext
from dicom_adapter.database.records import JobRecord
from dicom_adapter.jobs.job_runner import JobRunner
from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.supervisor import stop_all
from dicom_adapter.supervision.worker import Worker
from stages.resident.orders import PRIORITY_S

logger = logging.getLogger(__name__)

_LOOK_S = 0.5
_STOP_S = 10.0


class JobQueue:
    """Runs the jobs that are in the database.

    Parameters
    ----------
    context
        What the adapter's parts work with.
    models
        The model repository for an engine that brings its own server; None if there is none.
    model_server
        Returns ``host:port`` of a model server for jobs that run as processes.
    on_done
        Called after a job has ended with results to be delivered.
    """

    def __init__(
        self,
        context: AdapterContext,
        *,
        models: Path | None,
        model_server: Callable[[], str],
        on_done: Callable[[], None],
    ) -> None:
        self._context, self._on_done = context, on_done
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._runner = JobRunner(
            context, models=models, model_server=model_server, stopping=self._stopping, on_end=self._ended
        )
        self._running: list[Worker] = []
        self._space_was_logged = False
        self._worker = context.supervisor.worker("job queue", self._work)

    def start(self) -> None:
        """Begin, with the jobs that ran when the adapter ended."""
        for job in self._context.store.jobs("running"):
            logger.info("found job %s again, which was running", job.id, extra={"job": job.id})
            self._context.store.interrupt(job.id)
        self._worker.start()

    def ask_to_stop(self) -> None:
        """Stop soon; what runs goes on at the next start."""
        self._stopping.set()
        self._wake.set()

    def stop(self, deadline: Deadline | None = None) -> list[str]:
        """Stop, and return the names of threads that have not ended in time."""
        self.ask_to_stop()
        deadline = deadline or Deadline(_STOP_S)
        return stop_all([self._worker], deadline) + stop_all(self._running, deadline)

    def wake(self) -> None:
        """Look for jobs at once."""
        self._wake.set()

    def _work(self) -> None:
        self._running = [each for each in self._running if not (each.is_over or each.is_dead)]
        self._start_what_may()
        self._wake.wait(_LOOK_S)
        self._wake.clear()

    def _start_what_may(self) -> None:
        context = self._context
        if why := self._why_no_space():
            if not self._space_was_logged:
                logger.warning("no job begins until there is disk space: %s", why)
            self._space_was_logged = True
            return
        self._space_was_logged = False
        while len(self._running) < context.config().jobs.at_once and not self._stopping.is_set():
            job = context.store.start_next(context.clock(), bonus_s=self._bonus_s())
            if job is None:
                return
            self._begin(job)

    def _bonus_s(self) -> dict[str, float]:
        priorities = self._context.config().priorities()
        return {rule: priority * PRIORITY_S for rule, priority in priorities.items()}

    def _begin(self, job: JobRecord) -> None:
        name = f"job {job.id[:8]}"
        worker = self._context.supervisor.worker(
            name, partial(self._runner.run, job), kind="job", once=True, patience=PATIENCE
        )
        try:
            worker.start()
        except RuntimeError as error:  # no other thread can be started
            self._context.store.interrupt(job.id)
            raise OSError(f"{name} cannot begin: {error}") from error
        self._running.append(worker)

    def _why_no_space(self) -> str:
        """Return why no job may begin: a full disk would make a dead letter of one after the other."""
        storage = self._context.config().storage
        payloads = storage.payloads if storage.payloads.is_dir() else storage.root
        free = shutil.disk_usage(payloads).free
        if free >= storage.minimum_free:
            return ""
        return f"{free >> 20} MiB are free, and {storage.minimum_free >> 20} MiB must stay so"

    def _ended(self) -> None:
        self._wake.set()
        self._on_done()
