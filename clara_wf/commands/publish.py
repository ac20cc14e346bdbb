"""Publish workflows and list them: publish, unpublish, list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from clara_wf.commands.completion import WorkflowName, workflows
from clara_wf.commands.options import (
    AsJson,
    CommandContext,
    Models,
    Values,
    command_context,
    print_line,
    print_table,
)
from stages.errors import InputError

Target = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="Folder of published workflows, such as /clara-io/clara-core/workflows/."
    ),
]


def publish_workflow(
    context: typer.Context,
    workflow: WorkflowName,
    display_name: Annotated[str, typer.Argument(metavar="NAME", help='What people see: "User AI".')],
    target: Target,
    values: Values = None,
    models: Models = None,
    as_json: AsJson = False,
) -> None:
    """Publish a workflow: check it, render it, and put it whole and versioned into a folder.

    Published again unchanged, nothing is touched.
    """
    from clara_wf.publish.publish import publish

    around = command_context(context, values=values, models=models)
    made = publish(
        workflow,
        display_name,
        target,
        values=around.places.values,
        chart=around.places.chart,
        models=around.places.models,
        environ=around.environ,
    )
    if as_json:
        print_line(json.dumps(made.record() | {"isNew": made.is_new, "folder": str(made.folder)}, indent=2))
        return
    if made.is_new:
        print_line(f"published {made.name} as {made.display_name!r}, version {made.version}")
        if "kubernetes" not in made.engines:
            print_line(
                "without Helm here it is for the process and docker engines; install Helm for the cluster"
            )
    else:
        print_line(f"{made.name} is published just like that: version {made.version} of {made.published}")
    print_line(str(made.folder))


def unpublish_workflow(
    context: typer.Context,
    workflow: Annotated[
        str, typer.Argument(metavar="WORKFLOW", help="ID of the workflow.", autocompletion=workflows)
    ],
    target: Target,
) -> None:
    """Take a workflow from the published ones; its versions are kept."""
    from clara_wf.publish.publish import unpublish

    gone = unpublish(workflow, target)
    print_line(
        f"{gone.name} ({gone.display_name!r}) is not published any more; its versions stay in {gone.folder}"
    )


def list_workflows(
    context: typer.Context,
    target: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="Folder of published workflows. Without one: the chart's."),
    ] = None,
    values: Values = None,
    as_json: AsJson = False,
) -> None:
    """List the workflows of the chart, or those that are published in a folder."""
    around = command_context(context, values=values)
    rows = _defined(around) if target is None else _published(target)
    if as_json:
        print_line(json.dumps(rows, indent=2))
        return
    if not rows:
        print_line(f"no workflow is published in {target}" if target else "the chart defines no workflow")
        return
    headings = ["ID" if heading == "id" else heading for heading in rows[0]]
    cells = [
        [", ".join(cell) if isinstance(cell, list) else str(cell) for cell in row.values()] for row in rows
    ]
    print_table(headings, cells, whole=["ID"])


def _defined(around: CommandContext) -> list[dict[str, object]]:
    from clara_wf.definitions.workflow import load_workflows

    workflows = load_workflows(around.places.values).values()
    return [{"id": w.id, "name": w.name, "stages": [s.name for s in w.steps]} for w in workflows]


def _published(target: Path) -> list[dict[str, object]]:
    from clara_wf.publish.published import list_published

    if not target.is_dir():
        raise InputError(f"there is no folder {target}; publish makes it")
    return [
        {
            "id": each.workflow,
            "name": each.display_name,
            "workflow": each.name,
            "version": each.version,
            "published": each.published,
            "by": each.by,
            "engines": list(each.engines),
        }
        for each in list_published(target)
    ]
