"""A Pod on its way to running: what it waits for, how long it may, and when and why it is given up."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from clara_wf.engines.kubernetes.cluster import Cluster, ClusterError, PodLostError
from clara_wf.engines.kubernetes.pod_state import (
    all_containers,
    has_begun,
    has_ended,
    has_lost_sight,
    is_cut_off,
    is_going,
    is_running,
    missing_gpus,
    why_container_failed,
    why_pod_ended,
    why_unschedulable,
)
from clara_wf.engines.kubernetes.study_job import StartLimits
from stages.errors import OutputError, SettingsError, StageError, StageTimeoutError

READY, RECEIVER = "ready", "receiver"
BEFORE_IT_BEGAN = "the study was ended before its stages began"

Pod: TypeAlias = Mapping[str, Any]
Kind: TypeAlias = Literal["scheduling", "starting", "receiving", "running"]

_EVENTS_S = 2.0
_MOUNT_S = 20.0
_SURE_S = 5.0  # a Secret or an account may come a moment after the Pod that needs it
_UNSURE_S = 30.0  # a registry or a runtime may be back soon
_IMAGE_REASONS = {
    *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"),
    *("InvalidImageName", "ImageInspectError", "RegistryUnavailable"),
}
_NO_CONTAINER_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
_NEVER = {"ErrImageNeverPull", "InvalidImageName"}
_NO_SUCH_IMAGE = re.compile(
    r"not found|manifest unknown|does not exist|denied|unauthorized|authentication required|no basic auth|"
    r"invalid reference|no match(ing|) (manifest|for platform)",
    re.IGNORECASE,
)
_NO_SUCH_THING = re.compile(
    r"not found|no such file|check failed|does not exist|exec format error|permission denied|"
    r"non-root|run as root|invalid|not a directory",
    re.IGNORECASE,
)
_TRANSIENT = re.compile(
    r"exceeded quota|failed calling|timeout|timed out|try again|internal error", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a Pod has come, and what to tell of it; nothing once it runs."""

    kind: Kind
    told: str = ""


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Something that keeps the containers of a Pod from running.

    Attributes
    ----------
    key
        The same while it is the same trouble, whatever the cluster calls it at the moment.
    told
        One line for the user.
    is_certain
        Whether another try would end the same way: it is the settings'.
    has_cause
        Whether `told` says why; the cluster also tells of the same trouble without its cause.
    patience_s
        How long it may last before the study is given up, seconds.
    """

    key: str
    told: str
    is_certain: bool
    patience_s: float
    has_cause: bool = True


def standing_of(pod: Pod | None, *, refused: str = "") -> Standing:
    """Return how far a Pod has come.

    Parameters
    ----------
    pod
        As the API tells it; None while there is none.
    refused
        Why the cluster makes none, where it says so.
    """
    if pod is None:
        return Standing(
            kind="scheduling", told=f"waiting for a Pod: {refused or 'the cluster has made none yet'}"
        )
    node = pod["spec"].get("nodeName")
    if not node:
        waits = why_unschedulable(pod)
        return Standing(
            kind="scheduling", told=f"waiting for a node: {waits}" if waits else "waiting for a node"
        )
    if all(has_begun(pod, container["name"]) for container in pod["spec"]["containers"]):
        return Standing(kind="running")
    if is_running(pod, RECEIVER):
        return Standing(kind="receiving", told=f"the payload is on its way to node {node}")
    found = next(troubles_of(pod), None)
    more = f": {found.told}" if found is not None else ""
    return Standing(kind="starting", told=f"starting on node {node}{more}")


def troubles_of(pod: Pod) -> Iterator[Trouble]:
    """Yield what keeps the containers of a Pod from running, as their states tell it."""
    for status in all_containers(pod):
        waiting = status["state"].get("waiting") or {}
        reason, message = waiting.get("reason", ""), " ".join(waiting.get("message", "").split())
        name, image = status["name"], status["image"]
        if reason in _IMAGE_REASONS:
            yield _no_image(pod, name, image, reason, message)
        elif reason in _NO_CONTAINER_REASONS:
            certain = bool(_NO_SUCH_THING.search(message))
            yield Trouble(
                key=f"container {name}",
                told=f"the container of {image} of {name} cannot be started: {message or reason}",
                is_certain=certain,
                patience_s=_SURE_S if certain else _UNSURE_S,
            )


def _no_image(pod: Pod, name: str, image: str, reason: str, message: str) -> Trouble:
    node = pod["spec"].get("nodeName")
    has_cause = bool(message) and reason not in ("ErrImageNeverPull", "ImagePullBackOff")
    why = f"{reason}: {message}" if has_cause else reason
    certain = reason in _NEVER or (reason == "ErrImagePull" and bool(_NO_SUCH_IMAGE.search(message)))
    if reason == "InvalidImageName":
        told = f"the image of {name}, {image!r}, is no name of an image ({why})"
    else:
        told = (
            f"the image {image} of {name} is not on node {node} and cannot be pulled ({why}); "
            f"load it onto the nodes, or set image.registry and image.pullSecrets of the chart"
        )
    patience_s = 0.0 if reason in _NEVER else _SURE_S if certain else _UNSURE_S
    return Trouble(
        key=f"image {name}", told=told, is_certain=certain, patience_s=patience_s, has_cause=has_cause
    )


class Startup:
    """Watches one Pod until its stages run.

    Parameters
    ----------
    job
        Name of its Job.
    clock
        Seconds of a clock that never goes back.
    """

    def __init__(
        self, cluster: Cluster, job: str, limits: StartLimits, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster, self._job, self._limits, self._clock = cluster, job, limits, clock
        self._since: dict[str, float] = {}
        self._last: dict[str, Trouble] = {}
        self._refused = self._event = ""
        self._next_events = 0.0
        self._begun = False
        self.standing = standing_of(None)

    def look(self, pod: Pod | None) -> None:
        """Take note of how a Pod is now.

        Raises
        ------
        PodLostError
            If it will not run where it is, and another may.
        SettingsError
            If it never will.
        ClusterError, StageTimeoutError
            If it has taken too long.
        """
        if pod is None:
            self._look_for_refusal()
        self.standing = standing_of(pod, refused=self._refused or self._where_it_says_why(pod))
        if pod is not None and not self._has_begun(pod):
            self._look_for_loss(pod)
        if self.standing.kind == "scheduling":
            self._look_for_nodes(pod)
        elif self.standing.kind in ("starting", "receiving") and pod is not None:
            self._look_for_trouble(pod)

    def _has_begun(self, pod: Pod) -> bool:
        """Return whether any container runs or has run; a Pod that was evicted has forgotten its own."""
        self._begun = self._begun or any(has_begun(pod, each["name"]) for each in pod["spec"]["containers"])
        return self._begun

    def _look_for_refusal(self) -> None:
        if not self._is_time_for_events():
            return
        self._refused = " ".join(self._cluster.event("Job", self._job, "FailedCreate").split())
        if not self._refused:
            return
        told = f"the cluster makes no Pod for the study: {self._refused}"
        if "exceeded quota" not in self._refused:
            certain = not _TRANSIENT.search(self._refused)
            patience_s = _SURE_S if certain else _UNSURE_S
            self._endure(Trouble(key="no Pod", told=told, is_certain=certain, patience_s=patience_s))

    def _where_it_says_why(self, pod: Pod | None) -> str:
        """Return how to learn why there is no Pod, where we may not see the events; "" at first."""
        if pod is not None or self._lasts("no Pod seen") < _SURE_S:
            return ""
        return f"the cluster has made none yet; `kubectl describe job {self._job}` says why"

    def _look_for_loss(self, pod: Pod) -> None:
        why = why_pod_ended(pod)
        if isinstance(why, StageTimeoutError):
            raise StageTimeoutError(f"{BEFORE_IT_BEGAN}: {why}")
        if why is not None or is_going(pod):  # what its containers say then is a consequence
            raise PodLostError(str(why or "its Pod was deleted"))
        if has_lost_sight(pod):
            raise PodLostError(f"its node {pod['spec'].get('nodeName')} was lost or restarted")
        failed = why_container_failed(pod, RECEIVER)
        if failed is not None and failed.exit_code == StageTimeoutError.exit_code:
            raise PodLostError(f"its node {pod['spec'].get('nodeName')} cut it off: {failed}")
        if failed is not None:
            raise OutputError(f"the payload did not get into the Pod: {failed}")
        failed = why_container_failed(pod, READY)
        if failed is not None:
            error = StageError(f"the job's folders could not be made ready: {failed}")
            error.exit_code = failed.exit_code
            raise error
        if has_ended(pod):
            raise PodLostError("its Pod has ended")

    def _look_for_nodes(self, pod: Pod | None) -> None:
        waits = self.standing.told
        if "persistentvolumeclaim" in waits and "not found" in waits:
            told = f"{waits}; name a claim of the namespace in CLARA_PAYLOAD_CLAIM"
            self._endure(Trouble(key="claim", told=told, is_certain=True, patience_s=_SURE_S))
        if pod is not None and self._is_time_for_events():
            self._event = missing_gpus(pod, self._cluster.nodes() or ())
        if self._event:
            advice = "set gpu: false in values.yaml, or add a node with its device plug-in"
            self.standing = Standing(kind="scheduling", told=f"{waits} ({self._event}; {advice})")
        if self._lasts("scheduling") > self._limits.scheduling_s:
            raise StageTimeoutError(
                f"the study did not get its Pod onto a node within {self._limits.scheduling_s:g} s "
                f"(job.schedulingSeconds of the chart): {self.standing.told}"
            )

    def _look_for_trouble(self, pod: Pod) -> None:
        node = pod["spec"].get("nodeName")
        found = [self._endure(trouble) for trouble in troubles_of(pod)]
        if found:
            self.standing = Standing(kind="starting", told=f"starting on node {node}: {found[0].told}")
        if self.standing.kind == "receiving":
            self._since.pop("starting", None)
            return
        if self._lasts("starting") > _SURE_S and self._is_time_for_events():
            self._look_for_mounts(pod)
            nodes = self._cluster.nodes()
            if nodes is not None and is_cut_off(pod, nodes):
                raise PodLostError(f"its node {node} does not answer")
        if self._event:
            self.standing = Standing(kind="starting", told=f"starting on node {node}: {self._event}")
        if self._lasts("starting") > self._limits.startup_s:
            limit = f"{self._limits.startup_s:g} s (job.startupSeconds of the chart)"
            raise PodLostError(f"its containers did not start within {limit}: {self.standing.told}")

    def _look_for_mounts(self, pod: Pod) -> None:
        name = pod["metadata"]["name"]
        for reason in ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"):
            said = " ".join(self._cluster.event("Pod", name, reason).split())
            if not said:
                continue
            self._event = said
            if reason == "FailedMount" and _NO_SUCH_THING.search(said):
                told = f"the Pod of the study cannot have its storage: {said}"
                self._endure(Trouble(key="mount", told=told, is_certain=True, patience_s=_MOUNT_S))
            return

    def _endure(self, trouble: Trouble) -> Trouble:
        """Let a trouble pass by itself for a while; return it as the cluster has told it best."""
        known = self._last.get(trouble.key, trouble)
        told = known if known.is_certain or not trouble.has_cause else trouble
        self._last[trouble.key] = told
        if self._lasts(trouble.key) >= told.patience_s:
            raise SettingsError(told.told) if told.is_certain else ClusterError(told.told)
        return told

    def _lasts(self, key: str) -> float:
        return self._clock() - self._since.setdefault(key, self._clock())

    def _is_time_for_events(self) -> bool:
        if self._clock() < self._next_events:
            return False
        self._next_events = self._clock() + _EVENTS_S
        return True
