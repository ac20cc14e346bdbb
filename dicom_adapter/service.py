"""The adapter as a whole: what is started in which order, reloaded, and stopped."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from clara_wf.chart.helm import Helm
from dicom_adapter.components import AFTER_JOBS_S, Components
from dicom_adapter.config.blocks import Config
from dicom_adapter.context import AdapterContext
from dicom_adapter.database.deliveries import try_everything_now
from dicom_adapter.database.faults import DatabaseDamagedError, DatabaseUnusableError
from dicom_adapter.database.integrity import lacks_log, require_sound
from dicom_adapter.database.store import Store
from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.senders import require_readable
from dicom_adapter.live_config import LiveConfig
from dicom_adapter.observability.audit import AuditTrail
from dicom_adapter.observability.metrics import Metrics
from dicom_adapter.status.unconfigured import unconfigured
from dicom_adapter.storage.owner import Owner, sole_adapter
from dicom_adapter.storage.paths import AdapterPaths
from dicom_adapter.storage.receiver import sweep
from dicom_adapter.storage.relocation import relocate
from dicom_adapter.studies.recovery import recover_instances
from dicom_adapter.supervision.failures import reason_of, traceback_of
from dicom_adapter.supervision.supervisor import Supervisor
from stages.errors import SettingsError

logger = logging.getLogger(__name__)


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
    config = LiveConfig(file)
    _find_programs(config().jobs.engine, environ)
    paths = AdapterPaths(root=config().storage.root)
    left_over: list[str] = []
    with ExitStack() as stack:
        owner = stack.enter_context(sole_adapter(paths.root))
        _require_sound(paths, owner)
        half = sweep(paths, permissions=config().storage.permissions)
        context = _opened(stack, config, paths, owner, environ, left_over)
        components = Components(context, paths, environ)
        _recover(context, components, paths, half)
        _log_unconfigured(context.store, config())
        _warn_of_unreadable(config())
        context.trail.started()
        stack.callback(context.trail.stopped)
        with components.started(left_over) as (dicom_port, http_port):
            yield Running(
                dicom_port=dicom_port,
                http_port=http_port,
                reload=partial(_reload, config, components, context.store),
                stop_s=lambda: config().jobs.stop_seconds + AFTER_JOBS_S,
                left_over=left_over,
            )


def _require_sound(paths: AdapterPaths, owner: Owner) -> None:
    if owner.was_killed and lacks_log(paths.database):
        logger.warning(
            "the last run was killed, and the database's write-ahead log is gone since: what it held is "
            "lost, and some results may be sent again"
        )
    require_sound(paths.database, studies=paths.studies, identity=owner.identity)


def _opened(
    stack: ExitStack,
    config: LiveConfig,
    paths: AdapterPaths,
    owner: Owner,
    environ: Mapping[str, str],
    left_over: Collection[str],
) -> AdapterContext:
    """Open database and audit trail, which are closed in the end unless a thread still works on them."""
    store = Store(paths.database)
    owner.keep(store.identity)
    stack.callback(lambda: None if left_over else store.close())
    trail = AuditTrail(paths.audit, ae_title=config().dicom.scu.ae_title)
    stack.callback(lambda: None if left_over else trail.close())
    metrics = Metrics()
    return AdapterContext(
        store=store,
        config=config,
        trail=trail,
        metrics=metrics,
        clock=store.clock,
        environ=environ,
        supervisor=Supervisor(
            stuck_s=lambda: config().http.stuck_seconds,
            on_failure=lambda kind: metrics.worker_failures.labels(kind).inc(),
        ),
    )


def _recover(context: AdapterContext, components: Components, paths: AdapterPaths, half: int) -> None:
    """Go on where the run before has ended, however that was."""
    with context.store.transaction() as database:
        relocate(database, paths, context.config().storage.payloads)
    components.retention.finish()
    found = recover_instances(context.store, paths)
    try_everything_now(context.store)
    logger.info("swept %d half-received files, took up %d received ones", half, found)


def _reload(config: LiveConfig, components: Components, store: Store) -> None:
    try:
        config.reload()
        components.delivery_workers.start()
        _log_unconfigured(store, config())
    except Exception as error:  # a border: the old settings hold
        logger.error(
            "the configuration was not read again: %s",
            reason_of(error),
            exc_info=traceback_of(error),
        )


def _warn_of_unreadable(config: Config) -> None:
    """Log which destinations cannot be called with what lies there now; studies are taken meanwhile."""
    for destination in config.dicom.scu.destinations:
        try:
            require_readable(destination)
        except DestinationError as error:
            logger.warning("%s; its results wait", error)


def _log_unconfigured(store: Store, config: Config) -> None:
    with suppress(DatabaseUnusableError, DatabaseDamagedError):  # which others tell
        for each in unconfigured(store, config):
            logger.warning(each)


def _find_programs(engine: str | None, environ: Mapping[str, str]) -> None:
    if engine == "kubernetes":
        Helm.find(environ)
    if engine == "docker" and not shutil.which("docker", path=environ.get("PATH")):
        raise SettingsError("jobs.engine is docker, and docker was not found; install it and put it on PATH")
