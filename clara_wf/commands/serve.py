"""Keep stages and the model server ready for jobs: serve."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clara_wf.commands.completion import workflows as known_workflows
from clara_wf.commands.lazy import Later
from clara_wf.commands.options import CommandContext, Models, Payloads, Values, command_context, print_line
from clara_wf.commands.run import PublishedIn, Server, chosen
from clara_wf.workspace import Places
from stages.errors import StageError

if TYPE_CHECKING:
    from clara_wf.definitions.workflow import Workflow
    from clara_wf.run.service import Ready

_AT_ONCE = 4


def serve_workflows(
    context: typer.Context,
    workflows: Annotated[
        list[str], typer.Argument(help="Workflows, by ID or name.", autocompletion=known_workflows)
    ],
    at_once: Annotated[
        int, typer.Option(min=1, max=64, help="How many jobs run at the same time; the others wait.")
    ] = _AT_ONCE,
    stage_count: Annotated[
        int, typer.Option(min=1, max=64, help="How many jobs one stage works on at the same time.")
    ] = 1,
    server: Server = None,
    published: PublishedIn = None,
    models: Models = None,
    payloads: Payloads = None,
    values: Values = None,
) -> None:
    """Keep stages and the model server ready, and run the jobs of `clara-wf test WORKFLOW --warm`.

    A signal (Ctrl-C) ends it when the jobs that run are done; a second one ends them as well.
    """
    from clara_wf.run.service import Service, run_service

    around = command_context(context, values=values, payloads=payloads, models=models)
    chosen_now = _chooser(workflows, published, around.places.values)
    chosen_now()
    service = Service(
        workflows=chosen_now,
        payloads=around.places.payloads,
        models=around.places.models,
        cache=around.places.cache,
        server=server,
        at_once=at_once,
        stage_count=stage_count,
        environ=around.environ,
    )
    run_service(service, do=run_test, print_line=print_line)


def run_test(ready: Ready, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run ``clara-wf test`` in a process that was forked for it, and return its exit code."""
    around = CommandContext(environ=environ, places=Places.here(environ), ready=ready)
    command = Later("test", "clara_wf.commands.run:try_workflow", "").load()
    try:
        code = command.main(  # who ordered it has parsed the same line, so no usage error is left to show
            args=list(arguments), prog_name="clara-wf test", obj=around, standalone_mode=False
        )
    except StageError as error:
        typer.echo(f"clara-wf: {error}", err=True)
        return error.exit_code
    return int(code or 0)


def _time_of(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _chooser(names: Sequence[str], published: Path | None, values: Path) -> Callable[[], Sequence[Workflow]]:
    """Return what gives the workflows as they are now, read anew when a file of theirs has changed."""
    seen: dict[str, int] = {}
    found: list[Workflow] = []

    def now() -> Sequence[Workflow]:
        files = [values] if published is None else sorted(published.glob("*/current"))
        states = {os.path.realpath(file): _time_of(file) for file in files}
        if states != seen:
            found[:] = [chosen(name, published, values)[0] for name in names]
            seen.clear()
            seen.update(states)
        return found

    return now
