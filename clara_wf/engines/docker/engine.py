"""The docker engine: each stage its image, all started at once, wired by their locks.

Each container has a read-only root, no capabilities, a user that is not root, the memory and processor
limits of its block, and of the payload only its own folders. Its network holds the model server and
nothing else; where there is no server it has none. A server that was named is reached through a relay on
this machine, so that of other machines nothing else can be seen.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from clara_wf.definitions.workflow import Step
from clara_wf.engines.docker.client import Docker
from clara_wf.engines.docker.command import (
    MODEL_SERVER,
    MODEL_SERVER_IMAGE,
    MODEL_SERVER_PORT,
    ContainerContext,
    container_name,
    server_arguments,
    stage_arguments,
    user_of_containers,
    writable_paths,
)
from clara_wf.engines.docker.container import Container
from clara_wf.engines.docker.leftovers import guarded, new_labels, sweep, token_of
from clara_wf.engines.docker.tcp_proxy import relay
from clara_wf.engines.engine import Engine, JobRun
from stages.errors import InferenceError, SettingsError
from stages.runtime.job_files import last_lines, open_to_append
from stages.runtime.processes import die_with_parent

_AMONG = "com.docker.network.bridge.inhibit_ipv4=true"  # containers reach each other, and not this machine
_TO_HERE = "com.docker.network.bridge.enable_icc=false"  # they reach this machine, and not each other
_LOOK_S = 0.5
_RELEASE_DEADLINE_S = 10.0
_LAST_LINES = 5


@dataclass(frozen=True, kw_only=True)
class DockerEngine(Engine):
    """Runs every stage as a container.

    Attributes
    ----------
    models
        The model repository to serve when a job names no server; None to do without.
    name
        The engine's name.
    """

    models: Path | None = None
    name: str = "docker"

    @contextmanager
    def start(self, run: JobRun) -> Iterator[ContainerJob]:
        """Start the stages that have to run, and a model server if the job has none.

        Raises
        ------
        SettingsError
            If Docker does not answer, an image is missing, or a given server cannot be reached from here.
        """
        docker = Docker.find(run.environ)
        steps = [step for step in run.workflow.steps if step.name in run.to_run]
        own_server = self.models if run.triton_url is None else None
        wanted = [str(step.block.image) for step in steps]
        images = docker.images([*wanted, *([MODEL_SERVER_IMAGE] if own_server else [])])
        sweep(docker)
        around = _container_context(run)
        job = ContainerJob(docker=docker)
        with ExitStack() as stack:
            stack.callback(job.release)
            stack.enter_context(guarded(docker, around.labels))
            around = stack.enter_context(_connected(docker, around, run, own_server))
            job.images = {step.name: images[str(step.block.image)] for step in steps}
            if own_server:
                job.images = {**job.images, MODEL_SERVER: images[MODEL_SERVER_IMAGE]}
                job.server_log = run.payload.log(MODEL_SERVER)
                job.server = _spawn(docker, server_arguments(own_server, around), job.server_log)
            for step in steps:
                job.stages[step.name] = _start(docker, step, run, around)
            yield job

    def plan(self, run: JobRun) -> list[str]:
        """Return the ``docker run`` of each stage; its network and its name differ from run to run."""
        around = ContainerContext(prefix=f"clara-{run.payload.job_id}", user=user_of_containers())
        if run.triton_url or self.models:
            url = run.triton_url or f"{MODEL_SERVER}:{MODEL_SERVER_PORT}"
            around = replace(around, network=around.prefix, triton_url=url)
        return [shlex.join(["docker", *stage_arguments(step, run, around)]) for step in run.workflow.steps]


@dataclass(kw_only=True)
class ContainerJob:
    """Stages that run as containers.

    Attributes
    ----------
    docker
        The client.
    stages
        Each stage by name.
    images
        The image of each stage, with its digest.
    server
        The job's own model server; None where there is another.
    server_log
        The log file of that.
    """

    docker: Docker
    stages: dict[str, Container] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    server: subprocess.Popen[bytes] | None = None
    server_log: Path | None = None
    _unseen: set[str] | None = None
    _looked: float = 0.0

    def refresh(self) -> None:
        """Look for the containers' processes, and whether the model server still runs.

        Raises
        ------
        InferenceError
            If the model server has ended, with its reason.
        """
        if self.server is not None and self.server.poll() is not None and self.server_log is not None:
            raise InferenceError(f"the model server has ended: {_why_ended(self.server_log)}")
        if self._unseen is None:
            self._unseen = {container.name for container in self.stages.values()}
        clock = time.monotonic()
        if self._unseen and clock - self._looked > _LOOK_S:
            self._looked = clock
            self._find_processes(sorted(self._unseen))

    def release(self) -> None:
        """Wait for the client of a model server that has been removed."""
        if self.server is not None:
            try:
                self.server.wait(_RELEASE_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()

    def _find_processes(self, names: list[str]) -> None:
        assert self._unseen is not None
        by_name = {container.name: container for container in self.stages.values()}
        form = "{{.Name}} {{.Id}} {{.State.Pid}}"
        told = self.docker.ask("container", "inspect", "--format", form, *names)
        for line in filter(None, told.stdout.splitlines()):  # an empty line for one that is not made yet
            name, identity, pid = line.lstrip("/").split()
            if int(pid):
                by_name[name].found_at(int(pid), identity)
                self._unseen.discard(name)


def _container_context(run: JobRun) -> ContainerContext:
    labels = new_labels()
    return ContainerContext(
        prefix=f"clara-{run.payload.job_id}-{token_of(labels)}",
        user=user_of_containers(),
        labels={**labels, "clara.job": run.payload.job_id, "clara.workflow": run.workflow.id},
    )


@contextmanager
def _connected(
    docker: Docker, around: ContainerContext, run: JobRun, models: Path | None
) -> Iterator[ContainerContext]:
    """Make the network of a run: the model server is all that can be reached in it."""
    if run.triton_url is None and models is None:
        yield around
        return
    network = around.prefix
    labels = [f"--label={key}={value}" for key, value in around.labels.items()]
    docker.tell(
        "network", "create", "--internal", *labels, f"--opt={_AMONG if models else _TO_HERE}", network
    )
    if run.triton_url is None:
        yield replace(around, network=network, triton_url=f"{MODEL_SERVER}:{MODEL_SERVER_PORT}")
        return
    gateway = docker.tell("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", network)
    with ExitStack() as stack:
        try:
            url = stack.enter_context(relay(gateway, run.triton_url))
        except OSError as error:
            raise SettingsError(
                f"containers cannot be given a way to {run.triton_url}: this machine is not {gateway}, the "
                f"Docker engine's ({error.strerror}); leave out --server to start one as a container"
            ) from error
        yield replace(around, network=network, triton_url=url)


def _start(docker: Docker, step: Step, run: JobRun, around: ContainerContext) -> Container:
    log = run.payload.log(step.name)
    log.touch()
    _give_to(around.user, writable_paths(step, run))
    _let_read(around.user, run.payload.folder(run.workflow.input_folder))
    return Container(
        docker,
        container_name(step, around),
        _spawn(docker, stage_arguments(step, run, around), log),
        stage=step.name,
        log=log,
        memory_limit=step.block.resources.limits.get("memory", ""),
    )


def _spawn(docker: Docker, arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    with open_to_append(log) as output:
        return docker.start(*arguments, output=output, preexec_fn=die_with_parent)


def _give_to(user: str, paths: list[Path]) -> None:
    """Hand the folders that root has made to the containers' user."""
    if os.getuid() == 0:
        uid, gid = map(int, user.split(":"))
        for path in paths:
            for entry in (path, *path.rglob("*")):
                os.chown(entry, uid, gid, follow_symlinks=False)


def _let_read(user: str, folder: Path) -> None:
    """Grant the containers' group to read what root has put there and others may not read."""
    if os.getuid() == 0:
        for entry in (folder, *folder.rglob("*")):
            os.chown(entry, -1, int(user.partition(":")[2]), follow_symlinks=False)


def _why_ended(log: Path) -> str:
    lines = last_lines(log)
    reasons = [line for line in lines if "failed to load" in line or line.startswith("docker:")]
    return "\n".join((reasons or lines)[-_LAST_LINES:])
