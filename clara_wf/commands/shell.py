"""For the shell that somebody types in: env and help."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from clara_wf.commands.completion import commands
from clara_wf.commands.options import command_context, print_line
from clara_wf.workspace import LAUNCHER


def print_environment(context: typer.Context) -> None:
    """Print lines that put clara-wf and the Python of its environment on PATH, for this shell alone.

    In bash, zsh and fish alike: eval "$(clara-reference-workflows/clara-wf env)"
    """
    workspace = command_context(context).places.workspace
    launcher = workspace.root / LAUNCHER
    has_launcher = launcher.is_file() and not workspace.is_packaged
    folders = [launcher.parent] if has_launcher else []
    folders.append(Path(sys.executable).parent)
    print_line(_export("PATH", folders))
    if has_launcher and workspace.is_checkout:
        packages = workspace.root
        known = command_context(context).environ.get("PYTHONPATH", "").split(os.pathsep)
        others = [Path(path) for path in known if path and path != str(packages)]
        print_line(_export("PYTHONPATH", [packages, *others], keep=False))


def _export(name: str, folders: list[Path], *, keep: bool = True) -> str:
    """Return an assignment that bash, zsh and fish read alike."""
    value = os.pathsep.join(shlex.quote(str(folder)) for folder in folders)
    return f"export {name}={value}" + (f'{os.pathsep}"${name}"' if keep else "")


def show_help(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND]...", help="Such as: models check.", autocompletion=commands),
    ] = None,
) -> None:
    """Show the help of a command, as its option --help does."""
    root = context.find_root()
    root.command.main(args=[*(command or ()), "--help"], prog_name=root.info_name, obj=root.obj)
