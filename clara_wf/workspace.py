"""Which workspace is used: charts with stages and workflows, models, test data, and the folder of the jobs.

It is that of the current folder or of one above it, else the one that ``CLARA_WORKSPACE`` names, else what
this software brings along: the checkout it runs from, or what the installed package holds. Nothing is ever
written into an installed package; its jobs run in the user's folder for data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.errors import SettingsError

VARIABLE = "CLARA_WORKSPACE"
WORKFLOWS = "clara-reference-workflows"
LAUNCHER = f"{WORKFLOWS}/clara-wf"
VALUES = f"{WORKFLOWS}/charts/clara-workflow/values.yaml"
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


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder for what can be made again: ``CLARA_CACHE``, or one in the user's cache."""
    user_cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(environ.get("CLARA_CACHE") or user_cache / "clara-stages")


@dataclass(frozen=True, kw_only=True)
class Places:
    """Folders and files that the commands use unless told otherwise.

    Attributes
    ----------
    workspace
        The folder that the others are of.
    values
        The values.yaml that defines stages and workflows.
    chart
        The Helm chart that runs them on a cluster.
    test_data
        ``<job-id>/<first stage>/input`` for each job with data of its own.
    payloads
        Where jobs run.
    models
        A Triton model repository.
    cache
        What may be deleted at any time and is made again: the model server's installation.
    """

    workspace: Workspace
    values: Path
    chart: Path
    test_data: Path
    payloads: Path
    models: Path
    cache: Path

    @classmethod
    def of(cls, workspace: Workspace, environ: Mapping[str, str]) -> Places:
        """Return the places of a workspace; ``CLARA_CACHE`` or ``XDG_CACHE_HOME`` move the cache."""
        data = workspace.data_folder(environ)
        return cls(
            workspace=workspace,
            values=workspace.root / VALUES,
            chart=workspace.chart,
            test_data=data / "test-data",
            payloads=data / "payloads",
            models=workspace.root / "models",
            cache=cache_folder(environ),
        )

    @classmethod
    def here(cls, environ: Mapping[str, str]) -> Places:
        """Return the places of the workspace that is used in the current folder."""
        return cls.of(find_workspace(environ, Path.cwd()), environ)
