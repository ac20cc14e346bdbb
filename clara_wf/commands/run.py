"""Run workflows and look at their jobs: test, status, logs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clara_wf.commands.archives import (
    Accession,
    Config,
    Dates,
    Modality,
    Patient,
    ShowIdentifiers,
    Study,
    archives_of,
)
from clara_wf.commands.completion import WorkflowName, engines, jobs, stages_of_job
from clara_wf.commands.options import (
    AsJson,
    CommandContext,
    Models,
    Payloads,
    Values,
    command_context,
    print_line,
    print_table,
)
from clara_wf.engines.engine import ENGINES, NO_SERVER, Outcome
from clara_wf.payload import Payload, checked_job_id
from clara_wf.run.status import JobStatus, job_in, jobs_in
from clara_wf.text.suggestion import did_you_mean
from clara_wf.text.untrusted import printable_lines
from stages.errors import SettingsError
from stages.runtime.job_files import last_lines, open_to_read

if TYPE_CHECKING:
    from clara_wf.definitions.workflow import Workflow
    from clara_wf.report.job_report import JobReport
    from clara_wf.run.archives import StudyQuery

_LAST_LINES = 15
_FOLLOW_S = 0.2


Job = Annotated[
    str | None,
    typer.Argument(
        help="Job ID: uses test-data/JOB/<first stage>/input. Without one: a phantom.", autocompletion=jobs
    ),
]
Timeout = Annotated[
    float | None,
    typer.Argument(min=0.001, help="Seconds, instead of each stage's own timeout (300 in the chart)."),
]
EngineName = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(ENGINES),
        autocompletion=engines,
        help="How the stages run. Without it: process, or docker if a stage has only its image.",
    ),
]
Input = Annotated[
    Path | None, typer.Option("--input", metavar="DIR", help="Use this folder of DICOM files as input.")
]
Server = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        envvar="NVIDIA_CLARA_TRTISURI",
        help=f"gRPC endpoint of a Triton server; '{NO_SERVER}' to do without. Without it one is started.",
    ),
]
PublishedIn = Annotated[
    Path | None,
    typer.Option("--published", metavar="DIR", help="Run it as it was published in this folder."),
]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="NAME", help="Fetch the input from this archive, as `pull` does."),
]
To = Annotated[
    str | None, typer.Option("--to", metavar="NAME", help="Send the results to this archive afterwards.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Run every stage, also those that have finished.")]
KeepGoing = Annotated[
    bool, typer.Option("--keep-going", help="After a failure finish the stages that do not need it.")
]
Warm = Annotated[
    bool, typer.Option("--warm", help="Have it run by `clara-wf serve` if that runs; it starts faster.")
]
Priority = Annotated[
    int, typer.Option("--priority", min=0, max=9, help="With --warm: overtake jobs of lower priority.")
]
Cpu = Annotated[
    bool, typer.Option("--cpu", help="Leave the GPU alone, as CLARA_GPU=off does (process engine).")
]


def try_workflow(
    context: typer.Context,
    workflow: WorkflowName,
    job: Job = None,
    timeout: Timeout = None,
    engine: EngineName = None,
    input_dir: Input = None,
    archive: From = None,
    study: Study = "",
    accession: Accession = "",
    patient: Patient = "",
    dates: Dates = "",
    modality: Modality = "",
    show_identifiers: ShowIdentifiers = False,
    to: To = None,
    config: Config = None,
    server: Server = None,
    published: PublishedIn = None,
    models: Models = None,
    payloads: Payloads = None,
    values: Values = None,
    fresh: Fresh = False,
    keep_going: KeepGoing = False,
    cpu: Cpu = False,
    warm: Warm = False,
    priority: Priority = 0,
    as_json: AsJson = False,
) -> None:
    """Run a workflow on this machine or on a cluster, and report on the job.

    A job that was interrupted goes on at the first stage that has not finished. With `--from` its input is a
    study that an archive has, with `--to` its results are sent to one: archives are the destinations of a
    dicom-server-config.yaml.
    """
    around = command_context(context, values=values, payloads=payloads, models=models)
    if warm and around.ready is None:
        _run_by_service(around, priority)
    from clara_wf.model_server.gpu import without_gpu
    from clara_wf.run.archives import FetchOptions, study_query
    from clara_wf.run.display import LiveProgress
    from clara_wf.run.local_run import LocalRun, run_locally
    from clara_wf.text.terminal import Terminal

    if published and values:
        raise SettingsError(
            "give --published or --values, not both: what is published has its own values.yaml"
        )
    asked = {"study_uid": study, "accession": accession, "patient_id": patient, "dates": dates}
    query = study_query(**asked, modality=modality) if archive else None
    _require_sole_input(query, job, input_dir, (*asked.values(), modality))
    found, chart = chosen(workflow, published, around.places.values)
    archives = archives_of(config, around.places) if archive or to else None
    if archives and to:
        archives.require(to)  # before anything runs
    run = LocalRun(
        workflow=found,
        chart=chart,
        places=around.places,
        engine=engine,
        job=job,
        input_dir=input_dir,
        server=server,
        timeout_s=timeout,
        fresh=fresh,
        keep_going=keep_going,
        ready=around.ready,
        priority=priority,
    )
    with LiveProgress(Terminal(stderr=True)) as progress:
        if archives and archive and query:
            options = FetchOptions(show_identifiers=show_identifiers)
            fetched = archives.fetch(archive, query, found, around.places, options, progress.print_line)
            run = replace(run, job=fetched[0].job)
        report, outcome = run_locally(
            run,
            environ=without_gpu(around.environ) if cpu else around.environ,
            print_line=progress.print_line,
            on_progress=progress.update,
        )
    _print(report, outcome, as_json=as_json)
    if archives and to and outcome.exit_code == 0:
        payload = Payload(root=Path(report.payload), job_id=report.job)
        typer.echo(archives.deliver(to, payload, found), err=True)
    raise typer.Exit(outcome.exit_code)


def _require_sole_input(
    query: StudyQuery | None, job: str | None, input_dir: Path | None, asked: Sequence[str]
) -> None:
    if query is None and any(asked):
        raise SettingsError("--study, --accession, --patient, --date and --modality need --from NAME")
    if query is not None and (job or input_dir):
        raise SettingsError("give --from, --input or a job, not several: each names the input")


def _run_by_service(around: CommandContext, priority: int) -> None:
    """Exit as the service's run of this command line did; return, and say why, where there is no service."""
    from clara_wf.run.warm import jobs_folder, run_warm, why_not

    folder = jobs_folder(around.places.payloads)
    rest = [each for each in around.arguments if each != "--warm"]
    why = why_not(folder)
    code = (
        None if why else run_warm(folder, rest[rest.index("test") + 1 :], around.environ, priority=priority)
    )
    if code is not None:
        raise typer.Exit(code)
    typer.echo(f"not warm: {why or 'the service has ended'}", err=True)


def chosen(workflow: str, published: Path | None, values: Path) -> tuple[Workflow, Path | None]:
    """Return a workflow, and its chart if it is a published one."""
    from clara_wf.definitions.workflow import find_workflow, load_workflows
    from clara_wf.publish.published import load_published

    if published is None:
        return find_workflow(load_workflows(values), workflow), None
    record, found = load_published(published, workflow)
    return found, record.chart


def _print(report: JobReport, outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        print_line(report.as_json())
    else:
        from clara_wf.run.display import print_report
        from clara_wf.text.terminal import Terminal

        print_report(Terminal(), report, list(outcome.statuses))
    if outcome.culprit is not None:
        name = outcome.culprit.name
        log = Path(report.payload) / "logs" / f"{name}.log"
        end = "\n".join(["", f"the end of {log}:", *last_lines(log)[-_LAST_LINES:], ""])
        told = f"{end}\nclara-wf: {name} failed: {outcome.culprit.message}"
        typer.echo(printable_lines(told), err=True)


def show_status(
    context: typer.Context,
    job: Annotated[
        str | None, typer.Argument(help="Job ID. Without one: every job.", autocompletion=jobs)
    ] = None,
    payloads: Payloads = None,
    as_json: AsJson = False,
) -> None:
    """Show how jobs are doing: which stage is done, runs, failed and why."""
    folder = command_context(context, payloads=payloads).places.payloads
    jobs = [job_in(folder, job)] if job else jobs_in(folder)
    if as_json:
        print_line(json.dumps([asdict(each) for each in jobs], indent=2))
        return
    if not jobs:
        print_line(f"no job has run in {folder}")
        return
    headings = ("job", "workflow", "engine", "started", "state", "stages")
    rows = [(each.job, each.workflow, each.engine, each.started, each.state, _stages(each)) for each in jobs]
    print_table(headings, rows, whole=["job"])


def _stages(job: JobStatus) -> str:
    return "\n".join(
        f"{stage.name}: {stage.state}{f' ({stage.message})' if stage.message else ''}" for stage in job.stages
    )


def show_logs(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="Job ID.", autocompletion=jobs)],
    stage: Annotated[
        str | None,
        typer.Argument(help="One stage. Without it: every stage.", autocompletion=stages_of_job),
    ] = None,
    lines: Annotated[
        int | None, typer.Option("--lines", "-n", min=0, help="Only so many lines of each, the last.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    payloads: Payloads = None,
) -> None:
    """Print what the stages of a job logged."""
    folder = command_context(context, payloads=payloads).places.payloads
    found = job_in(folder, checked_job_id(job))
    names = [each.name for each in found.stages]
    if stage is not None and stage not in names:
        meant = did_you_mean(stage, names)
        raise SettingsError(f"job {job} has no stage {stage!r}{meant}; it has {', '.join(names)}")
    logs = {name: folder / job / "logs" / f"{name}.log" for name in ([stage] if stage else names)}
    with ExitStack() as files:
        tails = {name: _tail(path, lines, files) for name, path in logs.items()}
        _show(tails, prefix=stage is None)
        while follow and job_in(folder, job).state == "running":
            _show(tails, prefix=stage is None)
            time.sleep(_FOLLOW_S)
        _show(tails, prefix=stage is None)


def _show(tails: dict[str, Iterator[str]], *, prefix: bool) -> None:
    for name, tail in tails.items():
        for line in tail:
            if not line:
                break
            print_line(f"{name} | {line}" if prefix else line)


def _tail(path: Path, lines: int | None, files: ExitStack) -> Iterator[str]:
    """Yield the lines of a file, and "" whenever there are no more for now."""
    while (opened := open_to_read(path)) is None:
        yield ""
    file = files.enter_context(TextIOWrapper(opened, encoding="utf-8", errors="backslashreplace"))
    have = file.readlines()
    if lines is not None:
        have = have[max(0, len(have) - lines) :]
    for line in have:
        yield line.rstrip("\n") or " "
    while True:
        line = file.readline()
        yield (line.rstrip("\n") or " ") if line else ""
