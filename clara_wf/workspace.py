"""Which workspace is used: charts with stages and workflows, models, test data, and the folder of the jobs.

It is that of the current folder or of one above it, else the one that ``CLARA_WORKSPACE`` names, else what
this software brings along: the checkout it runs from, or what the installed package holds. Nothing is ever
written into an installed package; its jobs run in the user's folder for data.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.errors import OutputError, SettingsError

VARIABLE = "CLARA_WORKSPACE"
WORKFLOWS = "clara-reference-workflows"
LAUNCHER = f"{WORKFLOWS}/clara-wf"
VALUES = f"{WORKFLOWS}/charts/clara-workflow/values.yaml"
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
_CHECKOUT = Path(__file__).resolve().parents[1]
_PACKAGED = Path(__file__).resolve().parent / "workspace_files"


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A folder with charts and models, and why it is the one.

    Attributes
    ----------
    root
        The folder.
    chosen_by
        As `clara-wf doctor` says it.
    is_packaged
        Whether it belongs to an installed package, so that nothing in it is changed.
    """

    root: Path
    chosen_by: str
    is_packaged: bool = False

    @property
    def is_checkout(self) -> bool:
        """Whether this software runs from it."""
        return self.root.resolve() == _CHECKOUT

    @property
    def chart(self) -> Path:
        """The Helm chart with the stages and workflows."""
        return (self.root / VALUES).parent

    def data_folder(self, environ: Mapping[str, str]) -> Path:
        """Return the folder with test data and payloads; ``XDG_DATA_HOME`` moves that of the package."""
        if not self.is_packaged:
            return self.root / WORKFLOWS
        return Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "clara-stages"

    def require_changeable(self, path: Path) -> None:
        """Return if a file or folder may be changed.

        Raises
        ------
        SettingsError
            If it belongs to the installed package; the message says how to get a workspace.
        """
        if self.is_packaged and path.resolve().is_relative_to(self.root):
            raise SettingsError(
                f"{path.name} belongs to the installed package and is not changed; make a workspace of "
                "your own with `clara-wf init DIR` and run the command in it"
            )


def find_workspace(environ: Mapping[str, str], folder: Path) -> Workspace:
    """Return the workspace that is used in a folder.

    Parameters
    ----------
    environ
        ``CLARA_WORKSPACE`` names the workspace outside of any.
    folder
        Where the search begins; it goes upward from there.
    """
    own = own_workspace()
    for above in (folder, *folder.parents):
        is_own = above.resolve() == own.root
        if (above / VALUES).is_file() and not (is_own and own.is_packaged):
            return Workspace(root=above, chosen_by="of the current folder")
    if named := environ.get(VARIABLE):
        return Workspace(root=Path(named).absolute(), chosen_by=f"named by {VARIABLE}")
    return own


def own_workspace() -> Workspace:
    """Return the workspace that this software brings along."""
    if _PACKAGED.is_dir():
        return Workspace(root=_PACKAGED, chosen_by="of the installed package", is_packaged=True)
    return Workspace(root=_CHECKOUT, chosen_by="of the checkout that clara-wf runs from")


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
