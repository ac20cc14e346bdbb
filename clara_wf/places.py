"""Where things lie on this machine: the chart, test data, payloads, models and the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clara_wf.workspace import VALUES, Workspace, find_workspace


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
        user_cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cls(
            workspace=workspace,
            values=workspace.root / VALUES,
            chart=workspace.chart,
            test_data=data / "test-data",
            payloads=data / "payloads",
            models=workspace.root / "models",
            cache=Path(environ.get("CLARA_CACHE") or user_cache / "clara-stages"),
        )

    @classmethod
    def here(cls, environ: Mapping[str, str]) -> Places:
        """Return the places of the workspace that is used in the current folder."""
        return cls.of(find_workspace(environ, Path.cwd()), environ)
