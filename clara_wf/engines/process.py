"""The process engine: each stage a local process, all started at once, wired by their locks."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clara_wf.engines import ENDED, Outcome, Progress, StageStatus
from clara_wf.payload import Payload
from clara_wf.workflow import Step, Workflow
from stages import locks
from stages.errors import SettingsError, StageTimeoutError
from stages.settings import PREFIX

logger = logging.getLogger(__name__)

_POLL_S = 0.05
_OVERDUE_S = 9.0  # a stage ends itself at its timeout; this much later it is ended
_AFTERMATH_S = 2.0  # what others get to report "upstream failed" by themselves
_STOP_GRACE_S = 9.0
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(kw_only=True)
class _Running:
    """A stage whose process was started."""

    step: Step
    status: StageStatus
    process: subprocess.Popen[bytes]
    timeout_s: float
    started: float = field(default_factory=time.monotonic)
    inputs_seen: float | None = None
    stop_signal_sent: float | None = None


def run_workflow(
    workflow: Workflow,
    payload: Payload,
    *,
    to_run: Mapping[str, str],
    triton_url: str | None,
    timeout_s: float | None,
    environ: Mapping[str, str],
    on_progress: Progress,
) -> Outcome:
    """Run the stages of a workflow that have to run, and return when all have ended.

    Parameters
    ----------
    to_run
        The stages to run and why, by name; the others are kept as they are.
    timeout_s
        Replaces each stage's own timeout where given, seconds.
    environ
        The environment the stages inherit.
    on_progress
        Called about twenty times a second with the status of every stage.
    """
    statuses = [
        StageStatus(name=step.name, message=to_run[step.name])
        if step.name in to_run
        else StageStatus(name=step.name, state="kept", exit_code=0)
        for step in workflow.steps
    ]
    running: list[_Running] = []
    try:
        for step, status in zip(workflow.steps, statuses, strict=True):
            if status.state != "kept":
                limit = timeout_s or step.block.timeout
                settings = _environment(step, workflow, payload, triton_url, limit)
                process = _start(step, {**environ, **step.block.env, **settings}, payload.log(step.name))
                running.append(_Running(step=step, status=status, process=process, timeout_s=limit))
        return Outcome(statuses=tuple(statuses), culprit=_watch(running, payload, statuses, on_progress))
    finally:
        _stop_all(running, payload)


def _environment(
    step: Step, workflow: Workflow, payload: Payload, triton_url: str | None, timeout_s: float
) -> dict[str, str]:
    settings = {
        "JOBID": payload.job_id,
        "STAGENAME": step.name,
        "INPUT": os.pathsep.join(str(payload.folder(folder)) for folder in step.input_folders),
        "OUTPUT": str(payload.folder(step.output_folder)),
        "SOURCE": str(payload.folder(workflow.input_folder)),
        "LOGS": str(payload.log(step.name)),
        "PUBLISHING": str(payload.publish_dir / step.name),
        "LOCKDIR": str(payload.lock_dir),
        "WAITLOCKS": ",".join(step.wait_locks),
        "LOCKNAME": step.block.lockName,
        "TIMEOUT": f"{timeout_s:g}",
        "TRTISURI": triton_url or "",
        "NOSYNCLOCK": "",
    }
    return {PREFIX + key: value for key, value in settings.items()}


def _start(step: Step, environ: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    command = step.block.command or (sys.executable, "-m", step.name.replace("-", "_"))
    try:
        with log.open("ab") as output:
            return subprocess.Popen(
                [*command, *step.arguments],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a terminal's Ctrl-C reaches us, and we stop the stages
                preexec_fn=_die_with_parent,
            )
    except OSError as error:
        raise SettingsError(f"cannot start {step.name}: {error}") from error


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the process that started this one is gone (prctl(2))."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _watch(
    running: list[_Running], payload: Payload, statuses: list[StageStatus], on_progress: Progress
) -> StageStatus | None:
    """Follow the stages until all have ended; return the one that failed first."""
    culprit: StageStatus | None = None
    failed_at = 0.0
    while any(stage.status.state not in ENDED for stage in running):
        for stage in running:
            _update(stage, payload)
        on_progress(statuses)
        if culprit is None:
            culprit = _first_failure(running, payload)
            failed_at = time.monotonic()
        elif time.monotonic() - failed_at > _AFTERMATH_S:
            for stage in running:
                _ask_to_stop(stage)
        time.sleep(_POLL_S)
    on_progress(statuses)
    failed = (stage.status for stage in running if stage.status.state == "failed")
    return culprit or _first_failure(running, payload) or next(failed, None)


def _update(stage: _Running, payload: Payload) -> None:
    status, lock_dir, name = stage.status, payload.lock_dir, stage.step.block.lockName
    if status.state in ENDED:
        return
    clock = time.monotonic()
    code = stage.process.poll()
    if stage.inputs_seen is None and all((lock_dir / lock).exists() for lock in stage.step.wait_locks):
        stage.inputs_seen = clock
    status.peak_memory_bytes = max(status.peak_memory_bytes, _peak_memory(stage.process.pid))
    status.seconds = clock - (stage.inputs_seen or clock)
    if code is not None:
        _conclude(stage, payload, code)
    elif stage.inputs_seen is not None:
        status.state = "working"
        _end_if_overdue(stage, clock)
    elif locks.running_path(lock_dir, name).exists():
        status.state = "waiting"


def _conclude(stage: _Running, payload: Payload, code: int) -> None:
    status, name = stage.status, stage.step.block.lockName
    path = locks.failure_path(payload.lock_dir, name)
    status.exit_code = code if code >= 0 else 1
    if code == 0 and (payload.lock_dir / name).exists():
        status.state, status.message = "done", ""
        return
    status.state = "failed"
    failure = locks.read_failure(path) or _publish_for(stage, payload, code)
    locks.running_path(payload.lock_dir, name).unlink(missing_ok=True)
    status.message, status.exit_code = failure.message, failure.exit_code


def _publish_for(stage: _Running, payload: Payload, code: int) -> locks.Failure:
    """Publish the failure of a stage that could not do so itself."""
    if code < 0:
        message = f"{stage.step.name} was ended by {_signal_name(-code)} before it could say why"
    elif code == 0:
        message = f"{stage.step.name} ended without publishing {stage.step.block.lockName}"
    else:
        message = (
            f"{stage.step.name} ended with exit code {code}; its last words: {_last_words(payload, stage)}"
        )
    name, timed_out = stage.step.name, stage.stop_signal_sent is not None and code < 0
    exit_code = StageTimeoutError.exit_code if timed_out else max(code, 0) or 1
    failure = locks.Failure(
        job=payload.job_id,
        stage=name,
        finished=locks.now(),
        error="Killed" if code < 0 else "Exit",
        exit_code=exit_code,
        message=message,
        retryable=code < 0,
        root_stage=name,
        root_message=message,
    )
    locks.publish(locks.failure_path(payload.lock_dir, stage.step.block.lockName), failure)
    return failure


def _last_words(payload: Payload, stage: _Running) -> str:
    lines = payload.log(stage.step.name).read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "none")


def _first_failure(running: list[_Running], payload: Payload) -> StageStatus | None:
    """Return the failed stage that the others' failures point to; None until it has ended too."""
    names = {stage.step.name for stage in running}
    for stage in running:
        if stage.status.state == "failed":
            failure = locks.read_failure(locks.failure_path(payload.lock_dir, stage.step.block.lockName))
            if failure is None or failure.root_stage == stage.step.name or failure.root_stage not in names:
                return stage.status
    return None


def _end_if_overdue(stage: _Running, clock: float) -> None:
    assert stage.inputs_seen is not None
    overdue = clock - stage.inputs_seen - stage.timeout_s - _OVERDUE_S
    if overdue > 0:
        _ask_to_stop(stage)


def _ask_to_stop(stage: _Running) -> None:
    """Send SIGTERM once, SIGKILL to the whole group when that was not enough."""
    if stage.process.poll() is not None:
        return
    if stage.stop_signal_sent is None:
        stage.stop_signal_sent = time.monotonic()
        stage.process.terminate()
    elif time.monotonic() - stage.stop_signal_sent > _STOP_GRACE_S:
        _kill_group(stage.process)


def _stop_all(running: list[_Running], payload: Payload) -> None:
    """End whatever still runs; nothing of the workflow outlives its run."""
    while any(stage.process.poll() is None for stage in running):
        for stage in running:
            _ask_to_stop(stage)
        time.sleep(_POLL_S)
    for stage in running:
        _kill_group(stage.process)
        if stage.status.state not in ENDED:
            stage.status.state = "stopped"
            locks.running_path(payload.lock_dir, stage.step.block.lockName).unlink(missing_ok=True)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _peak_memory(pid: int) -> int:
    """Return the most resident memory a process has had, bytes; 0 where that is not to be had."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
