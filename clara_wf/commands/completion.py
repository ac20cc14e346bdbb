"""What the shell offers when Tab is pressed: the names there are, and nothing where they cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from clara_wf.commands.options import CommandContext, command_context
from clara_wf.engines.engine import ENGINES
from stages.errors import StageError

_Offer: TypeAlias = tuple[str, str]
"""What would be written, and what it is."""


def engines(ctx: typer.Context, incomplete: str) -> list[_Offer]:
    """Offer the engines."""
    return _beginning(incomplete, ((name, "") for name in ENGINES))


def workflows(ctx: typer.Context, incomplete: str) -> list[_Offer]:
    """Offer the workflows of the values.yaml by name and by ID."""
    return _beginning(incomplete, _read(ctx, _workflows))


def jobs(ctx: typer.Context, incomplete: str) -> list[_Offer]:
    """Offer the jobs that have run, the newest first, and those that have test data."""
    return _beginning(incomplete, _read(ctx, _jobs))


def stages_of_job(ctx: typer.Context, incomplete: str) -> list[_Offer]:
    """Offer the stages of the job that stands before."""
    return _beginning(incomplete, _read(ctx, lambda around: _stages(around, str(ctx.params.get("job")))))


def models(ctx: typer.Context, incomplete: str) -> list[_Offer]:
    """Offer the models of the repository."""
    return _beginning(incomplete, _read(ctx, _models))


def commands(ctx: typer.Context, incomplete: str) -> list[_Offer]:
    """Offer the commands of clara-wf."""
    known = getattr(ctx.find_root().command, "commands", {})
    return _beginning(incomplete, ((name, each.short_help or "") for name, each in known.items()))


def _beginning(incomplete: str, offers: Iterable[_Offer]) -> list[_Offer]:
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def _read(ctx: typer.Context, names: Callable[[CommandContext], Iterable[_Offer]]) -> list[_Offer]:
    """Return the names of the places that the options so far name; none if they cannot be read."""
    given = {key: Path(path) for key in ("values", "payloads", "models") if (path := ctx.params.get(key))}
    with suppress(StageError, OSError):
        return list(names(command_context(ctx, **given)))
    return []


def _workflows(around: CommandContext) -> Iterable[_Offer]:
    from clara_wf.definitions.workflow import load_workflows

    found = load_workflows(around.places.values).values()
    return [*((each.name, each.id) for each in found), *((each.id, each.name) for each in found)]


def _jobs(around: CommandContext) -> Iterable[_Offer]:
    from clara_wf.run.status import jobs_in

    ran = {each.job: f"{each.workflow}, {each.state}" for each in jobs_in(around.places.payloads)}
    data = around.places.test_data
    given = {path.name: "test data" for path in sorted(data.glob("[!.]*")) if path.is_dir()}
    return (given | ran).items()


def _stages(around: CommandContext, job: str) -> Iterable[_Offer]:
    from clara_wf.run.status import job_in

    return [(each.name, each.state) for each in job_in(around.places.payloads, job).stages]


def _models(around: CommandContext) -> Iterable[_Offer]:
    return [(path.parent.name, "") for path in sorted(around.places.models.glob("*/config.pbtxt"))]


WorkflowName = Annotated[
    str, typer.Argument(metavar="WORKFLOW", help="ID or name of the workflow.", autocompletion=workflows)
]
