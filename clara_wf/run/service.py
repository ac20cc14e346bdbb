"""Stages and the model server are kept ready, and run jobs that others order (``clara-wf serve``).

It is a host itself (`stages.resident.host`): an order is the command line of one ``clara-wf test``, which
runs in a process forked for it that has all modules loaded. Its folder lies among the payloads::

    <payloads>/.resident/jobs            orders of jobs
    <payloads>/.resident/stages/<name>   orders of the stages of these jobs
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from clara_wf.definitions.workflow import Workflow
from clara_wf.engines.engine import NO_SERVER
from clara_wf.engines.process import can_run, program_of
from clara_wf.model_server.server import ModelServer, ModelServerError
from clara_wf.model_server.server import serve as serve_models
from clara_wf.residents.pools import Pools
from clara_wf.run.warm import jobs_folder, service_folder
from stages.errors import SettingsError, StageError
from stages.resident import forks, orders
from stages.resident.host import Assignment, Host
from stages.resident.sources import Sources
from stages.resident.worker import become

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
_HEAVY = (
    *("clara_wf.commands.run", "clara_wf.run.local_run", "clara_wf.run.display", "clara_wf.run.demo"),
    *("clara_wf.report.page", "clara_wf.report.picture", "clara_wf.report.mask_labels"),
    *("clara_wf.report.cached", "clara_wf.publish.published"),
    *("clara_wf.text.terminal", "stages.volume.io", "scipy.ndimage", "yaml", "PIL.Image"),
)


@dataclass(frozen=True, kw_only=True)
class Service:
    """What is kept ready, and for whom.

    Attributes
    ----------
    workflows
        Returns the workflows whose stages stay, as they are defined now.
    payloads
        Where jobs run.
    models, cache
        The model repository, and where the model server is installed.
    server
        ``host:port`` of a Triton; ``"none"`` for none; None to start one.
    at_once
        How many jobs run at the same time; the others wait, by priority.
    stage_count
        How many jobs one stage works on at the same time.
    environ
        The environment of stages and jobs.
    """

    workflows: Callable[[], Sequence[Workflow]]
    payloads: Path
    models: Path
    cache: Path
    server: str | None
    at_once: int
    stage_count: int
    environ: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """Where the orders lie."""
        return service_folder(self.payloads)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """What a job finds ready.

    Attributes
    ----------
    stages
        Where the folders of orders of stages lie.
    models
        The model repository of the server.
    server
        ``host:port``; None where there is no server.
    is_current
        Returns whether the server still has the models of the repository.
    """

    stages: Path
    models: Path
    server: str | None
    is_current: Callable[[], bool]

    def server_for(self, models: Path) -> str | None:
        """Return ``host:port`` of the server if it has the models of this repository as they are now.

        Parameters
        ----------
        models
            A model repository.
        """
        is_same = models.is_dir() and self.models.is_dir() and models.samefile(self.models)
        return self.server if is_same and self.is_current() else None


def run_service(
    service: Service,
    *,
    do: Callable[[Ready, Sequence[str], Mapping[str, str]], int],
    print_line: Callable[[str], None],
) -> None:
    """Run until asked to stop; jobs that run then come to their end.

    Parameters
    ----------
    service
        What is kept ready.
    do
        Runs a job in a process of its own: takes what is ready, the arguments of the command line and the
        environment, returns the exit code.
    print_line
        Called with a line for the user.

    Raises
    ------
    SettingsError
        If another service has these payloads, or this process cannot be forked.
    """
    service.payloads.mkdir(parents=True, exist_ok=True)
    orders.make_folder(service.folder)
    if orders.is_served(service.folder):
        raise SettingsError(f"jobs in {service.payloads} are already served by another clara-wf serve")
    with orders.living(service.folder):
        _serve(service, do, print_line)


def _serve(
    service: Service,
    do: Callable[[Ready, Sequence[str], Mapping[str, str]], int],
    print_line: Callable[[str], None],
) -> None:
    jobs = jobs_folder(service.payloads)
    orders.make_folder(jobs)
    for name in _HEAVY:
        importlib.import_module(name)
    pools = Pools(service.folder / "stages")
    sources = Sources()
    try:
        while True:
            with _model_server(service, print_line) as server:
                watch = _Watch(service, pools, server, sources)
                pools.wait_until_ready()
                if why := forks.why_not():
                    raise SettingsError(f"this service cannot be forked: {why}")
                ready = f"ready for jobs in {service.payloads}: clara-wf test WORKFLOW --warm"
                host = Host(
                    jobs,
                    most=service.at_once,
                    adopts=False,
                    tick=watch.look,
                    on_ready=lambda: print_line(ready),  # noqa: B023 - called in this round
                )
                assignment = host.serve()
                if assignment is not None:
                    _run_and_exit(assignment, watch.ready(), do)
            if not watch.is_renewed:
                break
            print_line(f"starting again: {watch.why}")
            if sources.changed():
                pools.close()
                os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], dict(service.environ))  # noqa: S606
    finally:
        pools.close()
        _remove(service.folder)


def _remove(folder: Path) -> None:
    """Remove the folder of a service in one step, as another may begin at any moment."""
    gone = folder.with_name(f"{folder.name}-{os.getpid()}")
    with suppress(OSError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


class _Watch:
    """The look that a service takes at what it keeps, about once a second."""

    def __init__(
        self, service: Service, pools: Pools, server: ModelServer | str | None, sources: Sources
    ) -> None:
        self._service, self._pools, self._server, self._sources = service, pools, server, sources
        self._models = _state_of(service.models)
        self._next = 0.0
        self.why = ""
        self._keep_stages()

    @property
    def is_renewed(self) -> bool:
        """Whether the service ends in order to begin again."""
        return bool(self.why)

    def ready(self) -> Ready:
        """Return what a job finds ready."""
        models, state = self._service.models, self._models
        server = self._server.grpc_url if isinstance(self._server, ModelServer) else self._server
        return Ready(
            stages=self._service.folder / "stages",
            models=models,
            server=server,
            is_current=lambda: _state_of(models) == state,
        )

    def look(self) -> str:
        """Return why the service ends, with its jobs; "" if it goes on."""
        if time.monotonic() < self._next or self.why:
            return self.why
        self._next = time.monotonic() + _LOOK_S
        self._keep_stages()
        self._pools.look_after()
        self.why = self._why_renewed()
        return self.why

    def _keep_stages(self) -> None:
        try:
            workflows = self._service.workflows()
        except SettingsError as error:
            logger.warning("the stages stay as they are: %s", str(error).splitlines()[0])
            return
        for step in (step for workflow in workflows for step in workflow.steps):
            if step.block.resident and can_run(step):
                with suppress(SettingsError):
                    self._pools.keep(
                        program_of(step, self._service.environ, at_once=self._service.stage_count)
                    )

    def _why_renewed(self) -> str:
        if file := self._sources.changed():
            return f"{file} has changed"
        if isinstance(self._server, ModelServer):
            try:
                self._server.check()
            except ModelServerError as error:
                return str(error).splitlines()[0]
            if _state_of(self._service.models) != self._models:
                return f"the models in {self._service.models} have changed"
        return ""


@contextmanager
def _model_server(service: Service, print_line: Callable[[str], None]) -> Iterator[ModelServer | str | None]:
    if service.server is not None:
        yield None if service.server == NO_SERVER else service.server
        return
    log = service.folder / "model-server.log"
    with serve_models(
        service.models, cache=service.cache, log=log, on_progress=print_line, environ=service.environ
    ) as server:
        yield server


def _state_of(repository: Path) -> dict[str, tuple[int, int]]:
    """Return what changes when a file of a model repository does."""
    states = {}
    for path in repository.rglob("*"):
        with suppress(OSError):
            if path.is_file():
                found = path.stat()
                states[str(path)] = (found.st_mtime_ns, found.st_size)
    return states


def _run_and_exit(
    assignment: Assignment, ready: Ready, do: Callable[[Ready, Sequence[str], Mapping[str, str]], int]
) -> NoReturn:
    """Run a job in the process that was forked for it, and end that; what the service keeps stays."""
    code = StageError.exit_code
    try:
        become(assignment.order)
        code = do(ready, assignment.order.arguments, assignment.order.environ)
    except BaseException:  # a border: what goes wrong here is for who ordered the job
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
