"""The command line of clara-wf: what it was started in, its commands, its exit codes."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer

from clara_wf.commands.extensions import added_commands
from clara_wf.commands.lazy import SETTINGS, LazyGroup, group_of
from clara_wf.commands.options import CommandContext
from clara_wf.workspace import Places
from stages import __version__
from stages.errors import StageError, TerminatedError
from stages.runtime import extras, logs

COMMANDS = {
    "init": ("init:init_workspace", "Lay out a workspace: workflows, charts, a model, an example."),
    "cs": ("define:create_stage", "Add a stage to the chart, or complete the one there is."),
    "new": ("define:create_workflow", "Add a workflow to the chart: a chain of stages."),
    "list": ("publish:list_workflows", "List the workflows of the chart, or the published ones."),
    "show": ("define:show_workflow", "Show a workflow as a graph."),
    "lint": ("define:check_chart", "Check a values.yaml or a dicom-server-config.yaml."),
    "plan": ("define:plan_workflow", "Print what each engine would run; nothing is run."),
    "test": ("run:try_workflow", "Run a workflow here or on a cluster, and report on it."),
    "serve": ("serve:serve_workflows", "Keep stages and the model server ready for jobs."),
    "status": ("run:show_status", "Show how jobs are doing: done, running, failed and why."),
    "logs": ("run:show_logs", "Print what the stages of a job logged."),
    "publish": ("publish:publish_workflow", "Put a workflow, checked and versioned, into a folder."),
    "unpublish": ("publish:unpublish_workflow", "Take a workflow from the published ones."),
    "models": ("models:app", "List the models of a repository, check one, add one."),
    "doctor": ("inspect:examine_machine", "Look at what works on this machine and what is missing."),
    "env": ("shell:print_environment", "Print what puts clara-wf and its Python on PATH."),
    "help": ("shell:show_help", "Show the help of a command."),
}
"""By name, in the order of the help: the function below `clara_wf.commands`, and what the help says of it.

What other packages add (`clara_wf.commands.extensions`) follows the command named in `_BEFORE_ADDED`.
"""

_BEFORE_ADDED = "models"

app = typer.Typer(
    **SETTINGS | {"add_completion": True},
    name="clara-wf",
    cls=LazyGroup,
    help="Define, check, try, publish and run workflows of GPU inference stages for medical imaging.",
    no_args_is_help=True,
)

_STOPPING = (signal.SIGINT, signal.SIGTERM)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"clara-wf {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are one line on standard error.

    Parameters
    ----------
    argv
        The words after the program's name; None for those of this process.
    """
    logs.configure(level=logging.WARNING)
    os.environ.setdefault(
        "PYDANTIC_DISABLE_PLUGINS", "__all__"
    )  # looking for some takes 20 ms; there are none
    for number in _STOPPING:
        signal.signal(number, _stop)
    _heed_switch()
    arguments = sys.argv[1:] if argv is None else argv
    around = CommandContext(environ=os.environ, places=Places.here(os.environ), arguments=arguments)
    own = {name: (f"clara_wf.commands.{at}", said) for name, (at, said) in COMMANDS.items()}
    commands = group_of(app, own, more=added_commands, behind=_BEFORE_ADDED)
    try:
        commands.main(args=argv, prog_name="clara-wf", obj=around)
    except StageError as error:
        typer.echo(f"clara-wf: {error}", err=True)
        return error.exit_code
    except ModuleNotFoundError as error:
        missing = extras.explain(error)
        if missing is None:
            raise
        typer.echo(f"clara-wf: {missing}", err=True)
        return missing.exit_code
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0


def _heed_switch() -> None:
    """Hide the GPU from all that is started here, where the environment says so."""
    if "CLARA_GPU" in os.environ:
        from clara_wf.model_server.gpu import is_wanted, without_gpu

        if not is_wanted(os.environ):
            os.environ.update(without_gpu(os.environ))


def _stop(number: int, frame: FrameType | None) -> None:
    """Stop once, in order: the stages, the model server, then this program."""
    for each in _STOPPING:
        signal.signal(each, signal.SIG_IGN)
    raise TerminatedError(f"stopped by {signal.Signals(number).name}; the same command goes on where it was")


def entry_point() -> None:
    """Run the installed command."""
    sys.exit(main())
