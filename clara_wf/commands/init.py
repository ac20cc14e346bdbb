"""Make a workspace: init."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from clara_wf.commands.options import print_line
from clara_wf.workspace import LAUNCHER, WORKFLOWS, own_workspace
from stages.errors import OutputError, SettingsError

LAYOUT = (
    LAUNCHER,
    f"{WORKFLOWS}/charts",
    f"{WORKFLOWS}/test-data/README.md",
    "clara-platform",
    "models/segmentation_liver_v1",
    "examples/user_ai",
)
"""What a new workspace gets; pyproject.toml puts the same into the package."""


_ALIAS = "clara-reference-workflow"
_PROGRAM = f"{WORKFLOWS}/.clara-wf"


def init_workspace(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")],
) -> None:
    """Lay out a workspace: workflows, charts, a model, an example.

    Its workflows are defined in DIR/clara-reference-workflows, its models are in DIR/models, and jobs run in
    DIR/clara-reference-workflows/payloads. It is used by every clara-wf that is called inside of DIR.
    """
    make_workspace(folder, python=sys.executable)
    print_line(f"{folder} is a workspace now; go on there:")
    print_line(f"  cd {folder / WORKFLOWS}")
    print_line("  ./clara-wf test liver-seg    # the main job, on a synthetic CT")
    print_line("  ./clara-wf cs user-ai        # a stage of your own")
    print_line("  ./clara-wf --help")


def make_workspace(folder: Path, *, python: str) -> None:
    """Lay out a workspace: the workflows with their launcher, the platform's chart, the model, an example.

    Parameters
    ----------
    folder
        Is made, or is empty.
    python
        The Python in whose environment clara-wf is installed. The launcher starts it, or the launcher of the
        checkout that this software runs from.

    Raises
    ------
    SettingsError
        If the folder has files already.
    OutputError
        If it cannot be written.
    """
    own = own_workspace()
    program = str(own.root / LAUNCHER) if own.is_checkout else python
    try:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise SettingsError(f"{folder} is there already and not empty; name a new or an empty folder")
        for name in LAYOUT:
            _copy(own.root / name, folder / name)
        (folder / LAUNCHER).chmod(0o755)
        (folder / _PROGRAM).write_text(f"{program}\n", encoding="utf-8")
        (folder / _ALIAS).symlink_to(WORKFLOWS)
    except (OSError, shutil.Error) as error:
        raise OutputError(f"cannot lay out a workspace in {folder}: {error}") from error


def _copy(source: Path, target: Path) -> None:
    """Copy what stands in files, without the modes of an installation that nobody may write."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copyfile(source, target)
        return
    target.mkdir()
    for each in source.iterdir():
        if each.name != "__pycache__":
            _copy(each, target / each.name)
