"""When each stage of a job waited, got ready and worked, from its lock and what the engine saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from clara_wf.definitions.workflow import Step, Workflow
from clara_wf.engines.engine import Outcome, StageStatus, State
from clara_wf.payload import Payload
from stages.lifecycle import locks

_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A part of a stage's time; `start` and `length` are in per cent of the whole timeline.

    Attributes
    ----------
    kind
        What the stage did meanwhile.
    start
        Where it begins.
    length
        How long it is.
    """

    kind: str
    start: float
    length: float


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """A line of the timeline; times in seconds, None where they are not known.

    Attributes
    ----------
    name
        The stage's name.
    state
        How it is doing.
    message
        Why it failed; "" where it did not.
    exit_code
        Of its process; None where it is not known.
    peak_memory_bytes
        Most resident memory; 0 where that is not known.
    image
        Its image with its digest; "" for a process.
    finished
        When it ended, for people; "" where it has not.
    waited_s
        From the start of the job until all it waits for was there.
    ready_s
        From then until its `execute` began.
    worked_s
        From the start of its `execute` to its end.
    bars
        What its time consists of.
    """

    name: str
    state: State
    message: str
    exit_code: int | None
    peak_memory_bytes: int
    image: str
    finished: str
    waited_s: float | None
    ready_s: float | None
    worked_s: float | None
    bars: tuple[Bar, ...]


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Every stage, and the ticks of the axis: (per cent, seconds).

    Attributes
    ----------
    stages
        A line for each stage, in order.
    ticks
        Where each stands, and what it says.
    """

    stages: tuple[StageTime, ...]
    ticks: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class _Span:
    """Points in time of a stage, seconds since 1970."""

    inputs: float | None
    started: float | None
    finished: float | None


def make_timeline(workflow: Workflow, payload: Payload, outcome: Outcome, *, started: str) -> Timeline:
    """Return the timeline of a job.

    Parameters
    ----------
    workflow, payload
        The workflow and the job's folders.
    outcome
        How the stages ended.
    started
        When the job started, ISO 8601.
    """
    statuses = {status.name: status for status in outcome.statuses}
    spans = {step.name: _span(payload, step, statuses[step.name]) for step in workflow.steps}
    ran = [span for name, span in spans.items() if statuses[name].state != "kept"]
    ends = [span.finished for span in ran if span.finished is not None]
    begin = _seconds(started) or min((s.started for s in ran if s.started is not None), default=0.0)
    whole = max([end - begin for end in ends] + [0.001])
    stages = tuple(
        _stage_time(statuses[name], span, begin=begin, whole=whole, image=outcome.images.get(name, ""))
        for name, span in spans.items()
    )
    return Timeline(stages=stages, ticks=_ticks(whole) if ends else ())


def readable_time(iso: str) -> str:
    """Return an ISO 8601 time as people read it, in UTC; "" for none.

    Parameters
    ----------
    iso
        The time.
    """
    seconds = _seconds(iso)
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _span(payload: Payload, step: Step, status: StageStatus) -> _Span:
    path = payload.lock_dir / step.block.lockName
    awaited = [_published(payload.lock_dir / name) for name in step.wait_locks]
    known = [when for when in awaited if when is not None]
    inputs = max(known) if len(known) == len(awaited) else None
    failure = locks.read_failure(locks.failure_path(payload.lock_dir, path.name))
    if failure is not None:  # it says when the stage came to life, not when it began to work
        finished = _seconds(failure.finished) or _written(locks.failure_path(payload.lock_dir, path.name))
        began = _seconds(failure.started) or inputs
        return _Span(inputs, max(began, inputs) if began and inputs else None, finished)
    lock = locks.read_lock(path)
    finished = (_seconds(lock.finished) if lock else None) or _written(path)
    started = _seconds(lock.started) if lock else None
    if started is None and finished is not None and status.seconds:
        started = finished - status.seconds  # the lock of a stage that tells no times
    return _Span(inputs, started, finished)


def _published(lock: Path) -> float | None:
    record = locks.read_lock(lock)
    return (_seconds(record.finished) if record else None) or _written(lock)


def _written(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _seconds(iso: str) -> float | None:
    try:
        return datetime.fromisoformat(iso).timestamp()
    except ValueError:
        return None


def _stage_time(status: StageStatus, span: _Span, *, begin: float, whole: float, image: str) -> StageTime:
    kept = status.state == "kept"
    bars: tuple[Bar, ...] = () if kept else _bars(span, status.state, begin=begin, whole=whole)
    worked = None if span.started is None or span.finished is None else span.finished - span.started
    inputs = None if span.inputs is None else max(span.inputs, begin)  # a rerun finds them there
    ready = None
    if not kept and span.started is not None and inputs is not None:
        ready = max(0.0, span.started - inputs)
    waited = None if kept or inputs is None else inputs - begin
    finished = "" if span.finished is None else datetime.fromtimestamp(span.finished, UTC).isoformat()
    return StageTime(
        name=status.name,
        state=status.state,
        message=status.message,
        exit_code=status.exit_code,
        peak_memory_bytes=status.peak_memory_bytes,
        image=image,
        finished=readable_time(finished),
        waited_s=waited,
        ready_s=ready,
        worked_s=worked,
        bars=bars,
    )


def _bars(span: _Span, state: State, *, begin: float, whole: float) -> tuple[Bar, ...]:
    """Return waiting, getting ready and working, one after the other."""
    inputs, end = span.inputs, span.finished if span.finished is not None else begin + whole
    working = "failed" if state == "failed" else "working"
    if span.started is None:  # it never began to work
        return _within([("waiting", begin, end)], begin, whole)
    ready = min(span.started, inputs) if inputs is not None else span.started
    parts = [("waiting", begin, ready), ("ready", ready, span.started), (working, span.started, end)]
    return _within(parts, begin, whole)


def _within(parts: Sequence[tuple[str, float, float]], begin: float, whole: float) -> tuple[Bar, ...]:
    bars = []
    for kind, start, end in parts:
        low, high = (min(max((when - begin) / whole * 100, 0.0), 100.0) for when in (start, end))
        if high > low:
            bars.append(Bar(kind=kind, start=round(low, 3), length=round(high - low, 3)))
    return tuple(bars)


def _ticks(whole: float) -> tuple[tuple[float, float], ...]:
    step = next((tick for tick in _TICKS if whole / tick <= 8), _TICKS[-1])
    return tuple((round(100 * n * step / whole, 3), n * step) for n in range(int(whole / step) + 1))
