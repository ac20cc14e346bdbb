"""The process engine: each stage a local process, all started at once, wired by their locks."""

from __future__ import annotations

import importlib.util
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from clara_wf.definitions.workflow import Step
from clara_wf.engines.engine import Engine, JobRun
from clara_wf.engines.environment import local_folders, settings_for
from clara_wf.residents.programs import Program, pool_name
from stages.errors import SettingsError
from stages.resident import orders
from stages.resident.orders import Ticket
from stages.runtime import job_files, subreaper
from stages.runtime.processes import children, peak_memory_bytes

logger = logging.getLogger(__name__)

_PACKAGES = str(Path(__file__).resolve().parents[2])
_GRACE_S = 10.0  # in which a stage tells its failure when clara-wf is gone
_KILL_S = 6.0
_POLL_S = 0.01


class ProcessEngine(Engine):
    """Runs every stage as a process of this machine: by one that stays where there is one, else by its own.

    Parameters
    ----------
    residents
        Where the folders of orders of stages that stay lie; None for none.
    priority
        Of the job among those that stages that stay have.
    """

    name = "process"

    def __init__(self, residents: Path | None = None, *, priority: int = 0) -> None:
        self._residents, self._priority = residents, priority

    @contextmanager
    def start(self, run: JobRun) -> Iterator[LocalJob]:
        """Start the stages that have to run."""
        job = LocalJob()
        try:
            for step in run.workflow.steps:
                if step.name in run.to_run:
                    job.stages[step.name] = self._start(step, run)
            yield job
        finally:
            for stage in job.stages.values():
                stage.kill()
                stage.close()

    def _start(self, step: Step, run: JobRun) -> LocalStage | ResidentStage:
        ticket = _ordered(step, run, self._residents, self._priority) if self._residents else None
        return _start(step, run) if ticket is None else ResidentStage(ticket, lambda: _start(step, run))

    def plan(self, run: JobRun) -> list[str]:
        """Return the command of each stage with its settings."""
        return [_line(step, run) for step in run.workflow.steps]


@dataclass(kw_only=True)
class LocalJob:
    """Stages that run as processes.

    Attributes
    ----------
    stages
        Each stage by name.
    images
        The image of each stage, with its digest.
    """

    stages: dict[str, LocalStage | ResidentStage] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)

    def refresh(self) -> None:
        """Do nothing: the payload lies on this machine."""


class LocalStage:
    """A stage that runs as a process, in a session of its own, below a `stages.runtime.subreaper`.

    Parameters
    ----------
    process
        The process.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def exit_code(self) -> int | None:
        """Return None while it runs."""
        return self._process.poll()

    def pending(self) -> str:
        """Return nothing: a process runs as soon as it is started."""
        return ""

    def stop(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """End it with all that it has started, and wait for it."""
        if self._process.poll() is None:
            self._process.send_signal(subreaper.END_NOW)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_KILL_S)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def peak_memory_bytes(self) -> int:
        """Return the most resident memory it has had (proc(5), VmHWM)."""
        found = children(self._process.pid)
        return max(map(peak_memory_bytes, [self._process.pid] if found is None else found), default=0)

    def why_killed(self) -> None:
        """Return nothing: a process does not learn who ended it."""

    def close(self) -> None:
        """Do nothing: it has been waited for."""


class ResidentStage:
    """A stage that is done by one that stays; where that ends before it begins, by a process of its own.

    Parameters
    ----------
    ticket
        Of the order.
    instead
        Starts it as a process.
    """

    def __init__(self, ticket: Ticket, instead: Callable[[], LocalStage]) -> None:
        self._ticket, self._instead = ticket, instead
        self._local: LocalStage | None = None
        self._code: int | None = None

    def exit_code(self) -> int | None:
        """Return None while it runs."""
        if self._local is not None:
            return self._local.exit_code()
        if self._code is None:
            self._code = self._ticket.exit_code()
        if self._code is None and not self._ticket.is_served and self._ticket.withdraw():
            self._local = self._instead()
        return self._code

    def pending(self) -> str:
        """Return that others are before it, while they are."""
        return "others are before it" if self._local is None and self._ticket.waits_for_turn else ""

    def stop(self) -> None:
        """Send SIGTERM."""
        self._local.stop() if self._local else self._ticket.stop()

    def kill(self) -> None:
        """End it with all that it has started, and wait for it."""
        if self._local is not None:
            self._local.kill()
            return
        end = time.monotonic() + _KILL_S
        while self.exit_code() is None and time.monotonic() < end:
            if not self._ticket.is_taken and self._ticket.withdraw():
                self._code = -signal.SIGKILL
                return
            self._ticket.stop(signal.SIGKILL)
            time.sleep(_POLL_S)

    def peak_memory_bytes(self) -> int:
        """Return the most resident memory it has had (proc(5), VmHWM)."""
        if self._local is not None:
            return self._local.peak_memory_bytes()
        return peak_memory_bytes(self._ticket.process) if self._ticket.process else 0

    def why_killed(self) -> None:
        """Return nothing: a process does not learn who ended it."""

    def close(self) -> None:
        """Remove the order."""
        self._ticket.close()


def command_of(step: Step) -> tuple[str, ...]:
    """Return how a stage runs as a local process: its `command`, or the module of its name.

    A command that begins with ``python`` runs in the interpreter and with the packages of clara-wf.
    """
    program, *rest = step.block.command or ("python", "-m", _module_of(step))
    return (sys.executable if program == "python" else program, *rest)


def can_run(step: Step) -> bool:
    """Return whether a stage has a command or a module, so that it can run without its image."""
    return bool(step.block.command) or importlib.util.find_spec(_module_of(step)) is not None


def _module_of(step: Step) -> str:
    return step.name.replace("-", "_")


def _line(step: Step, run: JobRun) -> str:
    settings = [f"{key}={value}" for key, value in _settings(step, run).items() if value]
    return shlex.join(["env", *settings, *command_of(step), *step.arguments])


def program_of(step: Step, environ: Mapping[str, str], *, at_once: int = 1) -> Program:
    """Return the program of a stage with its arguments, without what is of one job.

    Parameters
    ----------
    step
        The stage, in its workflow.
    environ
        The environment that local processes inherit.
    at_once
        How many jobs work at the same time where it stays.

    Raises
    ------
    SettingsError
        If there is no such program.
    """
    own = {**environ, **_python_path(environ), **step.block.env}
    program, *rest = command_of(step)
    found = shutil.which(program, path=own.get("PATH"))
    if found is None:
        raise SettingsError(f"cannot start {step.name}: there is no program {program!r}")
    command = (found, *rest, *step.arguments)
    return Program(stage=step.name, command=command, environ=own, at_once=at_once)


def _ordered(step: Step, run: JobRun, residents: Path, priority: int) -> Ticket | None:
    """Order a stage from one that stays; None where there is none for it."""
    program = program_of(step, run.environ)
    folder = residents / pool_name(program)
    if not step.block.resident or not orders.is_served(folder):
        logger.info("%s is started for this job: nobody keeps it ready", step.name)
        return None
    log = str(run.payload.log(step.name))
    order = orders.Order(
        environ={**program.environ, **_settings(step, run)},
        folder=os.getcwd(),
        umask=orders.own_umask(),
        output=log,
        errors=log,
    )
    return orders.put(folder, order, priority=priority)


def _start(step: Step, run: JobRun) -> LocalStage:
    program = program_of(step, run.environ)
    environ = {**program.environ, **_settings(step, run)}
    command = subreaper.command_under(os.getpid(), [*program.command], grace_s=_GRACE_S)
    try:
        with job_files.open_to_append(run.payload.log(step.name)) as output:
            return LocalStage(
                subprocess.Popen(
                    command,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # a terminal's Ctrl-C reaches us, and we stop the stages
                )
            )
    except OSError as error:
        raise SettingsError(f"cannot start {step.name}: {error}") from error


def _settings(step: Step, run: JobRun) -> dict[str, str]:
    folders = local_folders(step, run)
    return settings_for(step, run, folders, triton_url=run.triton_url, path_separator=os.pathsep)


def _python_path(environ: Mapping[str, str]) -> dict[str, str]:
    """Return where a stage finds the packages that this program runs from."""
    given = environ.get("PYTHONPATH", "")
    paths = [path for path in given.split(os.pathsep) if path and path != _PACKAGES]
    return {"PYTHONPATH": os.pathsep.join([*paths, _PACKAGES])}
