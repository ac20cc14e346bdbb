"""A Pod on its way to running: what it waits for, how long it may, and when and why it is given up."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from clara_wf.engines.kubernetes.cluster import Cluster, ClusterError, PodLostError
from clara_wf.engines.kubernetes.pod_state import (
    Pod,
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
from clara_wf.engines.kubernetes.pod_troubles import NO_SUCH_THING, SURE_S, UNSURE_S, Trouble, troubles_of
from clara_wf.engines.kubernetes.study_job import StartLimits
from stages.errors import OutputError, SettingsError, StageError, StageTimeoutError

READY, RECEIVER = "ready", "receiver"
BEFORE_IT_BEGAN = "the study was ended before its stages began"

Kind: TypeAlias = Literal["scheduling", "starting", "receiving", "running"]

_EVENTS_S = 2.0
_MOUNT_S = 20.0
_TRANSIENT = re.compile(
    r"exceeded quota|failed calling|timeout|timed out|try again|internal error", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class StartupState:
    """How far a Pod has come, and that in words; nothing once it runs.

    Attributes
    ----------
    kind
        How far.
    text
        That in words.
    """

    kind: Kind
    text: str = ""


def state_of(pod: Pod | None, *, refused: str = "") -> StartupState:
    """Return how far a Pod has come.

    Parameters
    ----------
    pod
        As the API has it; None while there is none.
    refused
        Why the cluster makes none, where it says so.
    """
    if pod is None:
        return StartupState(
            kind="scheduling", text=f"waiting for a Pod: {refused or 'the cluster has made none yet'}"
        )
    node = pod["spec"].get("nodeName")
    if not node:
        waits = why_unschedulable(pod)
        return StartupState(
            kind="scheduling", text=f"waiting for a node: {waits}" if waits else "waiting for a node"
        )
    if all(has_begun(pod, container["name"]) for container in pod["spec"]["containers"]):
        return StartupState(kind="running")
    if is_running(pod, RECEIVER):
        return StartupState(kind="receiving", text=f"the payload is on its way to node {node}")
    found = next(troubles_of(pod), None)
    more = f": {found.text}" if found is not None else ""
    return StartupState(kind="starting", text=f"starting on node {node}{more}")


class Startup:
    """Watches one Pod until its stages run.

    Parameters
    ----------
    cluster
        The cluster.
    job
        Name of its Job.
    limits
        How long it may take.
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
        self.state = state_of(None)

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
        self.state = state_of(pod, refused=self._refused or self._where_it_says_why(pod))
        if pod is not None and not self._has_begun(pod):
            self._look_for_loss(pod)
        if self.state.kind == "scheduling":
            self._look_for_nodes(pod)
        elif self.state.kind in ("starting", "receiving") and pod is not None:
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
        text = f"the cluster makes no Pod for the study: {self._refused}"
        if "exceeded quota" not in self._refused:
            certain = not _TRANSIENT.search(self._refused)
            patience_s = SURE_S if certain else UNSURE_S
            self._wait_out(Trouble(key="no Pod", text=text, is_certain=certain, patience_s=patience_s))

    def _where_it_says_why(self, pod: Pod | None) -> str:
        """Return how to learn why there is no Pod, where we may not see the events; "" at first."""
        if pod is not None or self._lasts("no Pod seen") < SURE_S:
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
        waits = self.state.text
        if "persistentvolumeclaim" in waits and "not found" in waits:
            text = f"{waits}; name a claim of the namespace in CLARA_PAYLOAD_CLAIM"
            self._wait_out(Trouble(key="claim", text=text, is_certain=True, patience_s=SURE_S))
        if pod is not None and self._is_time_for_events():
            self._event = missing_gpus(pod, self._cluster.nodes() or ())
        if self._event:
            advice = "set gpu: false in values.yaml, or add a node with its device plug-in"
            self.state = StartupState(kind="scheduling", text=f"{waits} ({self._event}; {advice})")
        if self._lasts("scheduling") > self._limits.scheduling_s:
            raise StageTimeoutError(
                f"the study did not get its Pod onto a node within {self._limits.scheduling_s:g} s "
                f"(job.schedulingSeconds of the chart): {self.state.text}"
            )

    def _look_for_trouble(self, pod: Pod) -> None:
        node = pod["spec"].get("nodeName")
        found = [self._wait_out(trouble) for trouble in troubles_of(pod)]
        if found:
            self.state = StartupState(kind="starting", text=f"starting on node {node}: {found[0].text}")
        if self.state.kind == "receiving":
            self._since.pop("starting", None)
            return
        if self._lasts("starting") > SURE_S and self._is_time_for_events():
            self._look_for_mounts(pod)
            nodes = self._cluster.nodes()
            if nodes is not None and is_cut_off(pod, nodes):
                raise PodLostError(f"its node {node} does not answer")
        if self._event:
            self.state = StartupState(kind="starting", text=f"starting on node {node}: {self._event}")
        if self._lasts("starting") > self._limits.startup_s:
            limit = f"{self._limits.startup_s:g} s (job.startupSeconds of the chart)"
            raise PodLostError(f"its containers did not start within {limit}: {self.state.text}")

    def _look_for_mounts(self, pod: Pod) -> None:
        name = pod["metadata"]["name"]
        for reason in ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"):
            said = " ".join(self._cluster.event("Pod", name, reason).split())
            if not said:
                continue
            self._event = said
            if reason == "FailedMount" and NO_SUCH_THING.search(said):
                text = f"the Pod of the study cannot have its storage: {said}"
                self._wait_out(Trouble(key="mount", text=text, is_certain=True, patience_s=_MOUNT_S))
            return

    def _wait_out(self, trouble: Trouble) -> Trouble:
        """Return a trouble as the cluster described it best; raise it when it has lasted too long."""
        known = self._last.get(trouble.key, trouble)
        best = known if known.is_certain or not trouble.has_cause else trouble
        self._last[trouble.key] = best
        if self._lasts(trouble.key) >= best.patience_s:
            raise SettingsError(best.text) if best.is_certain else ClusterError(best.text)
        return best

    def _lasts(self, key: str) -> float:
        return self._clock() - self._since.setdefault(key, self._clock())

    def _is_time_for_events(self) -> bool:
        if self._clock() < self._next_events:
            return False
        self._next_events = self._clock() + _EVENTS_S
        return True
