"""The Job of a study as it is put on the cluster, once or, if its Pod is lost before it began, again."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clara_wf.engines.kubernetes.cluster import Cluster, Object

SCHEDULING = "clara-workflow/scheduling-seconds"
STARTUP = "clara-workflow/startup-seconds"
_SCHEDULING_S, _STARTUP_S = 3600.0, 600.0
_MOST_WEIGHT = 100


@dataclass(frozen=True, kw_only=True)
class StartLimits:
    """How long a Pod may take until its stages run.

    Attributes
    ----------
    scheduling_s
        Until a node has taken it, seconds.
    startup_s
        From then until its containers run, without the time in which the payload travels, seconds.
    """

    scheduling_s: float = _SCHEDULING_S
    startup_s: float = _STARTUP_S


class StudyJob:
    """Creates the Job that a chart has made, and what belongs to it.

    Parameters
    ----------
    cluster
        The cluster.
    manifests
        What the chart made: one Job, and perhaps more that shall go when the Job does.
    """

    def __init__(self, cluster: Cluster, manifests: Sequence[Object]) -> None:
        self._cluster, self._manifests, self._count = cluster, manifests, 0

    @property
    def limits(self) -> StartLimits:
        """What the chart says of the time until the stages run, or the defaults."""
        annotations = _job_of(self._manifests)["metadata"].get("annotations") or {}
        return StartLimits(
            scheduling_s=float(annotations.get(SCHEDULING, _SCHEDULING_S)),
            startup_s=float(annotations.get(STARTUP, _STARTUP_S)),
        )

    def create(self, *, lost: Sequence[str] = ()) -> str:
        """Create the Job and return its name; each has a name of its own.

        Parameters
        ----------
        lost
            Nodes that have lost a Pod of this study, which get no other if there is a choice.

        Raises
        ------
        SettingsError
            If the cluster refuses it.
        ClusterError
            If it cannot have it now.
        """
        self._count += 1
        manifests = [_numbered(manifest, self._count) for manifest in self._manifests]
        job = _job_of(manifests)
        spec = job["spec"]["template"]["spec"]
        _write_quantities(spec)
        if lost:
            _avoid(spec, lost, strictly=_others_are_ready(self._cluster, lost))
        made = self._cluster.create(job)
        name = str(made["metadata"]["name"])
        owner = {"apiVersion": job["apiVersion"], "kind": "Job", "name": name, "uid": made["metadata"]["uid"]}
        try:
            for manifest in manifests:
                if manifest is not job:
                    owned = {**manifest["metadata"], "ownerReferences": [owner]}
                    self._cluster.create({**manifest, "metadata": owned})
        except BaseException:
            self._cluster.delete_job(name)
            raise
        return name


def _job_of(manifests: Sequence[Object]) -> Object:
    return next(manifest for manifest in manifests if manifest["kind"] == "Job")


def _numbered(manifest: Object, count: int) -> Object:
    own = copy.deepcopy(manifest)
    if count > 1:
        own["metadata"]["name"] += f"-{count}"
    return own


def _write_quantities(spec: Object) -> None:
    """Write numbers as text where Kubernetes has quantities; older charts leave them as people wrote them."""
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        for amounts in (container.get("resources") or {}).values():
            amounts.update({name: str(amount) for name, amount in amounts.items()})
    for volume in spec.get("volumes", ()):
        folder = volume.get("emptyDir") or {}
        if "sizeLimit" in folder:
            folder["sizeLimit"] = str(folder["sizeLimit"])


def _avoid(spec: Object, nodes: Sequence[str], *, strictly: bool) -> None:
    others = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in nodes]
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    if not strictly:
        wish = {"weight": _MOST_WEIGHT, "preference": {"matchFields": others}}
        affinity.setdefault("preferredDuringSchedulingIgnoredDuringExecution", []).append(wish)
        return
    required = affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    for term in required.setdefault("nodeSelectorTerms", [{}]):
        term["matchFields"] = [*term.get("matchFields", ()), *others]


def _others_are_ready(cluster: Cluster, lost: Sequence[str]) -> bool:
    """Return whether it is known that other nodes take Pods."""
    nodes = cluster.nodes() or ()
    return any(node["metadata"]["name"] not in lost and _takes_pods(node) for node in nodes)


def _takes_pods(node: Mapping[str, Any]) -> bool:
    return not node["spec"].get("unschedulable") and "True" in _ready(node)


def _ready(node: Mapping[str, Any]) -> Iterator[str]:
    return (each["status"] for each in node["status"].get("conditions", ()) if each["type"] == "Ready")
