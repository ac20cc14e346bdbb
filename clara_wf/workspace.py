"""Where things lie on this machine: the chart, test data, payloads, models and the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent
_WORKFLOWS = "clara-reference-workflows"


@dataclass(frozen=True, kw_only=True)
class Places:
    """Folders and files that the commands use unless told otherwise.

    Attributes
    ----------
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

    values: Path
    chart: Path
    test_data: Path
    payloads: Path
    models: Path
    cache: Path

    @classmethod
    def of_checkout(cls, environ: Mapping[str, str], *, root: Path = _CHECKOUT) -> Places:
        """Return the places of a source checkout; ``CLARA_CACHE`` or ``XDG_CACHE_HOME`` move the cache."""
        workflows = root / _WORKFLOWS
        user_cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cls(
            values=workflows / "charts/clara-workflow/values.yaml",
            chart=workflows / "charts/clara-workflow",
            test_data=workflows / "test-data",
            payloads=workflows / "payloads",
            models=root / "models",
            cache=Path(environ.get("CLARA_CACHE") or user_cache / "clara-stages"),
        )
