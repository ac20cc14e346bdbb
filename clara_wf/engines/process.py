"""The process engine: each stage a local process, all started at once, wired by their locks."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from clara_wf.definitions.workflow import Step
from clara_wf.engines.engine import Engine, JobRun
from clara_wf.engines.environment import local_folders, settings_for
from stages.errors import SettingsError
from stages.runtime import job_files, subreaper
from stages.runtime.processes import children, peak_memory_bytes

_PACKAGES = str(Path(__file__).resolve().parents[2])
_GRACE_S = 10.0  # in which a stage tells its failure when clara-wf is gone
_KILL_S = 6.0


class ProcessEngine(Engine):
    """Runs every stage as a process of this machine."""

    name = "process"

    @contextmanager
    def start(self, run: JobRun) -> Iterator[LocalJob]:
        """Start the stages that have to run."""
        job = LocalJob()
        try:
            for step in run.workflow.steps:
                if step.name in run.to_run:
                    job.stages[step.name] = _start(step, run)
            yield job
        finally:
            for stage in job.stages.values():
                stage.kill()

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

    stages: dict[str, LocalStage] = field(default_factory=dict)
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


def _start(step: Step, run: JobRun) -> LocalStage:
    environ = {**run.environ, **_python_path(run), **step.block.env, **_settings(step, run)}
    program, *rest = command_of(step)
    found = shutil.which(program, path=environ.get("PATH"))
    if found is None:
        raise SettingsError(f"cannot start {step.name}: there is no program {program!r}")
    command = subreaper.command_under(os.getpid(), [found, *rest, *step.arguments], grace_s=_GRACE_S)
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


def _python_path(run: JobRun) -> dict[str, str]:
    """Return where a stage finds the packages that this program runs from."""
    given = run.environ.get("PYTHONPATH", "")
    paths = [path for path in given.split(os.pathsep) if path and path != _PACKAGES]
    return {"PYTHONPATH": os.pathsep.join([*paths, _PACKAGES])}
