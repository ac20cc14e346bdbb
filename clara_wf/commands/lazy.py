"""Commands that are imported when they are called: ``--help`` and a typing mistake take nothing heavy."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
SETTINGS: dict[str, Any] = {
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
    "add_completion": False,
    "context_settings": HELP_OPTIONS,
}
"""What every `typer.Typer` of this command line is made with."""


class Later(TyperCommand):
    """A command before it is imported: its name, what the list of commands says of it, and where it is.

    Parameters
    ----------
    place
        ``module:name`` of a function or a `typer.Typer`.
    """

    def __init__(self, name: str, place: str, summary: str) -> None:
        super().__init__(name, short_help=summary, rich_markup_mode=None)
        self._place = place

    def load(self) -> Any:
        """Import it, and return it as the command that runs."""
        module, attribute = self._place.split(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            group = typer.main.get_command(found)
            group.name = self.name
            return group
        app = typer.Typer(**SETTINGS)
        app.command(self.name)(found)
        return typer.main.get_command(app)


class LazyGroup(TyperGroup):
    """A group whose commands are imported when one of them is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is meant, imported, and the arguments left for it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, Later) else command, rest


def group_of(app: typer.Typer, commands: dict[str, tuple[str, str]]) -> TyperGroup:
    """Return a group of commands that are imported when they are called.

    Parameters
    ----------
    app
        Its own options, and `LazyGroup` as its class.
    commands
        By name: ``module:name`` of a command, and what the list of commands says of it.
    """
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup), "an application with a callback is a group"
    for name, (place, summary) in commands.items():
        group.add_command(Later(name, place, summary))
    return group
