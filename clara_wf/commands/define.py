"""Define and check workflows: cs, new, lint, show, plan."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from clara_wf.chart.edit import Edit, add_stage, add_workflow, save, stage_block
from clara_wf.chart.scaffold import scaffold
from clara_wf.commands.completion import WorkflowName, jobs
from clara_wf.commands.completion import engines as known_engines
from clara_wf.commands.extensions import extensions
from clara_wf.commands.lazy import load
from clara_wf.commands.options import AsJson, Payloads, Values, command_context, print_line
from clara_wf.definitions.lint import lint
from clara_wf.definitions.workflow import find_workflow, load_workflows
from clara_wf.engines.choice import known_engine, make_engine
from clara_wf.engines.engine import ENGINES
from clara_wf.files.edit_lock import sole_editor
from clara_wf.run.show import graph, plan
from clara_wf.yaml.document import Document, read_document
from clara_wf.yaml.findings import Finding, errors_of
from stages.errors import SettingsError


def create_stage(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the stage, a DNS label such as user-ai.")],
    folder: Annotated[
        Path | None,
        typer.Option("--scaffold", metavar="DIR", help="Also make a stage there that builds and runs."),
    ] = None,
    values: Values = None,
) -> None:
    """Add a stage to the chart, or complete the one there is; what people wrote stays as it is."""
    file = _values_to_change(context, values)
    with sole_editor(file):
        document = read_document(file)
        if folder is None:
            edit = add_stage(document, name, stage_block(name))
        else:
            command = ["python", str(folder.resolve() / "stage.py")]
            edit = add_stage(document, name, stage_block(name, command=command))
            made = scaffold(name, folder)
            print_line(f"made {', '.join(path.name for path in made)} in {folder}")
            print_line(f"build its image: docker build -t {name}:latest {folder}")
        _save(document, edit)


def create_workflow(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the workflow.")],
    stages: Annotated[str, typer.Option(metavar="A,B,C", help="Its stages; each reads the one before.")],
    identifier: Annotated[
        str | None, typer.Option("--id", metavar="UUID", help="Its ID. Without one: a new one.")
    ] = None,
    values: Values = None,
) -> None:
    """Add a workflow to the chart: a chain of stages, with an ID, locks and folders."""
    file = _values_to_change(context, values)
    try:
        key = str(uuid.UUID(identifier)) if identifier else str(uuid.uuid4())
    except ValueError as error:
        raise SettingsError(f"--id: a workflow's ID is a UUID, found {identifier!r}") from error
    with sole_editor(file):
        document = read_document(file)
        _save(document, add_workflow(document, key, name, [stage.strip() for stage in stages.split(",")]))


def _values_to_change(context: typer.Context, values: Path | None) -> Path:
    places = command_context(context, values=values).places
    places.workspace.require_changeable(places.values)
    return places.values


def _save(document: Document, edit: Edit) -> None:
    if edit.changes:
        save(document, edit)
    for line in edit.changes:
        print_line(line)
    print_line(f"{document.file}" + ("" if edit.changes else ": nothing to do, all is there"))


def check_chart(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="A values.yaml, or a dicom-server-config.yaml. Without one: the chart's.",
        ),
    ] = None,
    as_json: AsJson = False,
    strict: Annotated[bool, typer.Option("--strict", help="Count warnings as errors.")] = False,
) -> None:
    """Check every definition of a file: all mistakes at once, with line, column and advice."""
    places = command_context(context).places
    values = file or places.values
    check = _added_check(values) if file else None
    findings = check(values) if check else lint(values, models=places.models)
    if as_json:
        print_line(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print_line(str(finding))
        if not findings:
            print_line(f"{values}: no mistake found")
    if findings if strict else errors_of(findings):
        raise typer.Exit(SettingsError.exit_code)


def _added_check(file: Path) -> Callable[[Path], list[Finding]] | None:
    """Return the check of another package for a file that shows by a key at its top whose it is."""
    try:
        content = read_document(file).content
    except SettingsError:
        return None
    keys = content if isinstance(content, dict) else {}
    checks = {key: place for extension in extensions() for key, place in extension.checks.items()}
    place = next((place for key, place in checks.items() if key in keys), None)
    return load(place) if place else None


def show_workflow(context: typer.Context, workflow: WorkflowName, values: Values = None) -> None:
    """Show a workflow as a graph: what each stage waits for, reads and writes."""
    found = find_workflow(load_workflows(command_context(context, values=values).places.values), workflow)
    for line in graph(found):
        print_line(line)


def plan_workflow(
    context: typer.Context,
    workflow: WorkflowName,
    job: Annotated[str, typer.Argument(help="Job ID.", autocompletion=jobs)] = "JOB",
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(ENGINES), help="One engine. Without it: each.", autocompletion=known_engines
        ),
    ] = None,
    payloads: Payloads = None,
    values: Values = None,
    as_json: AsJson = False,
) -> None:
    """Print what each engine would run for a workflow; nothing is run.

    A process or a container for each stage; on a cluster one Job, in whose Pod each stage is a container.
    """
    around = command_context(context, values=values, payloads=payloads)
    found = find_workflow(load_workflows(around.places.values), workflow)
    engines = [
        make_engine(name, models=around.places.models, chart=around.places.chart, values=around.places.values)
        for name in ([known_engine(engine)] if engine else ENGINES)
    ]
    planned = plan(found, job, around.places, around.environ, engines)
    if as_json:
        print_line(json.dumps(planned, indent=2))
        return
    for engine, lines in planned.items():
        print_line(f"--engine {engine}")
        for line in lines:
            print_line(f"  {line}")
        print_line()
