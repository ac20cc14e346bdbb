"""Commands that are imported when they are called: ``--help`` and a typing mistake take nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Callable
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


def load(place: str) -> Any:
    """Return what stands at a ``module:name``, imported.

    Parameters
    ----------
    place
        The place.
    """
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


class Later(TyperCommand):
    """A command before it is imported: its name, what the list of commands says of it, and where it is.

    Parameters
    ----------
    name
        Its name.
    place
        ``module:name`` of a function or a `typer.Typer`.
    summary
        What the list of commands says of it.
    """

    def __init__(self, name: str, place: str, summary: str) -> None:
        super().__init__(name, short_help=summary, rich_markup_mode=None)
        self._place = place

    def load(self) -> Any:
        """Import it, and return it as the command that runs."""
        found = load(self._place)
        if isinstance(found, typer.Typer):
            group = typer.main.get_command(found)
            group.name = self.name
            return group
        app = typer.Typer(**SETTINGS)
        app.command(self.name)(found)
        return typer.main.get_command(app)


class LazyGroup(TyperGroup):
    """A group whose commands are imported when one of them is called.

    Attributes
    ----------
    more
        Returns further commands; it is asked when all are listed, or one that is not known is called.
    behind
        The command that they follow in the list.
    """

    more: Callable[[], dict[str, tuple[str, str]]] | None = None
    behind = ""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        self._add_more()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a name, or None."""
        if cmd_name not in self.commands:
            self._add_more()
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is meant, imported, and the arguments left for it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, Later) else command, rest

    def _add_more(self) -> None:
        asked, self.more = self.more, None
        if asked is None:
            return
        known = list(self.commands.items())
        place = list(self.commands).index(self.behind) + 1
        added = [(name, Later(name, *command)) for name, command in asked().items()]
        self.commands = dict([*known[:place], *added, *known[place:]])


def group_of(
    app: typer.Typer,
    commands: dict[str, tuple[str, str]],
    *,
    more: Callable[[], dict[str, tuple[str, str]]] | None = None,
    behind: str = "",
) -> TyperGroup:
    """Return a group of commands that are imported when they are called.

    Parameters
    ----------
    app
        Its own options, and `LazyGroup` as its class.
    commands
        By name: ``module:name`` of a command, and what the list of commands says of it.
    more, behind
        See `LazyGroup`.
    """
    group = typer.main.get_command(app)
    assert isinstance(group, LazyGroup), "an application with a callback is a group"
    for name, (place, summary) in commands.items():
        group.add_command(Later(name, place, summary))
    group.more, group.behind = more, behind
    return group
