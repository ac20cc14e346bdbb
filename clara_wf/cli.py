"""The command line of clara-wf: what it was started in, its commands, its exit codes."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import typer

from clara_wf.commands import adapter, define, inspect, models, publish, run
from clara_wf.commands.options import Surroundings
from clara_wf.places import Places
from stages import logs
from stages.errors import StageError, TerminatedError

app = typer.Typer(
    name="clara-wf",
    help="Define, check, try, publish and run workflows of GPU inference stages for medical imaging.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _name, _command in (define.COMMANDS | run.COMMANDS | publish.COMMANDS | inspect.COMMANDS).items():
    app.command(_name)(_command)
app.add_typer(models.app, name="models")
app.add_typer(adapter.app, name="adapter")

_STOPPING = (signal.SIGINT, signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are one line on standard error."""
    logs.configure(level=logging.WARNING)
    for number in _STOPPING:
        signal.signal(number, _stop)
    around = Surroundings(environ=os.environ, places=Places.of_checkout(os.environ))
    try:
        app(args=argv, prog_name="clara-wf", obj=around)
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
