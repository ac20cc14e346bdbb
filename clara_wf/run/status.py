"""How the jobs of a payload folder are doing, read from their locks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from clara_wf.payload import Payload
from clara_wf.text.suggestion import did_you_mean
from stages.errors import InputError, SettingsError
from stages.lifecycle import locks
from stages.lifecycle.heartbeat import HEARTBEAT_S, sole_owner
from stages.runtime import job_files

StageState: TypeAlias = Literal["pending", "running", "silent", "done", "failed"]
JobState: TypeAlias = Literal["running", "done", "failed", "interrupted"]
_SILENT_S = 4 * HEARTBEAT_S


@dataclass(frozen=True, kw_only=True)
class StageSummary:
    """A stage of a job.

    Attributes
    ----------
    name
        The stage's name.
    state
        ``silent`` if its heartbeat stopped and it published neither success nor failure.
    message
        Why it failed, or why it is pending though the job was started, such as for want of a node.
    """

    name: str
    state: StageState
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """A job and its stages; `started` is ISO 8601, UTC.

    Attributes
    ----------
    job
        The job's ID.
    workflow
        The workflow's name.
    engine
        The name of the engine that runs it.
    started
        When it was started; "" where that is not known.
    state
        How it is doing.
    stages
        Its stages, in order.
    """

    job: str
    workflow: str
    engine: str
    started: str
    state: JobState
    stages: tuple[StageSummary, ...]


def jobs_in(payloads: Path) -> list[JobStatus]:
    """Return every job of a payload folder, the newest first.

    Parameters
    ----------
    payloads
        The folder of all jobs.
    """
    return sorted(_jobs(payloads), key=lambda job: job.started, reverse=True)


def job_in(payloads: Path, job: str) -> JobStatus:
    """Return one job.

    Parameters
    ----------
    payloads, job
        The folder of all jobs and the job's ID.

    Raises
    ------
    InputError
        If there is none of that ID, naming those there are.
    """
    found = [each for each in _jobs(payloads) if each.job == job]
    if not found:
        known = [each.job for each in jobs_in(payloads)]
        newest = ", ".join(known[:5]) or "none"
        meant = did_you_mean(job, known)
        raise InputError(f"there is no job {job!r} in {payloads}{meant}; the newest are: {newest}")
    return found[0]


def _jobs(payloads: Path) -> Iterator[JobStatus]:
    for record in sorted(payloads.glob("*/job.json")):
        try:
            content = job_files.read_object(record)
            payload = Payload(root=record.parent, job_id=str(content["job"]))
            pending = payload.pending if _is_run_by_somebody(payload) else ""
            stages = tuple(_stage(payload, str(name), pending) for name in content["stages"])
            yield JobStatus(
                job=payload.job_id,
                workflow=str(content["workflow"]["name"]),
                engine=str(content["engine"]),
                started=str(content["started"]),
                state=_state(payload, stages),
                stages=stages,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{record} is not the record of a job: {error!r}") from error


def _stage(payload: Payload, name: str, pending: str) -> StageSummary:
    lock = f"{name}.lock"
    failure = locks.read_failure(locks.failure_path(payload.lock_dir, lock))
    if job_files.is_there(payload.lock_dir / lock):
        return StageSummary(name=name, state="done")
    if failure is not None:
        return StageSummary(name=name, state="failed", message=failure.message)
    try:
        age_s = time.time() - locks.running_path(payload.lock_dir, lock).stat().st_mtime
    except OSError:
        return StageSummary(name=name, state="pending", message=pending)
    return StageSummary(name=name, state="running" if age_s < _SILENT_S else "silent")


def _state(payload: Payload, stages: tuple[StageSummary, ...]) -> JobState:
    if _is_run_by_somebody(payload):
        return "running"
    states = {stage.state for stage in stages}
    if states == {"done"}:
        return "done"
    return "failed" if "failed" in states else "interrupted"


def _is_run_by_somebody(payload: Payload) -> bool:
    """Return whether a living clara-wf of this machine owns the job."""
    try:
        with sole_owner(payload.lock_dir, "clara-wf"):
            return False
    except SettingsError:
        return True
