"""The command lines of the docker engine: what a person would type to run the same containers."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clara_wf.definitions.workflow import Step
from clara_wf.engines.engine import JobRun
from clara_wf.engines.environment import container_folders, settings_for
from clara_wf.yaml.scalars import quantity
from stages import __version__

MODEL_SERVER_IMAGE = f"clara/model-server:{__version__}"
MODEL_SERVER = "model-server"
MODEL_SERVER_PORT = 8001
STAGE_USER = 10001
"""The user of the containers when clara-wf is run by root, who is nobody to run stages as."""

_HARDENED = (
    "--read-only",
    "--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=1g",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=1024",
)


@dataclass(frozen=True, kw_only=True)
class ContainerContext:
    """What all containers of a run have in common.

    Attributes
    ----------
    prefix
        Begins the name of each container.
    network
        The network they are on; ``none`` for no network at all.
    triton_url
        ``host:port`` of the inference server as they see it.
    user
        ``uid:gid`` they run as.
    labels
        By which what belongs to the run is found again.
    """

    prefix: str
    network: str = "none"
    triton_url: str | None = None
    user: str
    labels: Mapping[str, str] = field(default_factory=dict)


def user_of_containers() -> str:
    """Return the caller's own user and group, so that the files are theirs; never root's."""
    return f"{os.getuid()}:{os.getgid()}" if os.getuid() else f"{STAGE_USER}:{STAGE_USER}"


def container_name(step: Step, around: ContainerContext) -> str:
    """Return the name of a stage's container.

    Parameters
    ----------
    step, around
        The stage in its workflow and what the run's containers have in common.
    """
    return f"{around.prefix}-{step.name}"


def stage_arguments(step: Step, run: JobRun, around: ContainerContext) -> list[str]:
    """Return the arguments after ``docker`` that run a stage.

    Its log goes to standard error, which is collected: the driver writes it nowhere else then. A program
    that writes the log file that its block names finds that file too.

    Parameters
    ----------
    step, run, around
        The stage in its workflow, the job that is run and what the run's containers have in common.
    """
    folders = container_folders(step)
    settings = settings_for(step, run, folders, triton_url=around.triton_url)
    environ = {**step.block.env, **settings, "NVIDIA_CLARA_LOGS": "/dev/stderr"}
    labels = {**around.labels, "clara.stage": step.name}
    return [
        *_run(container_name(step, around), around, labels),
        *_resources(step),
        *_mounts(step, run),
        *(f"--env={key}={value}" for key, value in environ.items()),
        str(step.block.image),
        *step.arguments,
    ]


def server_arguments(models: Path, around: ContainerContext) -> list[str]:
    """Return the arguments after ``docker`` that run the model server.

    Parameters
    ----------
    models, around
        The model repository and what the run's containers have in common.
    """
    return [
        *_run(f"{around.prefix}-{MODEL_SERVER}", around, around.labels),
        f"--network-alias={MODEL_SERVER}",
        "--shm-size=4g",  # tensors pass there; only what is used is taken
        "--stop-signal=SIGKILL",  # it has nothing to save, and a clean stop takes it 3 s
        _mount(str(models), "/models", read_only=True),
        MODEL_SERVER_IMAGE,
        "--model-repository=/models",
        "--model-control-mode=explicit",
        "--load-model=*",
        "--allow-metrics=false",
    ]


def writable_paths(step: Step, run: JobRun) -> list[Path]:
    """Return the folders and the file of the payload that a stage writes."""
    payload = run.payload
    return [
        payload.folder(step.output_folder),
        payload.publish_dir / step.name,
        payload.lock_dir,
        payload.log(step.name),
    ]


def _run(name: str, around: ContainerContext, labels: Mapping[str, str]) -> list[str]:
    return [
        "run",
        f"--name={name}",
        "--init",  # reaps what a stage leaves, and ends programs that do not heed SIGTERM as process 1
        *_HARDENED,
        f"--user={around.user}",
        f"--network={around.network}",
        "--log-driver=none",  # the log is collected here, once
        *(f"--label={key}={value}" for key, value in labels.items()),
    ]


def _resources(step: Step) -> Iterable[str]:
    limits = step.block.resources.limits
    if "memory" in limits:
        size = int(quantity(limits["memory"]))
        yield from (f"--memory={size}", f"--memory-swap={size}")
    if "cpu" in limits:
        yield f"--cpus={quantity(limits['cpu']):g}"
    if step.block.gpu:
        yield f"--gpus={limits.get('nvidia.com/gpu', 'all')}"


def _mounts(step: Step, run: JobRun) -> Iterable[str]:
    payload, folders = run.payload, container_folders(step)
    for place, folder in zip(folders.inputs, step.input_folders, strict=True):
        yield _mount(str(payload.folder(folder)), place, read_only=True)
    yield _mount(str(payload.folder(run.workflow.input_folder)), folders.source, read_only=True)
    places = (folders.output, folders.publish, folders.locks, folders.log)
    for path, place in zip(writable_paths(step, run), places, strict=True):
        yield _mount(str(path), place)


def _mount(source: str, target: str, *, read_only: bool = False) -> str:
    """Return a bind mount; its parts are written as CSV, so that a path may hold a comma."""
    parts = ["type=bind", f"source={source}", f"target={target}", *(["readonly"] if read_only else [])]
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(parts)
    return f"--mount={text.getvalue()}"
