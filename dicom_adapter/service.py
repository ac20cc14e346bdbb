"""The adapter as a whole: what is started in which order, reloaded, and stopped."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pynetdicom import evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from clara_wf.helm import Helm
from clara_wf.places import Places
from dicom_adapter.books.delivery_books import try_everything_now
from dicom_adapter.books.integrity import lacks_log, require_sound
from dicom_adapter.books.store import Store
from dicom_adapter.config import load_config
from dicom_adapter.config_blocks import Config, Http, Scp
from dicom_adapter.delivering.commitment import handle_report
from dicom_adapter.delivering.couriers import Couriers
from dicom_adapter.owner import sole_adapter
from dicom_adapter.places import AdapterPlaces
from dicom_adapter.receiving.claims import Claims
from dicom_adapter.receiving.receive import Receiver, sweep
from dicom_adapter.receiving.reception import Reception
from dicom_adapter.receiving.scp import StorageScp
from dicom_adapter.retention import Retention
from dicom_adapter.running.jobs import JobQueue, Surroundings
from dicom_adapter.running.shared_server import SharedServer
from dicom_adapter.running.studies import Studies, take_up
from dicom_adapter.watching import status_server
from dicom_adapter.watching.audit import AuditTrail
from dicom_adapter.watching.metrics import Metrics
from dicom_adapter.watching.overview import page_of, queue_of, report_of, why_not_ready
from stages.errors import SettingsError, StageError

logger = logging.getLogger(__name__)

_FIXED = ("storage", "http")
_FIXED_SCP = ("port", "host", "max_associations", "max_pdu", "idle_seconds")


@dataclass(frozen=True, kw_only=True)
class Running:
    """An adapter that runs.

    Attributes
    ----------
    dicom_port, http_port
        Where it listens.
    reload
        Reads the configuration again; one that has a mistake changes nothing.
    """

    dicom_port: int
    http_port: int
    reload: Callable[[], None]


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
            logger.warning("storage, http, and where and how we listen change at the next start")
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
    places = AdapterPlaces(root=storage.root)
    with ExitStack() as stack:
        owner = stack.enter_context(sole_adapter(places.root))
        if owner.was_killed and lacks_log(places.books):
            logger.warning(
                "the last run was killed, and the database's write-ahead log is gone since: what it held is "
                "lost, and some results may be sent again"
            )
        require_sound(places.books, studies=places.studies, identity=owner.identity)
        half = sweep(places)
        store = Store(places.books)
        stack.callback(store.close)
        owner.keep(store.identity)
        trail = AuditTrail(places.audit, ae_title=settings().dicom.scu.ae_title)
        stack.callback(trail.close)
        around = Surroundings(
            store=store,
            config=settings,
            trail=trail,
            metrics=Metrics(),
            clock=store.clock,
            environ=environ,
        )
        parts = _Parts(around, places, environ)
        parts.retention.finish()
        found = take_up(store, places)
        try_everything_now(store)
        logger.info("swept %d half-received files, took up %d received ones", half, found)
        trail.started()
        stack.callback(trail.stopped)
        with parts.started(stack) as (dicom_port, http_port):

            def reload() -> None:
                settings.reload()
                parts.couriers.start()

            yield Running(dicom_port=dicom_port, http_port=http_port, reload=reload)


class _Parts:
    """All that works in an adapter."""

    def __init__(self, around: Surroundings, places: AdapterPlaces, environ: Mapping[str, str]) -> None:
        self._around = around
        storage = around.config().storage
        models = _models(around.config(), environ)
        self._server = SharedServer(
            models or Path(),
            cache=Places.of_checkout(environ).cache,
            log=places.root / "model-server.log",
        )
        claims = Claims()
        self._receiver = Receiver(
            places,
            minimum_free=storage.minimum_free,
            claims=claims,
            trouble=lambda: around.store.trouble,
        )
        self.couriers = Couriers(around)
        self._jobs = JobQueue(
            around, models=models, model_server=self._server.address, on_done=self.couriers.wake
        )
        self._studies = Studies(
            around.store, around.config, on_jobs=lambda study, jobs: self._jobs.wake(), claims=claims
        )
        self.retention = Retention(around, forget=self._receiver.forget, claims=claims)
        self._scp = StorageScp(
            lambda: around.config().dicom.scp,
            self._receiver,
            Reception(self._studies, around.metrics, around.trail, around.config),
            others=((evt.EVT_N_EVENT_REPORT, self._reported),),
            other_contexts=(str(StorageCommitmentPushModel),),
            reporters=lambda: reporters(around.config()),
        )

    @contextmanager
    def started(self, stack: ExitStack) -> Iterator[tuple[int, int]]:
        """Start everything, the door last; stop everything, the door first."""
        around, http = self._around, self._around.config().http
        around.metrics.watch(partial(queue_of, around))
        stack.callback(self._server.close)
        for part in (self._jobs, self.couriers, self.retention, self._studies):
            part.start()
            stack.callback(part.stop)
        self._scp.start()
        stack.callback(self._scp.stop)
        stack.callback(around.store.hurry)
        answers = status_server.Answers(
            why_not_ready=partial(why_not_ready, around),
            page=partial(page_of, around),
            metrics=around.metrics.text,
            report=partial(report_of, around),
        )
        with status_server.serve(http.host, http.port, answers, token=_token(http)) as http_port:
            yield self._scp.port, http_port

    def _reported(self, event: Any) -> tuple[int, None]:
        return handle_report(event, self.couriers.take_report), None


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
    found = (each for each in (platform, Places.of_checkout(environ).models) if each.is_dir())
    return next(found, None)


def _find_programs(engine: str | None, environ: Mapping[str, str]) -> None:
    if engine == "kubernetes":
        Helm.find(environ)
    if engine == "docker" and not shutil.which("docker", path=environ.get("PATH")):
        raise SettingsError("jobs.engine is docker, and docker was not found; install it and put it on PATH")


def _token(http: Http) -> str | None:
    if not http.token_file:
        return None
    try:
        token = Path(http.token_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(
            f"the token for the status page cannot be read: {http.token_file}: {error.strerror}"
        ) from error
    if not token:
        raise SettingsError(f"{http.token_file} is empty; write a token into it")
    return token
