"""Options that several commands share, and where they look by default."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clara_wf.text.untrusted import printable_lines
from clara_wf.workspace import Places

if TYPE_CHECKING:
    from clara_wf.run.service import Ready

Values = Annotated[Path | None, typer.Option("--values", metavar="FILE", help="Use another values.yaml.")]
Payloads = Annotated[Path | None, typer.Option("--payloads", metavar="DIR", help="Folder that jobs run in.")]
Models = Annotated[Path | None, typer.Option("--models", metavar="DIR", help="Use another model repository.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text for people.")]


@dataclass(frozen=True, kw_only=True)
class CommandContext:
    """What the command line was started in.

    Attributes
    ----------
    environ
        Environment variables.
    places
        Where things lie.
    arguments
        The whole command line after the program's name.
    ready
        What a service keeps ready for the command; None where it was started by itself.
    """

    environ: Mapping[str, str]
    places: Places
    arguments: Sequence[str] = ()
    ready: Ready | None = None


def command_context(
    context: typer.Context,
    *,
    values: Path | None = None,
    payloads: Path | None = None,
    models: Path | None = None,
) -> CommandContext:
    """Return the context with the places that were given on the command line."""
    found = context.find_object(CommandContext)
    assert found is not None, "the command line sets it"
    given: Any = {"values": values, "payloads": payloads, "models": models}
    places = replace(found.places, **{key: path.resolve() for key, path in given.items() if path})
    return replace(found, places=places)


def print_line(line: str = "") -> None:
    """Print a line of the result.

    Parameters
    ----------
    line
        The line.
    """
    typer.echo(printable_lines(line))


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, whole: Collection[str] = ()
) -> None:
    """Print a table, as wide as it is where nobody watches.

    Parameters
    ----------
    headings, rows
        What stands above the columns and the cells of each row.
    whole
        Headings of the columns that are never broken.
    """
    from rich import box
    from rich.table import Table

    from clara_wf.text.terminal import Terminal

    table = Table(box=box.SIMPLE, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading in whole)
    for row in rows:
        table.add_row(*row)
    terminal = Terminal()
    (terminal if terminal.is_terminal else Terminal(width=160)).print(table)
