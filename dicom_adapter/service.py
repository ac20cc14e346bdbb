"""The adapter as a whole: what is started in which order, reloaded, and stopped."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydicom.dataset import Dataset

from clara_wf.chart.helm import Helm
from clara_wf.workspace import Places
from dicom_adapter.config.blocks import Config, Http
from dicom_adapter.config.dicom_blocks import Scp
from dicom_adapter.config.load import load_config
from dicom_adapter.context import AdapterContext
from dicom_adapter.database.deliveries import try_everything_now
from dicom_adapter.database.faults import DatabaseDamagedError, DatabaseUnusableError
from dicom_adapter.database.integrity import lacks_log, require_sound
from dicom_adapter.database.store import Store
from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.commitment import handle_report
from dicom_adapter.delivery.senders import require_readable
from dicom_adapter.delivery.workers import DeliveryWorkers
from dicom_adapter.jobs.job_queue import JobQueue
from dicom_adapter.jobs.shared_model_server import SharedModelServer
from dicom_adapter.observability.audit import AuditTrail
from dicom_adapter.observability.metrics import Metrics
from dicom_adapter.scp.storage_scp import StorageScp
from dicom_adapter.scp.tls import tls_context
from dicom_adapter.status import server
from dicom_adapter.status.overview import page_of, queue_of, report_of, why_not_ready, why_unhealthy
from dicom_adapter.status.unconfigured import unconfigured
from dicom_adapter.storage.owner import sole_adapter
from dicom_adapter.storage.paths import AdapterPaths
from dicom_adapter.storage.receiver import InstanceReceiver, sweep
from dicom_adapter.storage.relocation import relocate
from dicom_adapter.storage.study_locks import StudyLocks
from dicom_adapter.studies.events import ReceivingEvents
from dicom_adapter.studies.recovery import recover_instances
from dicom_adapter.studies.retention import Retention
from dicom_adapter.studies.tracker import StudyTracker
from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.failures import reason_of, traceback_of
from dicom_adapter.supervision.supervisor import Supervisor
from stages.errors import SettingsError, StageError

logger = logging.getLogger(__name__)

_FIXED = ("storage", "http")
_FIXED_SCP = ("port", "host")
_AFTER_JOBS_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Running:
    """An adapter that runs.

    Attributes
    ----------
    dicom_port, http_port
        Where it listens.
    reload
        Reads the configuration again; one that has a mistake changes nothing.
    stop_s
        Returns how long its end may take by the configuration, seconds.
    left_over
        After the end: the threads that have not ended in time; what they were at goes on at the next start.
    """

    dicom_port: int
    http_port: int
    reload: Callable[[], None]
    stop_s: Callable[[], float]
    left_over: list[str] = field(default_factory=list)


class _Settings:
    """The configuration as it is now."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.config = load_config(file)

    def __call__(self) -> Config:
        return self.config

    def reload(self) -> None:
        """Take what the file says now, but for what only a restart changes."""
        try:
            new = load_config(self._file)
            if new.dicom.scp.tls.enabled:
                tls_context(new.dicom.scp.tls)
            _token(new.http)
            for destination in new.dicom.scu.destinations:
                require_readable(destination)
        except StageError as error:
            for line in str(error).splitlines():
                logger.error("the configuration stays as it was: %s", line)
            return
        old = self.config
        scp = new.dicom.scp.model_copy(update={name: getattr(old.dicom.scp, name) for name in _FIXED_SCP})
        dicom = new.dicom.model_copy(update={"scp": scp})
        kept = {"dicom": dicom, **{name: getattr(old, name) for name in _FIXED}}
        self.config = new.model_copy(update=kept)
        if self.config != new:
            logger.warning("storage, http, and where we listen change at the next start")
        logger.info("the configuration was read again")


@contextmanager
def running(file: Path, *, environ: Mapping[str, str]) -> Iterator[Running]:
    """Run the adapter until the block ends.

    Raises
    ------
    DatabaseDamagedError
        If the database is damaged, or gone although instances were received.
    SettingsError
        If the configuration has a mistake, an address is taken, another adapter runs on this storage, or a
        program is not there without which no job could run.
    OutputError
        If the storage cannot be written.
    """
    settings = _Settings(file)
    _find_programs(settings().jobs.engine, environ)
    storage = settings().storage
    places = AdapterPaths(root=storage.root)
    with ExitStack() as stack:
        owner = stack.enter_context(sole_adapter(places.root))
        if owner.was_killed and lacks_log(places.database):
            logger.warning(
                "the last run was killed, and the database's write-ahead log is gone since: what it held is "
                "lost, and some results may be sent again"
            )
        require_sound(places.database, studies=places.studies, identity=owner.identity)
        half = sweep(places, permissions=storage.permissions)
        store = Store(places.database)
        owner.keep(store.identity)
        left_over: list[str] = []
        stack.callback(lambda: None if left_over else store.close())
        trail = AuditTrail(places.audit, ae_title=settings().dicom.scu.ae_title)
        stack.callback(lambda: None if left_over else trail.close())
        metrics = Metrics()
        context = AdapterContext(
            store=store,
            config=settings,
            trail=trail,
            metrics=metrics,
            clock=store.clock,
            environ=environ,
            supervisor=Supervisor(
                stuck_s=lambda: settings().http.stuck_seconds,
                on_failure=lambda kind: metrics.worker_failures.labels(kind).inc(),
            ),
        )
        parts = _Parts(context, places, environ)
        with store.transaction() as database:
            relocate(database, places, storage.payloads)
        parts.retention.finish()
        found = recover_instances(store, places)
        try_everything_now(store)
        logger.info("swept %d half-received files, took up %d received ones", half, found)
        _log_unconfigured(store, settings())
        _warn_of_unreadable(settings())
        trail.started()
        stack.callback(trail.stopped)
        with parts.started(left_over) as (dicom_port, http_port):

            def reload() -> None:
                try:
                    settings.reload()
                    parts.delivery_workers.start()
                    _log_unconfigured(store, settings())
                except Exception as error:  # a border: the old settings hold
                    logger.error(
                        "the configuration was not read again: %s",
                        reason_of(error),
                        exc_info=traceback_of(error),
                    )

            yield Running(
                dicom_port=dicom_port,
                http_port=http_port,
                reload=reload,
                stop_s=lambda: settings().jobs.stop_seconds + _AFTER_JOBS_S,
                left_over=left_over,
            )


def _warn_of_unreadable(config: Config) -> None:
    """Log which destinations cannot be called with what lies there now; studies are taken meanwhile."""
    for destination in config.dicom.scu.destinations:
        try:
            require_readable(destination)
        except DestinationError as error:
            logger.warning("%s; its results wait", error)


class _Parts:
    """All that works in an adapter."""

    def __init__(self, context: AdapterContext, places: AdapterPaths, environ: Mapping[str, str]) -> None:
        self._context = context
        storage = context.config().storage
        models = _models(context.config(), environ)
        self._server = SharedModelServer(
            models or Path(),
            cache=Places.here(environ).cache,
            log=places.root / "model-server.log",
        )
        study_locks = StudyLocks()
        self._receiver = InstanceReceiver(
            places,
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
        """Start everything, the door last; stop everything, the door first.

        Parameters
        ----------
        left_over
            Takes the names of the threads that have not ended in time.
        """
        context = self._context
        context.metrics.watch(partial(queue_of, context))
        context.metrics.waiting_connections.set_function(lambda: self._scp.waiting)
        try:
            for part in (self._jobs, self.delivery_workers, self.retention, self._studies):
                part.start()
            self._scp.start()
            with self._answering() as http_port:
                yield self._scp.port, http_port
        finally:
            left_over += self._stop(Deadline(context.config().jobs.stop_seconds + _AFTER_JOBS_S))

    def _stop(self, deadline: Deadline) -> list[str]:
        """Stop everything, and return the names of the threads that have not ended in time."""
        self._context.store.hurry()
        parts = (self._studies, self.retention, self.delivery_workers, self._jobs)
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
            http.host, http.port, answers, token=_token(http), supervisor=context.supervisor
        ) as http_port:
            yield http_port

    def _reported(self, content: Dataset, caller: str, address: str) -> int:
        return handle_report(content, caller, address, self.delivery_workers.take_report)


def _log_unconfigured(store: Store, config: Config) -> None:
    with suppress(DatabaseUnusableError, DatabaseDamagedError):  # which others tell
        for each in unconfigured(store, config):
            logger.warning(each)


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


def _find_programs(engine: str | None, environ: Mapping[str, str]) -> None:
    if engine == "kubernetes":
        Helm.find(environ)
    if engine == "docker" and not shutil.which("docker", path=environ.get("PATH")):
        raise SettingsError("jobs.engine is docker, and docker was not found; install it and put it on PATH")


def _token(http: Http) -> str | None:
    if not http.token_file:
        return None
    if Path(http.token_file).exists() and not Path(http.token_file).is_file():
        raise SettingsError(f"the token for the status page cannot be read: {http.token_file} is no file")
    try:
        token = Path(http.token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(
            f"the token for the status page cannot be read: {http.token_file}: {why}"
        ) from error
    if not token:
        raise SettingsError(f"{http.token_file} is empty; write a token into it")
    return token
