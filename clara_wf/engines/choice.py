"""Which engine runs a workflow."""

from __future__ import annotations

from pathlib import Path

from clara_wf.engines import ENGINES, Engine
from clara_wf.engines.process import ProcessEngine, can_run
from clara_wf.suggestion import did_you_mean
from clara_wf.workflow import Workflow
from stages.errors import SettingsError


def choose(workflow: Workflow, wanted: str | None) -> str:
    """Return the engine that was asked for, or the simplest that can run every stage.

    Raises
    ------
    SettingsError
        If there is no such engine, or processes were asked for and a stage has only its image.
    """
    only_images = [step.name for step in workflow.steps if not can_run(step)]
    if wanted is None:
        return "docker" if only_images else "process"
    if wanted not in ENGINES:
        meant = did_you_mean(wanted, ENGINES)
        raise SettingsError(f"there is no engine {wanted!r}{meant}; choose from {', '.join(ENGINES)}")
    if wanted == "process" and only_images:
        name = only_images[0]
        raise SettingsError(
            f"{name} cannot run as a process: its block has no 'command' and there is no Python module "
            f'{name.replace("-", "_")!r}; add command: ["python", "/path/to/stage.py"] to the block in '
            f"values.yaml, or use --engine docker"
        )
    return wanted


def make_engine(
    name: str, *, models: Path | None, values: Path | None = None, chart: Path | None = None
) -> Engine:
    """Return an engine.

    Parameters
    ----------
    models
        The model repository for an engine that brings its own model server; None to do without.
    values
        The values.yaml whose settings count on a cluster; None for the chart's own.
    chart
        The chart that is installed on a cluster; None for the one that comes with this software.
    """
    if name == "kubernetes":
        from clara_wf.engines.kubernetes import KubernetesEngine

        return KubernetesEngine(models=models, chart=chart, values=values)
    if name == "docker":
        from clara_wf.engines.docker import DockerEngine

        return DockerEngine(models=models)
    return ProcessEngine()
