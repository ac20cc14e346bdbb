"""Follow the stages of a job to their end, whatever engine started them."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

from clara_wf.definitions.workflow import Step
from clara_wf.engines.engine import ENDED, Engine, JobRun, Outcome, Progress, StageHandle, StageStatus
from clara_wf.payload import Payload
from stages.errors import StageError, StageTimeoutError, UpstreamError
from stages.lifecycle import locks
from stages.runtime import job_files

_POLL_S = 0.02
_LONGEST_LINE = 2000  # characters
_OVERDUE_S = 9.0  # a stage ends itself at its timeout; this much later it is ended
_AFTERMATH_S = 2.0  # what others get to report "upstream failed" by themselves
_STOP_GRACE_S = 9.0


@dataclass(kw_only=True)
class _Running:
    """A stage that was started; it has ended when its process has, which may be a while after its lock.

    `reason` is why it runs; its timeout counts from `inputs_seen`, when it ran and its inputs were there.
    """

    step: Step
    status: StageStatus
    handle: StageHandle
    timeout_s: float
    reason: str = ""
    has_ended: bool = False
    inputs_seen: float | None = None
    stop_signal_sent: float | None = None


def run_workflow(engine: Engine, run: JobRun, *, on_progress: Progress) -> Outcome:
    """Run the stages of a workflow that have to run, and return when all have ended.

    Parameters
    ----------
    engine, run
        What starts the stages and the job that is run.
    on_progress
        Called about fifty times a second with the status of every stage.
    """
    statuses = [
        StageStatus(name=step.name, message=run.to_run[step.name])
        if step.name in run.to_run
        else StageStatus(name=step.name, state="kept", exit_code=0)
        for step in run.workflow.steps
    ]
    if not run.to_run:
        on_progress(statuses)
        return Outcome(statuses=tuple(statuses), culprit=None, engine=engine.name, images={})
    run.payload.note_pending("")
    with engine.start(run) as job:
        running = [
            _Running(
                step=step,
                status=status,
                handle=job.stages[step.name],
                timeout_s=run.limit_s(step),
                reason=status.message,
            )
            for step, status in zip(run.workflow.steps, statuses, strict=True)
            if step.name in run.to_run
        ]
        watch = _Watch(running, run)
        try:
            while not all(stage.has_ended for stage in running):
                job.refresh()
                watch.look()
                on_progress(statuses)
                time.sleep(_POLL_S)
            return Outcome(
                statuses=tuple(statuses),
                culprit=watch.culprit,
                engine=engine.name,
                images=dict(job.images),
            )
        finally:
            run.payload.note_pending("")
            _stop_all(running, run.payload)


class _Watch:
    """The look at all running stages that is repeated until they have ended."""

    def __init__(self, running: list[_Running], run: JobRun) -> None:
        self._running, self._run = running, run
        self._failed_at: float | None = None
        self._pending = ""
        self._first: StageStatus | None = None

    @property
    def culprit(self) -> StageStatus | None:
        """The stage that failed first, or none."""
        failed = (stage.status for stage in self._running if stage.status.state == "failed")
        return self._first or next(failed, None)

    def look(self) -> None:
        """Update every stage, and end those that nothing can come of any more."""
        published = _published(self._running, self._run.payload)
        for stage in self._running:
            _update(stage, self._run.payload, published)
        self._note_pending()
        if self._first is None:
            self._first = _first_failure(self._running, self._run.payload)
        if self._failed_at is None and self.culprit is not None:
            self._failed_at = time.monotonic()
        if self._failed_at is not None and time.monotonic() - self._failed_at > _AFTERMATH_S:
            doomed = _behind_failures(self._running) if self._run.keep_going else self._running
            for stage in doomed:
                _ask_to_stop(stage)

    def _note_pending(self) -> None:
        """Have it written down why stages do not run yet, once for each reason."""
        pending = (stage.status.message for stage in self._running if stage.status.state == "pending")
        why = next(pending, "")
        if why != self._pending:
            self._pending = why
            self._run.payload.note_pending(why)


def _behind_failures(running: list[_Running]) -> list[_Running]:
    """Return the stages that wait, directly or through others, for one that failed."""
    lost = {stage.step.block.lockName for stage in running if stage.status.state == "failed"}
    doomed = []
    for stage in running:  # in an order in which each comes after those it waits for
        if not lost.isdisjoint(stage.step.wait_locks):
            lost.add(stage.step.block.lockName)
            doomed.append(stage)
    return doomed


def _published(running: list[_Running], payload: Payload) -> set[str]:
    """Return the locks that are there, read once a look: nobody works on what is not done yet."""
    names = {name for stage in running for name in (stage.step.block.lockName, *stage.step.wait_locks)}
    return {name for name in names if job_files.is_there(payload.lock_dir / name)}


def _update(stage: _Running, payload: Payload, published: set[str]) -> None:
    status, name = stage.status, stage.step.block.lockName
    if stage.has_ended:
        return
    clock = time.monotonic()
    code = stage.handle.exit_code()
    pending = stage.handle.pending() if code is None else ""
    _note_inputs(stage, clock, is_there=not pending and published.issuperset(stage.step.wait_locks))
    _note_peak(status, stage.handle.peak_memory_bytes())
    if status.state != "done":
        status.seconds = clock - (stage.inputs_seen or clock)
    if status.state == "pending":
        status.state, status.message = "starting", stage.reason
    if code is not None:
        _conclude(stage, payload, code)
    elif name in published:
        status.state, status.message = "done", ""
        _end_if_overdue(stage, clock)
    elif pending:
        status.state, status.message = "pending", pending
    elif stage.inputs_seen is not None:
        status.state = "working"
        _end_if_overdue(stage, clock)
    elif job_files.is_there(locks.running_path(payload.lock_dir, name)):
        status.state = "waiting"


def _note_inputs(stage: _Running, clock: float, *, is_there: bool) -> None:
    """Take note of since when a stage can work: it runs, it is its turn, and its inputs are there."""
    stage.inputs_seen = (stage.inputs_seen or clock) if is_there else None


def _conclude(stage: _Running, payload: Payload, code: int) -> None:
    status, name = stage.status, stage.step.block.lockName
    stage.has_ended = True
    path = locks.failure_path(payload.lock_dir, name)
    ended_well = code == 0 or stage.stop_signal_sent is not None  # it may hang after its lock until stopped
    if ended_well and job_files.is_there(payload.lock_dir / name):
        lock = locks.read_lock(payload.lock_dir / name)
        _note_peak(status, lock.peak_memory_bytes if lock else 0)
        status.state, status.message, status.exit_code = "done", "", 0
        return
    status.exit_code = code if code >= 0 else 1
    status.state = "failed"
    failure = _with_cause(stage, path) or _publish_for(stage, payload, code)
    job_files.remove(locks.running_path(payload.lock_dir, name))
    status.message, status.exit_code = failure.message, failure.exit_code
    _note_peak(status, failure.peak_memory_bytes)


def _note_peak(status: StageStatus, size: int) -> None:
    """Take note of the most memory by one more source: a short stage may end before it is looked at."""
    status.peak_memory_bytes = max(status.peak_memory_bytes, size)


def _with_cause(stage: _Running, path: Path) -> locks.Failure | None:
    """Return what a stage has published of its failure, with what its engine knows of the cause."""
    failure = locks.read_failure(path)
    if failure is None or failure.exit_code == UpstreamError.exit_code:
        return failure
    cause = stage.handle.why_killed()
    if cause is None:
        return failure
    code = failure.exit_code if cause.exit_code == StageError.exit_code else cause.exit_code
    message = f"{failure.message} ({cause})"
    failure = replace(failure, exit_code=code, message=message, root_message=message)
    locks.publish(path, failure)
    return failure


def _publish_for(stage: _Running, payload: Payload, code: int) -> locks.Failure:
    """Publish the failure of a stage that could not do so itself."""
    name, timed_out = stage.step.name, stage.stop_signal_sent is not None and code < 0
    cause = stage.handle.why_killed()
    if cause is not None:
        message = (
            f"{name} was killed: {cause}" if code < 0 else f"{name} ended with exit code {code}: {cause}"
        )
    elif code < 0:
        message = f"{name} was ended by {_signal_name(-code)} before it could say why"
    elif code == 0:
        message = f"{name} ended without publishing {stage.step.block.lockName}"
    else:
        line = _last_line(payload, stage)
        message = f"{name} ended with exit code {code}; the last line of its log: {line}"
    timed_out = timed_out or isinstance(cause, StageTimeoutError)
    failure = locks.Failure(
        job=payload.job_id,
        stage=name,
        finished=locks.now(),
        error="Killed" if code < 0 else "Exit",
        exit_code=StageTimeoutError.exit_code if timed_out else _exit_code(code, cause),
        message=message,
        retryable=code < 0 or (cause is not None and cause.retryable),
        root_stage=name,
        root_message=message,
        peak_memory_bytes=stage.status.peak_memory_bytes,
    )
    locks.publish(locks.failure_path(payload.lock_dir, stage.step.block.lockName), failure)
    return failure


def _exit_code(code: int, cause: StageError | None) -> int:
    if cause is not None and cause.exit_code != StageError.exit_code:
        return cause.exit_code
    return max(code, 0) or 1


def _last_line(payload: Payload, stage: _Running) -> str:
    lines = job_files.last_lines(payload.log(stage.step.name))
    return next((line for line in reversed(lines) if line.strip()), "none")[:_LONGEST_LINE]


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
    if stage.inputs_seen is not None and clock - stage.inputs_seen - stage.timeout_s > _OVERDUE_S:
        _ask_to_stop(stage)


def _ask_to_stop(stage: _Running) -> None:
    """Ask a stage to stop once, kill it when that was not enough."""
    if stage.handle.exit_code() is not None:
        return
    if stage.stop_signal_sent is None:
        stage.stop_signal_sent = time.monotonic()
        stage.handle.stop()
    elif time.monotonic() - stage.stop_signal_sent > _STOP_GRACE_S:
        stage.handle.kill()


def _stop_all(running: list[_Running], payload: Payload) -> None:
    """End whatever still runs; nothing of the workflow outlives its run."""
    while any(stage.handle.exit_code() is None for stage in running):
        for stage in running:
            _ask_to_stop(stage)
        time.sleep(_POLL_S)
    for stage in running:
        stage.handle.kill()
        if stage.status.state not in ENDED:
            stage.status.state = "stopped"
            job_files.remove(locks.running_path(payload.lock_dir, stage.step.block.lockName))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
