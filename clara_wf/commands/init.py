"""Make a workspace: init."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from clara_wf.commands.options import say
from clara_wf.workspace import WORKFLOWS, make_workspace


def init_workspace(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")],
) -> None:
    """Lay out a workspace: workflows, charts, a model, an example.

    Its workflows are defined in DIR/clara-reference-workflows, its models are in DIR/models, and jobs run in
    DIR/clara-reference-workflows/payloads. It is used by every clara-wf that is called inside of DIR.
    """
    make_workspace(folder, python=sys.executable)
    say(f"{folder} is a workspace now; go on there:")
    say(f"  cd {folder / WORKFLOWS}")
    say("  ./clara-wf test liver-seg    # the main job, on a synthetic CT")
    say("  ./clara-wf cs user-ai        # a stage of your own")
    say("  ./clara-wf --help")
