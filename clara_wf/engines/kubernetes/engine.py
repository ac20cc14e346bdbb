"""The kubernetes engine: the chart's Job for each study, its stages the containers of one Pod.

It works on any cluster: the payload travels into the Pod and back through a carrier beside the stages. Where
the payloads' folder is storage that the nodes share, ``CLARA_PAYLOAD_CLAIM`` names its claim, or
``CLARA_PAYLOAD_HOSTPATH`` its path on the nodes, and nothing travels but signs of life.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shlex
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clara_wf.chart.helm import Helm
from clara_wf.chart.values import values_of
from clara_wf.engines.docker.command import user_of_containers
from clara_wf.engines.engine import Engine, JobRun
from clara_wf.engines.kubernetes.cluster import Cluster
from clara_wf.engines.kubernetes.pod_study import PodStudy
from clara_wf.engines.kubernetes.study_job import StudyJob
from clara_wf.workspace import own_workspace
from stages.errors import SettingsError
from stages.lifecycle import models_file

TRITON = "triton"
_GRPC_PORT = 8001
_OWNER = "clara-workflow/owner"
_TTL_S = 300
_LOCAL = ("localhost", "127.", "::1", "[::1]")


@dataclass(frozen=True, kw_only=True)
class KubernetesEngine(Engine):
    """Runs every study as a Job of a Kubernetes cluster.

    Attributes
    ----------
    models
        The model repository for a Triton in the Pod, used when the job names no server and the namespace has
        no Service ``triton``; None to do without.
    chart
        The chart that makes the Job, such as that of a published workflow; None for the one that comes with
        this software.
    values
        A values.yaml whose settings count instead of the chart's; None for none.
    name
        The engine's name.
    """

    models: Path | None = None
    chart: Path | None = None
    values: Path | None = None
    name: str = "kubernetes"

    @contextmanager
    def start(self, run: JobRun) -> Iterator[PodStudy]:
        """Make the Job of the stages that have to run.

        Raises
        ------
        SettingsError
            If Helm or the cluster is missing, rights are, or the chart refuses the workflow.
        """
        helm = Helm.find(run.environ)
        storage = _Storage.from_environ(run)
        with Cluster.connect(run.environ) as cluster:
            _sweep(cluster, run)
            server = _server(run, cluster)
            models = self.models if server is None else None
            if models is None:
                models_file.publish_models(run.payload.lock_dir, [])  # not of this machine's repository
            values = _values(run, storage, server=server or "", embedded=models is not None)
            manifests = helm.manifests(
                _release(run),
                self._chart(),
                values,
                namespace=cluster.namespace,
                files=[*([self.values] if self.values else []), *_own_values(run.environ)],
                kube_version=cluster.version(),
            )
            storage.give_to(user_of_containers())
            with PodStudy(
                cluster,
                run,
                StudyJob(cluster, manifests),
                carries_payload=not storage.is_shared,
                models=models,
            ) as study:
                yield study

    def plan(self, run: JobRun) -> list[str]:
        """Return how Helm would install the study: one Job, in whose Pod each stage is a container."""
        files = [*([self.values] if self.values else []), *_own_values(run.environ)]
        values = [part for file in files for part in ("--values", str(file))]
        chosen = f"workflow={run.workflow.id},job.id={run.payload.job_id}"
        install = ["helm", "install", _release_name(run), str(self._chart())]
        return [shlex.join([*install, *values, "--set", chosen])]

    def _chart(self) -> Path:
        return self.chart or own_workspace().chart


@dataclass(frozen=True, kw_only=True)
class _Storage:
    """Where the Pod finds the payload.

    Attributes
    ----------
    claim, host_path
        Storage that holds the folder of all payloads; "" for none.
    job
        The job's folder on this machine.
    """

    claim: str
    host_path: str
    job: Path

    @classmethod
    def from_environ(cls, run: JobRun) -> _Storage:
        claim = run.environ.get("CLARA_PAYLOAD_CLAIM", "")
        host_path = run.environ.get("CLARA_PAYLOAD_HOSTPATH", "")
        if claim and host_path:
            raise SettingsError("set CLARA_PAYLOAD_CLAIM or CLARA_PAYLOAD_HOSTPATH, not both")
        return cls(claim=claim, host_path=host_path, job=run.payload.root)

    @property
    def is_shared(self) -> bool:
        return bool(self.claim or self.host_path)

    def values(self) -> dict[str, Any]:
        if self.claim:
            return {"type": "persistentVolumeClaim", "claimName": self.claim, "subPath": self.job.name}
        if self.host_path:
            return {"type": "hostPath", "hostPath": self.host_path, "subPath": self.job.name}
        return {"type": "emptyDir"}

    def give_to(self, user: str) -> None:
        """Hand the folders that root has made to the containers' user."""
        if not self.is_shared or os.getuid() != 0:
            return
        uid, gid = map(int, user.split(":"))
        for path in (self.job, *self.job.rglob("*")):
            os.chown(path, uid, gid, follow_symlinks=False)


def _values(run: JobRun, storage: _Storage, *, server: str, embedded: bool) -> dict[str, Any]:
    uid, gid = map(int, user_of_containers().split(":"))
    return {
        **values_of(run.workflow),
        "job": {
            "id": run.payload.job_id,
            "stages": [step.name for step in run.workflow.steps if step.name in run.to_run],
            "timeout": run.timeout_s,
            "backoffLimit": 0,  # a rerun of the command goes on where this one was
            "ttlSecondsAfterFinished": _TTL_S,
        },
        "payload": storage.values(),
        "modelServer": {"address": server, "embedded": {"enabled": embedded}},
        "carrier": {"enabled": True},
        "user": {"id": uid, "group": gid},
        "labels": {_OWNER: _owner(run)},
    }


def _server(run: JobRun, cluster: Cluster) -> str | None:
    """Return the address of the model server as Pods see it; None if there is none."""
    if run.triton_url:
        if run.triton_url.startswith(_LOCAL):
            raise SettingsError(
                f"the Pods of the cluster cannot reach the model server at {run.triton_url}; name it as "
                f"they see it, or leave out --server"
            )
        return run.triton_url
    return f"{TRITON}:{_GRPC_PORT}" if cluster.has_service(TRITON) else None


def _own_values(environ: Mapping[str, str]) -> list[Path]:
    """Return the files that ``CLARA_CHART_VALUES`` names, for what a cluster needs: registry, tolerations."""
    return [Path(name) for name in environ.get("CLARA_CHART_VALUES", "").split(os.pathsep) if name]


def _release(run: JobRun) -> str:
    return f"{_release_name(run)}-{secrets.token_hex(3)}"


def _release_name(run: JobRun) -> str:
    job = "".join(letter if letter.isalnum() else "-" for letter in run.payload.job_id.lower())
    return f"clara-{job[:24].strip('-')}"


def _owner(run: JobRun) -> str:
    """Return a name of this job of this machine that no other has."""
    whole = f"{socket.gethostname()}:{run.payload.root}"
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


def _sweep(cluster: Cluster, run: JobRun) -> None:
    """Delete what an earlier clara-wf that was killed has left of this very job."""
    for job in cluster.jobs({_OWNER: _owner(run)}):
        cluster.delete_job(job["metadata"]["name"])
