"""Which engine runs a workflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clara_wf.definitions.workflow import Workflow
from clara_wf.engines.engine import ENGINES, Engine
from clara_wf.engines.process import ProcessEngine, can_run
from clara_wf.text.suggestion import did_you_mean
from stages.errors import SettingsError
from stages.runtime import extras


def choose(workflow: Workflow, wanted: str | None) -> str:
    """Return the engine that was asked for, or the simplest that can run every stage.

    Parameters
    ----------
    workflow
        The workflow.
    wanted
        The engine's name; None for the simplest.

    Raises
    ------
    SettingsError
        If there is no such engine, or processes were asked for and a stage has only its image, or lacks
        what it needs beside its module.
    """
    only_images = [step.name for step in workflow.steps if not can_run(step)]
    if wanted is None and only_images:
        return "docker"
    if wanted is None:
        _require_extras(workflow)
        return "process"
    if known_engine(wanted) == "process" and only_images:
        name = only_images[0]
        raise SettingsError(
            f"{name} cannot run as a process: its block has no 'command' and there is no Python module "
            f'{name.replace("-", "_")!r}; add command: ["python", "/path/to/stage.py"] to the block in '
            f"values.yaml, or use --engine docker"
        )
    if wanted == "process":
        _require_extras(workflow)
    return wanted


def _require_extras(workflow: Workflow) -> None:
    """Refuse a stage of ours that would start without the packages that it needs."""
    for step in workflow.steps:
        extra = None if step.block.command else extras.EXTRA_OF.get(step.name.replace("-", "_"))
        try:
            if extra:
                extras.require_extra(extra)
        except extras.MissingExtraError as error:
            raise SettingsError(
                f"{step.name} cannot run as a process: {error}; or use --engine docker"
            ) from error


def known_engine(wanted: str) -> str:
    """Return the name of an engine.

    Parameters
    ----------
    wanted
        What was asked for.

    Raises
    ------
    SettingsError
        If there is no such engine.
    """
    if wanted not in ENGINES:
        meant = did_you_mean(wanted, ENGINES)
        raise SettingsError(f"there is no engine {wanted!r}{meant}; choose from {', '.join(ENGINES)}")
    return wanted


def require_docker(workflow: Workflow, environ: Mapping[str, str]) -> None:
    """Return if Docker has the image of every stage that can run in no other way.

    Parameters
    ----------
    workflow
        The workflow.
    environ
        The environment in which Docker is looked for.

    Raises
    ------
    SettingsError
        If it has not, with every way out.
    """
    from clara_wf.engines.docker.client import Docker, how_to_get

    alone = {step.name: str(step.block.image) for step in workflow.steps if not can_run(step)}
    try:
        Docker.find(environ).images(list(alone.values()))
    except SettingsError as error:
        found = str(error).partition(";")[0]
        ways = [
            'add command: ["python", "/path/to/stage.py"] to the block in values.yaml to run it as a process',
            *(f"have Docker, and its image: {how_to_get(image)}" for image in dict.fromkeys(alone.values())),
            "use --engine kubernetes on a cluster that can pull its image",
        ]
        lines = [f"\n  {way}" for way in ways]
        raise SettingsError(
            f"{', '.join(alone)} can run neither as a process (no 'command' in the block, no Python "
            f"module of that name) nor as a container ({found}). Do one of these:" + "".join(lines)
        ) from error


def make_engine(
    name: str,
    *,
    models: Path | None,
    values: Path | None = None,
    chart: Path | None = None,
    residents: Path | None = None,
    priority: int = 0,
) -> Engine:
    """Return an engine.

    Parameters
    ----------
    name
        ``process``, ``docker`` or ``kubernetes``.
    models
        The model repository for an engine that brings its own model server; None to do without.
    values
        The values.yaml whose settings count on a cluster; None for the chart's own.
    chart
        The chart that is installed on a cluster; None for the one that comes with this software.
    residents
        Where stages that stay take orders, for the process engine; None for none.
    priority
        Of the job among those that they have.
    """
    if name == "kubernetes":
        from clara_wf.engines.kubernetes.engine import KubernetesEngine

        return KubernetesEngine(models=models, chart=chart, values=values)
    if name == "docker":
        from clara_wf.engines.docker.engine import DockerEngine

        return DockerEngine(models=models)
    return ProcessEngine(residents, priority=priority)
