"""All that works in an adapter: made, started and stopped in order."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pydicom.dataset import Dataset

from clara_wf.workspace import Places
from dicom_adapter.config.blocks import Config
from dicom_adapter.config.dicom_blocks import Scp
from dicom_adapter.context import AdapterContext
from dicom_adapter.delivery.commitment import handle_report
from dicom_adapter.delivery.workers import DeliveryWorkers
from dicom_adapter.jobs.job_queue import JobQueue
from dicom_adapter.jobs.kept_stages import KeptStages
from dicom_adapter.jobs.shared_model_server import SharedModelServer
from dicom_adapter.live_config import http_token
from dicom_adapter.scp.storage_scp import StorageScp
from dicom_adapter.status import server
from dicom_adapter.status.overview import page_of, queue_of, report_of, why_not_ready, why_unhealthy
from dicom_adapter.storage.paths import AdapterPaths
from dicom_adapter.storage.receiver import InstanceReceiver
from dicom_adapter.storage.study_locks import StudyLocks
from dicom_adapter.studies.events import ReceivingEvents
from dicom_adapter.studies.retention import Retention
from dicom_adapter.studies.tracker import StudyTracker
from dicom_adapter.supervision.deadline import Deadline

logger = logging.getLogger(__name__)

AFTER_JOBS_S = 1.0


class Components:
    """All that works in an adapter, not started yet."""

    def __init__(self, context: AdapterContext, paths: AdapterPaths, environ: Mapping[str, str]) -> None:
        self._context = context
        storage = context.config().storage
        models = _models(context.config(), environ)
        self._server = SharedModelServer(
            models or Path(),
            cache=Places.here(environ).cache,
            log=paths.root / "model-server.log",
        )
        study_locks = StudyLocks()
        self._receiver = InstanceReceiver(
            paths,
            minimum_free=storage.minimum_free,
            study_locks=study_locks,
            trouble=lambda: context.store.trouble,
            largest=storage.largest_instance,
            permissions=storage.permissions,
        )
        self.delivery_workers = DeliveryWorkers(context)
        self._jobs = JobQueue(
            context, models=models, model_server=self._server.address, on_done=self.delivery_workers.wake
        )
        self._kept_stages = KeptStages(context, log=paths.root / "kept-stages.log")
        self._studies = StudyTracker(
            context.store,
            context.config,
            on_jobs=lambda study, jobs: self._jobs.wake(),
            study_locks=study_locks,
            supervisor=context.supervisor,
        )
        self.retention = Retention(context, forget=self._receiver.forget, study_locks=study_locks)
        self._scp = StorageScp(
            lambda: context.config().dicom.scp,
            self._receiver,
            ReceivingEvents(self._studies, context.metrics, context.trail, context.config),
            report=self._reported,
            reporters=lambda: reporters(context.config()),
            supervisor=context.supervisor,
        )

    @contextmanager
    def started(self, left_over: list[str]) -> Iterator[tuple[int, int]]:
        """Start everything, who listens last; stop everything, who listens first.

        Parameters
        ----------
        left_over
            Takes the names of the threads that have not ended in time.
        """
        context = self._context
        context.metrics.watch(partial(queue_of, context))
        context.metrics.waiting_connections.set_function(lambda: self._scp.waiting)
        try:
            for part in (self._kept_stages, self._jobs, self.delivery_workers, self.retention, self._studies):
                part.start()
            self._scp.start()
            with self._answering() as http_port:
                yield self._scp.port, http_port
        finally:
            left_over += self._stop(Deadline(context.config().jobs.stop_seconds + AFTER_JOBS_S))

    def _stop(self, deadline: Deadline) -> list[str]:
        """Stop everything, and return the names of the threads that have not ended in time."""
        self._context.store.begin_shutdown()
        parts = (self._studies, self.retention, self.delivery_workers, self._jobs, self._kept_stages)
        for part in parts[1:]:
            part.ask_to_stop()
        self._scp.stop()
        self._studies.ask_to_stop()
        left_over = [name for part in parts for name in part.stop(deadline)]
        if left_over:
            logger.warning(
                "not ended within %.0f s: %s; what they were at goes on at the next start",
                *(deadline.seconds, ", ".join(left_over)),
            )
        self._server.close()
        return left_over

    @contextmanager
    def _answering(self) -> Iterator[int]:
        context, http = self._context, self._context.config().http
        answers = server.Answers(
            why_unhealthy=partial(why_unhealthy, context),
            why_not_ready=partial(why_not_ready, context),
            page=partial(page_of, context),
            metrics=context.metrics.text,
            report=partial(report_of, context),
        )
        with server.serve(
            http.host, http.port, answers, token=http_token(http), supervisor=context.supervisor
        ) as http_port:
            yield http_port

    def _reported(self, content: Dataset, caller: str, address: str) -> int:
        return handle_report(content, caller, address, self.delivery_workers.take_report)


def reporters(config: Config) -> Scp:
    """Return who reports on storage commitment: destinations, to the name that we have asked them under."""
    scu = config.dicom.scu
    callers = [{"ae-title": each.ae_title} for each in scu.destinations if each.commitment]
    named = {"ae-titles": [{"ae-title": scu.ae_title}], "sources": callers, "reject-unknown-sources": True}
    return Scp.model_validate(named)


def _models(config: Config, environ: Mapping[str, str]) -> Path | None:
    """Return the model repository: as configured, beside the payloads on the platform, or the one here."""
    storage = config.storage
    if storage.models is not None:
        return storage.models
    platform = storage.payloads.parent.parent / "models"
    found = (each for each in (platform, Places.here(environ).models) if each.is_dir())
    return next(found, None)
