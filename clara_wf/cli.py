"""The subcommands of clara-wf: parse, call one function, print, return an exit code."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from clara_wf.display import LiveProgress, print_report
from clara_wf.engines import Outcome
from clara_wf.local_run import NO_SERVER, LocalRun, run_locally
from clara_wf.places import Places
from clara_wf.report import Report
from clara_wf.workflow import find_workflow, load_workflows
from stages import logs
from stages.errors import StageError, TerminatedError

app = typer.Typer(
    name="clara-wf",
    help="Define, try and run workflows of GPU inference stages for medical imaging.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_LAST_LINES = 15
_STOPPING = (signal.SIGINT, signal.SIGTERM)


@app.command("list")
def list_workflows(
    values: Annotated[Path | None, typer.Option(metavar="FILE", help="Use another values.yaml.")] = None,
) -> None:
    """List the workflows of the chart."""
    places = Places.of_checkout(os.environ)
    table = Table(box=box.SIMPLE, pad_edge=False)
    for heading in ("ID", "name", "stages"):
        table.add_column(heading, no_wrap=heading == "ID")
    for workflow in load_workflows(values or places.values).values():
        table.add_row(workflow.id, workflow.name, ", ".join(step.name for step in workflow.steps))
    Console().print(table)


@app.command("test")
def try_workflow(
    workflow: Annotated[str, typer.Argument(help="ID or name of the workflow.")],
    job: Annotated[
        str | None,
        typer.Argument(help="Job ID: uses test-data/JOB/<first stage>/input. Without one: a phantom."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Argument(min=0.001, help="Seconds, instead of each stage's own timeout.")
    ] = None,
    input_dir: Annotated[
        Path | None, typer.Option("--input", metavar="DIR", help="Use this folder of DICOM files as input.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            envvar="NVIDIA_CLARA_TRTISURI",
            help=f"gRPC endpoint of a Triton server; '{NO_SERVER}' to do without. Without it one is started.",
        ),
    ] = None,
    models: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Model repository for the server that is started.")
    ] = None,
    payloads: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to run jobs in.")] = None,
    values: Annotated[Path | None, typer.Option(metavar="FILE", help="Use another values.yaml.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run every stage, also those that have finished.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Run a workflow on this machine: every stage a local process, a real Triton for the model.

    A job that was interrupted goes on at the first stage that has not finished.
    """
    given = {"values": values, "models": models, "payloads": payloads}
    places = replace(
        Places.of_checkout(os.environ), **{key: path.resolve() for key, path in given.items() if path}
    )
    run = LocalRun(
        workflow=find_workflow(load_workflows(places.values), workflow),
        places=places,
        job=job,
        input_dir=input_dir,
        server=server,
        timeout_s=timeout,
        fresh=fresh,
    )
    with LiveProgress(Console(stderr=True)) as progress:
        report, outcome = run_locally(run, environ=os.environ, say=progress.say, on_progress=progress.update)
    _print(report, outcome, as_json=as_json)
    raise typer.Exit(outcome.exit_code)


def _print(report: Report, outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        typer.echo(report.as_json())
    else:
        print_report(Console(), report, list(outcome.statuses))
    if outcome.culprit is not None:
        name = outcome.culprit.name
        log = Path(report.payload) / "logs" / f"{name}.log"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        typer.echo("\n".join(["", f"the end of {log}:", *lines[-_LAST_LINES:], ""]), err=True)
        typer.echo(f"clara-wf: {name} failed: {outcome.culprit.message}", err=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are one line on standard error."""
    logs.configure(level=logging.WARNING)
    for number in _STOPPING:
        signal.signal(number, _stop)
    try:
        app(args=argv, prog_name="clara-wf")
    except StageError as error:
        typer.echo(f"clara-wf: {error}", err=True)
        return error.exit_code
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    """Stop once, in order: the stages, the model server, then this program."""
    for each in _STOPPING:
        signal.signal(each, signal.SIG_IGN)
    raise TerminatedError(f"stopped by {signal.Signals(number).name}; the same command goes on where it was")


def entry_point() -> None:
    """Run the installed command."""
    sys.exit(main())
