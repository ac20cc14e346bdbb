"""A workflow tried on this machine: input, model server, stages, report, in this order."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clara_wf.definitions.workflow import Step, Workflow
from clara_wf.engines.choice import choose, make_engine, require_docker
from clara_wf.engines.engine import NO_SERVER, JobRun, Outcome, Progress
from clara_wf.engines.watch import run_workflow
from clara_wf.files.digests import Digests
from clara_wf.payload import Payload, checked_job_id, fill_input, payload_for, steps_to_run
from clara_wf.report.cached import fingerprint, keep, kept
from clara_wf.report.job_report import JobReport, make_report
from clara_wf.run.served_models import not_compared, publish_repository, publish_server
from clara_wf.workspace import Places
from stages.lifecycle import models_file
from stages.lifecycle.heartbeat import sole_owner
from stages.runtime.job_files import is_there

if TYPE_CHECKING:
    from clara_wf.run.service import Ready

DEMO_JOB = "11111111-1111-1111-1111-111111111111"


@dataclass(frozen=True, kw_only=True)
class LocalRun:
    """What to run.

    Attributes
    ----------
    workflow
        The workflow.
    places
        Where things lie.
    engine
        How the stages run; None to choose, see `clara_wf.engines.choice`.
    job
        The job; None for the demonstration, or for one named after `input_dir`.
    input_dir
        DICOM files to use instead of the job's test data.
    server
        ``host:port`` of a Triton server; None to start one, ``"none"`` to do without.
    timeout_s
        Replaces each stage's own timeout, seconds.
    fresh
        Run every stage, also those whose results still stand.
    keep_going
        After a failure finish the stages that do not depend on it.
    chart
        The chart of a published workflow, with the settings it was published with; None for the one of
        the workspace with the settings of the values.yaml.
    ready
        What a service keeps ready for it: stages that stay, and a model server.
    priority
        Of its stages among those of other jobs that the same service runs.
    """

    workflow: Workflow
    places: Places
    engine: str | None = None
    job: str | None = None
    input_dir: Path | None = None
    server: str | None = None
    timeout_s: float | None = None
    fresh: bool = False
    keep_going: bool = False
    chart: Path | None = None
    ready: Ready | None = None
    priority: int = 0


def run_locally(
    run: LocalRun, *, environ: Mapping[str, str], print_line: Callable[[str], None], on_progress: Progress
) -> tuple[JobReport, Outcome]:
    """Run a workflow and report on it.

    Parameters
    ----------
    run
        What is run, and where.
    environ
        Environment variables.
    print_line
        Called with a line for the user before each part that may take a while.
    on_progress
        Called with the status of every stage while they run.
    """
    clock = time.monotonic()
    engine_name = choose(run.workflow, run.engine)
    if engine_name == "docker" and run.engine is None:
        require_docker(run.workflow, environ)
    engine = make_engine(
        engine_name,
        models=None if run.server == NO_SERVER else run.places.models,
        chart=run.chart or run.places.chart,
        values=None if run.chart else run.places.values,
        residents=run.ready.stages if run.ready else None,
        priority=run.priority,
    )
    job, source = _job_and_source(run, print_line)
    payload = payload_for(run.places.payloads.resolve(), job, run.workflow)
    if payload.job_id != job:
        print_line(
            f"job {job} is of another workflow; this run of {run.workflow.name} is job {payload.job_id}"
        )
    payload.make_folders(run.workflow)
    with sole_owner(payload.lock_dir, "clara-wf"):
        digests = Digests(payload.root / "digests.json")
        fill_input(payload, run.workflow, source, digests)
        _publish_models(run, payload, engine=engine.name)
        finished = [step for step in run.workflow.steps if is_there(payload.lock_dir / step.block.lockName)]
        to_run = steps_to_run(payload, run.workflow, fresh=run.fresh, digest_of=digests)
        for line in _what_became_of(finished, to_run, payload):
            print_line(line)
        _refuse_living_stages(payload, to_run)
        payload.describe(run.workflow, engine=engine.name)
        needed = bool(to_run) and engine.name == "process"
        with _model_server(run, payload, environ, needed=needed, print_line=print_line) as triton_url:
            job_run = JobRun(
                workflow=run.workflow,
                payload=payload,
                to_run=to_run,
                triton_url=triton_url,
                timeout_s=run.timeout_s,
                environ=environ,
                keep_going=run.keep_going,
            )
            outcome = run_workflow(engine, job_run, on_progress=on_progress)
        report = _report(run, payload, outcome, clock, digests)
        digests.save()
    return report, outcome


def _report(run: LocalRun, payload: Payload, outcome: Outcome, clock: float, digests: Digests) -> JobReport:
    """Return the report that the job has if nothing ran and nothing changed, or else draw it."""
    truth_dir = run.places.test_data / payload.job_id / "truth"
    made_of = fingerprint(
        run.workflow, payload, engine=outcome.engine, truth_dir=truth_dir, digest_of=digests
    )
    nothing_ran = all(status.state == "kept" for status in outcome.statuses)
    report = kept(payload, made_of, digests) if nothing_ran else None
    if report is not None:
        seconds = round(time.monotonic() - clock, 3)
        return replace(report, seconds=seconds, stages=[asdict(status) for status in outcome.statuses])
    report = make_report(
        run.workflow, payload, outcome, seconds=time.monotonic() - clock, truth_dir=truth_dir
    )
    if report.succeeded:
        keep(report, payload, made_of, digests)
    return report


def _job_and_source(run: LocalRun, print_line: Callable[[str], None]) -> tuple[str, Path]:
    if run.job is not None:
        checked_job_id(run.job)
    if run.input_dir is not None:
        folder = run.input_dir.resolve()
        return run.job or str(uuid.uuid5(uuid.NAMESPACE_URL, f"{run.workflow.id}:{folder}")), folder
    job = run.job or DEMO_JOB
    source = run.places.test_data / job / run.workflow.input_folder
    if job == DEMO_JOB and not (source.is_dir() and any(source.iterdir())):
        from clara_wf.run.demo import make_demo_job

        print_line("making an abdominal CT phantom as test data (synthetic, not a patient)")
        make_demo_job(run.places.test_data / job, run.workflow.input_folder)
    return job, source


def _publish_models(run: LocalRun, payload: Payload, *, engine: str) -> None:
    """Record the models that the stages will be served with, as far as they are known."""
    if run.server == NO_SERVER:
        models_file.publish_models(payload.lock_dir, [])
    elif run.server:
        publish_server(payload, run.workflow, run.server)
    else:
        has_own = engine != "kubernetes"  # a cluster may have a server of its own, from another repository
        publish_repository(payload, run.places.models, run.places.cache, surely=has_own)


def _what_became_of(finished: Sequence[Step], to_run: Mapping[str, str], payload: Payload) -> Iterator[str]:
    """Yield why results of an earlier run are made again, and what is not known of those that are kept."""
    for step in finished:
        if step.name in to_run:
            yield f"{step.name} runs again: {to_run[step.name]}"
    yield from not_compared(payload, [step for step in finished if step.name not in to_run])


def _refuse_living_stages(payload: Payload, to_run: Mapping[str, str]) -> None:
    """Refuse to run a stage that a driver left over from elsewhere still runs."""
    for name in to_run:
        with sole_owner(payload.lock_dir, name):
            pass


@contextmanager
def _model_server(
    run: LocalRun,
    payload: Payload,
    environ: Mapping[str, str],
    *,
    needed: bool,
    print_line: Callable[[str], None],
) -> Iterator[str | None]:
    if run.server == NO_SERVER:
        yield None
    elif run.server:
        yield run.server
    elif not needed:
        yield None
    elif run.ready and (url := run.ready.server_for(run.places.models)):
        yield url
    else:
        from clara_wf.model_server.server import serve

        log = payload.root / "logs" / "model-server.log"
        with serve(
            run.places.models, cache=run.places.cache, log=log, on_progress=print_line, environ=environ
        ) as server:
            yield server.grpc_url
