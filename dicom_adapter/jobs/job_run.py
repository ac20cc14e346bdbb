"""One run of a job: ``clara-wf test --published``, and what became of it.

It is run by the service that keeps stages ready (`dicom_adapter.jobs.kept_stages`) if that is there, else as
a process of its own.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, TypeAlias

from clara_wf.definitions.workflow import Workflow
from clara_wf.payload import Payload
from stages.errors import OutputError, SettingsError, StageTimeoutError
from stages.lifecycle.heartbeat import sole_owner
from stages.resident import orders
from stages.runtime.processes import children, command_with_parent

logger = logging.getLogger(__name__)

JobVerdict: TypeAlias = Literal["done", "retry", "dead"]

RETRYABLE = (1, 4, 5, 6, 7)
_PACKAGES = str(Path(__file__).resolve().parents[2])
_POLL_S = 0.05
_STOP_S = 8.0
_OWNER_WAIT_S = 180.0  # a Pod whose clara-wf is gone ends by itself after a minute
_LAST_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class JobRunOptions:
    """How jobs are run.

    Attributes
    ----------
    published
        The folder of published workflows.
    engine
        ``process``, ``docker`` or ``kubernetes``.
    server
        ``host:port`` of Triton; ``"none"`` to do without; None to let the engine bring its own.
    models
        The model repository of an engine that brings its own server.
    timeout_s
        Replaces each stage's own timeout, seconds.
    stop_s
        How long a run that is asked to stop may take before it is killed with its stages, seconds.
    environ
        The environment of the run.
    service
        Where the service that keeps stages ready takes orders; None for none.
    priority
        Of the job, for such a service.
    """

    published: Path
    engine: str
    server: str | None
    models: Path | None
    timeout_s: float | None = None
    stop_s: float = _STOP_S
    environ: Mapping[str, str]
    service: Path | None = None
    priority: int = 0


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """What became of a run.

    Attributes
    ----------
    verdict
        ``done``; ``retry``: something around it failed; ``dead``: it would fail again.
    exit_code
        As `stages.errors` has them; -N if signal N ended it.
    message
        Why it failed.
    seconds
        How long it took.
    """

    verdict: JobVerdict
    exit_code: int
    message: str
    seconds: float


def run_job(
    payload: Payload,
    workflow: Workflow,
    run_options: JobRunOptions,
    *,
    stopped: Callable[[], bool],
    owner_wait_s: float = _OWNER_WAIT_S,
) -> RunOutcome | None:
    """Run a job whose payload is filled, to its end; None if it was stopped by us.

    Parameters
    ----------
    payload, workflow
        The job's folders and the workflow.
    run_options
        How it is run.
    stopped
        Tells that it shall end: it is asked to stop, and goes on at its next run.
    owner_wait_s
        How long to wait for what an adapter that was killed has left running, seconds.

    Raises
    ------
    OutputError
        If the run cannot begin, such as when the job's folder was removed.
    StageTimeoutError
        If another process still runs it after `owner_wait_s`.
    """
    if not wait_until_alone(payload, workflow, timeout_s=owner_wait_s, stopped=stopped):
        return None
    clock = time.monotonic()
    log = payload.root / "logs" / "clara-wf.log"
    with _new_log(log) as output:
        run = _begun(payload, workflow, run_options, output)
        code, was_stopped = _ended(run, stopped, run_options.stop_s)
        words = _last_line(output)
    seconds = time.monotonic() - clock
    if code == 0:
        return RunOutcome(verdict="done", exit_code=0, message="", seconds=seconds)
    if was_stopped:
        return None
    return RunOutcome(
        verdict="retry" if code < 0 or code in RETRYABLE else "dead",
        exit_code=code,
        message=_why(words, code),
        seconds=seconds,
    )


def wait_until_alone(
    payload: Payload, workflow: Workflow, *, timeout_s: float, stopped: Callable[[], bool]
) -> bool:
    """Return as soon as no process runs this job or a stage of it; False if we were stopped before.

    Parameters
    ----------
    payload, workflow
        The job's folders and the workflow.
    timeout_s
        Longest wait, seconds.
    stopped
        Returns whether we are to end.

    Raises
    ------
    OutputError
        If the job's folder is gone.
    StageTimeoutError
        If one still does at the end.
    """
    deadline = time.monotonic() + timeout_s
    while not stopped():
        try:
            with ExitStack() as owned:
                for name in ("clara-wf", *(step.name for step in workflow.steps)):
                    owned.enter_context(sole_owner(payload.lock_dir, name))
            return True
        except SettingsError as error:
            if not payload.lock_dir.is_dir():
                raise OutputError(f"the job's folder {payload.root} was removed") from error
            if time.monotonic() > deadline:
                raise StageTimeoutError(f"{error}; it did not end within {timeout_s:g} s") from error
        time.sleep(_POLL_S)
    return False


def _new_log(log: Path) -> BinaryIO:
    """Return a new file in place of what is there, which a stage may have made a link or a FIFO."""
    try:
        log.unlink(missing_ok=True)
        return log.open("x+b")
    except OSError as error:
        raise OutputError(f"the log {log} cannot be written: {error.strerror}") from error


class _Run(Protocol):
    """A run that was begun."""

    def exit_code(self) -> int | None:
        """Return None while it goes on, then its exit code; -N if signal N ended it."""

    def stop(self) -> None:
        """Ask it to stop."""

    def kill(self) -> None:
        """End it with its stages."""

    def close(self) -> None:
        """Let go of it when it has ended."""


def _begun(payload: Payload, workflow: Workflow, run_options: JobRunOptions, output: BinaryIO) -> _Run:
    arguments = _arguments(payload, workflow, run_options)
    if run_options.service is None:
        return _ProcessRun(arguments, run_options, output)
    if not orders.is_served(run_options.service):
        logger.info("job %s starts its own stages: none are kept ready", payload.job_id)
        return _ProcessRun(arguments, run_options, output)
    return _OrderedRun(arguments, run_options, output)


class _ProcessRun:
    """A run as a process of its own, whose stages lead process groups."""

    def __init__(self, arguments: list[str], run_options: JobRunOptions, output: BinaryIO) -> None:
        command = [sys.executable, "-m", "clara_wf", "test", *arguments]
        try:
            self._process = subprocess.Popen(
                command_with_parent(os.getpid(), command),
                env=environ_of_run(run_options.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            raise OutputError(f"the run of a job cannot begin: {error.strerror}") from error

    def exit_code(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        """Kill it and its stages, else deaf ones would outlive it."""
        for each in (
            children(self._process.pid) or ()
        ):  # where nobody knows them, the kernel asks them to stop
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(each, signal.SIGKILL)
        self._process.kill()

    def close(self) -> None:
        self._process.wait()


class _OrderedRun:
    """A run by the service that keeps stages ready; where that ends before it begins, as a process."""

    def __init__(self, arguments: list[str], run_options: JobRunOptions, output: BinaryIO) -> None:
        self._arguments, self._options, self._output = arguments, run_options, output
        self._instead: _ProcessRun | None = None
        assert run_options.service is not None
        order = orders.Order(
            arguments=tuple(arguments),
            environ=environ_of_run(run_options.environ),
            folder=os.getcwd(),
            umask=orders.own_umask(),
            output=os.devnull,
            errors=output.name,
        )
        self._ticket = orders.put(run_options.service, order, priority=run_options.priority)

    def exit_code(self) -> int | None:
        if self._instead is None and not self._ticket.is_served and self._ticket.withdraw():
            self._instead = _ProcessRun(self._arguments, self._options, self._output)
        return self._instead.exit_code() if self._instead else self._ticket.exit_code()

    def stop(self) -> None:
        self._instead.stop() if self._instead else self._ticket.stop()

    def kill(self) -> None:
        self._instead.kill() if self._instead else self._ticket.stop(signal.SIGKILL)

    def close(self) -> None:
        if self._instead:
            self._instead.close()
        self._ticket.close()


def environ_of_run(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of what is run for jobs: that of the adapter, with the packages it runs from."""
    paths = filter(None, [environ.get("PYTHONPATH", ""), _PACKAGES])
    return {**environ, "PYTHONPATH": ":".join(paths)}


def _arguments(payload: Payload, workflow: Workflow, run_options: JobRunOptions) -> list[str]:
    """Return what follows ``clara-wf test``."""
    options: list[str] = ["--published", str(run_options.published), "--payloads", str(payload.root.parent)]
    options += [
        "--input",
        str(payload.folder(workflow.input_folder)),
        "--engine",
        run_options.engine,
        "--json",
    ]
    if run_options.server is not None:
        options += ["--server", run_options.server]
    if run_options.models is not None:
        options += ["--models", str(run_options.models)]
    if run_options.priority:
        options += ["--priority", str(run_options.priority)]
    timeout = [] if run_options.timeout_s is None else [str(run_options.timeout_s)]
    return [workflow.id, payload.job_id, *timeout, *options]


def _ended(run: _Run, stopped: Callable[[], bool], stop_s: float) -> tuple[int, bool]:
    """Wait for the end of a run; return its exit code, and whether we have stopped it."""
    asked_at: float | None = None
    try:
        while (code := run.exit_code()) is None:
            if asked_at is None and stopped():
                run.stop()
                asked_at = time.monotonic()
            if asked_at is not None and time.monotonic() - asked_at > stop_s:
                run.kill()
            time.sleep(_POLL_S)
    finally:
        run.close()
    return code, asked_at is not None


def _why(words: str, code: int) -> str:
    """Return why a run failed: the last line that it printed."""
    return words if code > 0 else f"the run was ended by signal {-code}; its last line: {words}"


def _last_line(output: BinaryIO) -> str:
    output.seek(0, os.SEEK_END)
    output.seek(max(0, output.tell() - _LAST_BYTES))
    lines = output.read().decode("utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "none").removeprefix("clara-wf: ")
