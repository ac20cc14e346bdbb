"""A job from its input to its results: run, and concluded in the database whatever became of it."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from clara_wf.definitions.workflow import Workflow
from clara_wf.engines.choice import choose
from clara_wf.engines.engine import NO_SERVER
from clara_wf.payload import Payload
from clara_wf.publish.published import load_published
from clara_wf.run.warm import jobs_folder
from dicom_adapter.config.blocks import Config
from dicom_adapter.config.dicom_blocks import SeriesFilter
from dicom_adapter.context import AdapterContext
from dicom_adapter.database.records import JobRecord, StateError, StudyRecord
from dicom_adapter.database.retry_while_locked import retry_while_locked
from dicom_adapter.database.set_aside import set_aside
from dicom_adapter.jobs.job_input import fill_payload
from dicom_adapter.jobs.job_run import RETRYABLE, JobRunOptions, JobVerdict, RunOutcome, run_job
from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.storage.results import ResultFile, content_of, find_results
from dicom_adapter.studies.selection import chosen
from dicom_adapter.supervision.failures import is_resource_error, reason_of, traceback_of
from dicom_adapter.supervision.worker import heartbeat
from stages.errors import InputError, OutputError, SettingsError, StageError
from stages.lifecycle import locks
from stages.lifecycle.settings import INPUT_LOCK
from stages.runtime.retry import Backoff

logger = logging.getLogger(__name__)

_SUPERSEDED_S = 2.0
_LONGEST_RETRY_S = 3600.0


class JobRunner:
    """Runs jobs that were started in the database, each in a thread of the caller's.

    Parameters
    ----------
    context
        What the adapter's parts work with.
    models
        The model repository for an engine that brings its own server; None if there is none.
    model_server
        Returns ``host:port`` of a model server for jobs that run as processes.
    stopping
        Set when the adapter stops: what runs is stopped, and goes on at the next start.
    on_end
        Called after a job has ended, however.
    """

    def __init__(
        self,
        context: AdapterContext,
        *,
        models: Path | None,
        model_server: Callable[[], str],
        stopping: threading.Event,
        on_end: Callable[[], None],
    ) -> None:
        self._context, self._models, self._model_server = context, models, model_server
        self._stopping, self._on_end = stopping, on_end

    def run(self, job: JobRecord) -> None:
        """Run a job; one whose end cannot be written down is a dead letter, or set aside."""
        try:
            self._run_and_conclude(job)
        except Exception as error:  # a border: a job harms no other
            if is_resource_error(error):
                raise  # and the worker tries again
            logger.error(
                "job %s cannot be concluded (%s)",
                *(job.id, reason_of(error)),
                extra={"job": job.id},
                exc_info=traceback_of(error),
            )
            self._give_up(job, reason_of(error))
        finally:
            self._on_end()

    def _give_up(self, job: JobRecord, reason: str) -> None:
        try:
            self._context.store.dead_letter(job.id, exit_code=StageError.exit_code, reason=reason)
        except Exception as error:
            if is_resource_error(error):
                raise
            set_aside(self._context.store, "job", job.id, reason=reason)

    def _run_and_conclude(self, job: JobRecord) -> None:
        study = retry_while_locked(
            lambda: self._context.store.study(job.study_id), until=self._stopping.is_set
        )
        about = {"job": job.id, "study": study_hash(study.study_uid)}
        logger.info("job %s (%s) begins, try %d", job.id, job.rule, job.tries, extra=about)
        outcome, results = self._outcome(job, study)
        try:
            retry_while_locked(lambda: self._conclude(job, outcome, results), until=self._stopping.is_set)
        except StateError:
            logger.info("job %s was superseded", job.id, extra=about)
        except sqlite3.OperationalError:
            logger.warning("job %s is looked at again after the restart", job.id, extra=about)
        if outcome is not None:
            self._log(job, study, outcome, len(results))

    def _outcome(self, job: JobRecord, study: StudyRecord) -> tuple[RunOutcome | None, list[ResultFile]]:
        """Return what became of a job, None if it was stopped, and its results."""
        try:
            workflow = self._workflow(job)
            outcome = self._attempt(job, study, workflow)
            done = outcome is not None and outcome.verdict == "done"
            results = self._results(job, workflow) if done else []
            return self._unless_removed(job, outcome, results)
        except StageError as error:
            return _failure(error), []
        except Exception as error:  # a border: a job that fails is tried again as often as any
            if is_resource_error(error) and isinstance(error, sqlite3.Error):
                raise  # which is no failure of the job
            logger.error(
                "job %s failed in the adapter itself (%s)",
                *(job.id, reason_of(error)),
                extra={"job": job.id},
                exc_info=traceback_of(error),
            )
            return RunOutcome(verdict="retry", exit_code=1, message=reason_of(error), seconds=0), []

    def _workflow(self, job: JobRecord) -> Workflow:
        """Return the workflow as it is published now; while somebody publishes it anew it may be gone."""
        try:
            return load_published(self._context.config().storage.workflows, job.workflow)[1]
        except SettingsError as error:
            raise OutputError(str(error)) from error

    def _unless_removed(
        self, job: JobRecord, outcome: RunOutcome | None, results: list[ResultFile]
    ) -> tuple[RunOutcome | None, list[ResultFile]]:
        """Return the outcome, or another one where somebody has removed the job's folder meanwhile."""
        if outcome is None or (self._payload(job).lock_dir / INPUT_LOCK).exists():
            return outcome, results
        why = f"the job's folder {self._payload(job).root} was removed while it ran"
        return RunOutcome(
            verdict="retry", exit_code=OutputError.exit_code, message=why, seconds=outcome.seconds
        ), []

    def _attempt(self, job: JobRecord, study: StudyRecord, workflow: Workflow) -> RunOutcome | None:
        config = self._context.config()
        payload = self._payload(job)
        is_filled = locks.read_lock(payload.lock_dir / INPUT_LOCK) is not None
        wanted = SeriesFilter() if is_filled else _filter(config, study)
        files = chosen(self._context.store.instances(study.id), wanted)
        fill_payload(payload, workflow, files, config.storage)
        return run_job(payload, workflow, self._run_options(job, workflow), stopped=self._is_given_up(job))

    def _payload(self, job: JobRecord) -> Payload:
        """Return where a job's files lie."""
        return Payload(root=self._context.config().storage.payloads.resolve() / job.id, job_id=job.id)

    def _run_options(self, job: JobRecord, workflow: Workflow) -> JobRunOptions:
        config = self._context.config()
        engine, server = choose(workflow, config.jobs.engine), config.jobs.model_server
        if not server and engine == "process":
            server = self._model_server() if self._models else NO_SERVER
        is_kept = config.jobs.resident and engine == "process"
        return JobRunOptions(
            published=config.storage.workflows.resolve(),
            engine=engine,
            server=server or None,
            models=self._models,
            timeout_s=config.jobs.timeout_seconds,
            stop_s=config.jobs.stop_seconds,
            environ=self._context.environ,
            service=jobs_folder(config.storage.payloads) if is_kept else None,
            priority=config.priorities().get(job.rule, 0) if is_kept else 0,
        )

    def _is_given_up(self, job: JobRecord) -> Callable[[], bool]:
        """Return what tells that a job shall end: the adapter stops, or the job was superseded."""
        looked = time.monotonic()
        superseded = False

        def is_given_up() -> bool:
            nonlocal looked, superseded
            heartbeat()
            if time.monotonic() - looked > _SUPERSEDED_S:
                looked = time.monotonic()
                found = retry_while_locked(
                    lambda: self._context.store.job(job.id), until=self._stopping.is_set
                )
                superseded = found.state == "superseded"
            return superseded or self._stopping.is_set()

        return is_given_up

    def _results(self, job: JobRecord, workflow: Workflow) -> list[ResultFile]:
        payload = self._payload(job)
        folders = [payload.folder(name) for name in workflow.result_folders]
        for folder in folders:
            if not folder.resolve().is_relative_to(payload.root):
                raise InputError(
                    f"the results in {folder} are not looked at: it leads out of the job's folder"
                )
        return [each for folder in folders for each in find_results(folder)]

    def _conclude(self, job: JobRecord, outcome: RunOutcome | None, results: Sequence[ResultFile]) -> None:
        store, settings = self._context.store, self._context.config().jobs
        if outcome is None:
            store.interrupt(job.id)
        elif outcome.verdict == "done":
            self._finish(job, results)
        elif outcome.verdict == "retry" and job.tries < settings.tries:
            backoff = Backoff(first_s=settings.retry_seconds, longest_s=_LONGEST_RETRY_S)
            not_before = self._context.clock() + backoff.wait_s(job.tries)
            store.retry(job.id, exit_code=outcome.exit_code, reason=outcome.message, not_before=not_before)
        else:
            store.dead_letter(job.id, exit_code=outcome.exit_code, reason=outcome.message)

    def _finish(self, job: JobRecord, results: Sequence[ResultFile]) -> None:
        paths = {each.sop_instance_uid: each.path for each in results}
        contents = {uid: content_of(path) for uid, path in paths.items()}
        unchanged, other = self._context.store.finish(job.id, paths, contents=contents)
        about = {"job": job.id}
        if unchanged:
            logger.info(
                "job %s: %d results equal what their destination has from an earlier job; not sent again",
                *(job.id, unchanged),
                extra=about,
            )
        if other:
            logger.warning(
                "job %s: %d results have the SOPInstanceUID of an earlier job's and other content; they are "
                "sent, and their destination may keep the earlier ones",
                *(job.id, other),
                extra=about,
            )

    def _log(self, job: JobRecord, study: StudyRecord, outcome: RunOutcome, results: int) -> None:
        about = {"job": job.id, "study": study_hash(study.study_uid)}
        self._context.metrics.job_seconds.labels(job.rule, outcome.verdict).observe(outcome.seconds)
        if outcome.verdict == "done":
            logger.info("job %s is done: %d results, %.1f s", job.id, results, outcome.seconds, extra=about)
            if job.destinations and not results:
                logger.warning("job %s made no DICOM file, so nothing is delivered", job.id, extra=about)
        else:
            logger.warning(
                "job %s failed with exit code %d (%s): %s",
                *(job.id, outcome.exit_code, outcome.verdict, outcome.message),
                extra=about,
            )
        self._context.trail.ran(
            study=about["study"],
            job=job.id,
            workflow=job.workflow,
            outcome=0 if outcome.verdict == "done" else 8,
        )


def _filter(config: Config, study: StudyRecord) -> SeriesFilter:
    """Return which instances of a study are a job's input.

    Raises
    ------
    SettingsError
        If its AE title is not configured any more: without its filter a job would get what it must not.
    """
    for each in config.dicom.scp.ae_titles:
        if each.ae_title == study.ae_title:
            return each.filter
    raise SettingsError(
        f"{study.ae_title} is not among dicom.scp.ae-titles any more, so nothing tells which instances this "
        "job is to have; add it again, and replay the job"
    )


def _failure(error: StageError) -> RunOutcome:
    verdict: JobVerdict = "retry" if error.exit_code in RETRYABLE else "dead"
    return RunOutcome(verdict=verdict, exit_code=error.exit_code, message=str(error), seconds=0)
