"""One run of a job: ``clara-wf test --published`` as a process of its own, and what became of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from clara_wf.definitions.workflow import Workflow
from clara_wf.payload import Payload
from stages.errors import OutputError, SettingsError, StageTimeoutError
from stages.lifecycle.heartbeat import sole_owner
from stages.runtime.processes import children, command_with_parent

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
    """

    published: Path
    engine: str
    server: str | None
    models: Path | None
    timeout_s: float | None = None
    stop_s: float = _STOP_S
    environ: Mapping[str, str]


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
        process = _begun(payload, workflow, run_options, output)
        was_stopped = _wait(process, stopped, run_options.stop_s)
        words = _last_line(output)
    code, seconds = process.returncode, time.monotonic() - clock
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


def _begun(
    payload: Payload, workflow: Workflow, run_options: JobRunOptions, output: BinaryIO
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            _command(payload, workflow, run_options),
            env={**run_options.environ, "PYTHONPATH": _python_path(run_options.environ)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,
        )
    except OSError as error:
        raise OutputError(f"the run of a job cannot begin: {error.strerror}") from error


def _command(payload: Payload, workflow: Workflow, run_options: JobRunOptions) -> list[str]:
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
    run = [sys.executable, "-m", "clara_wf", "test", workflow.id, payload.job_id]
    if run_options.timeout_s is not None:
        run.append(str(run_options.timeout_s))
    return command_with_parent(os.getpid(), [*run, *options])


def _python_path(environ: Mapping[str, str]) -> str:
    return ":".join(filter(None, [environ.get("PYTHONPATH", ""), _PACKAGES]))


def _wait(process: subprocess.Popen[bytes], stopped: Callable[[], bool], stop_s: float) -> bool:
    """Wait for the end of a run, and tell whether we have stopped it."""
    asked_at: float | None = None
    while process.poll() is None:
        if asked_at is None and stopped():
            process.terminate()
            asked_at = time.monotonic()
        if asked_at is not None and time.monotonic() - asked_at > stop_s:
            _kill(process)
        time.sleep(_POLL_S)
    return asked_at is not None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a run and its stages, each of which leads a process group; else deaf ones would outlive it."""
    for each in children(process.pid) or ():  # where nobody knows them, the kernel asks them to stop
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(each, signal.SIGKILL)
    process.kill()


def _why(words: str, code: int) -> str:
    """Return why a run failed: the last line that it printed."""
    return words if code > 0 else f"the run was ended by signal {-code}; its last line: {words}"


def _last_line(output: BinaryIO) -> str:
    output.seek(0, os.SEEK_END)
    output.seek(max(0, output.tell() - _LAST_BYTES))
    lines = output.read().decode("utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "none").removeprefix("clara-wf: ")
