"""What a Pod's state, as the API has it, means for its stages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clara_wf.definitions.workflow import Step
from clara_wf.engines.kubernetes.cluster import ClusterError
from clara_wf.yaml.scalars import quantity
from stages.errors import SettingsError, StageError, StageTimeoutError

GPU = "nvidia.com/gpu"
KILLED, TERMINATED = -9, -15
CANNOT_RUN = {"ContainerCannotRun", "StartError"}
"""Reasons for the end of a container whose program could not be started."""
_LOGGED = re.compile(r"^\S+Z (WARNING|ERROR) [\w.]+: ")  # how the toolkit's programs begin a line
_NOT_KNOWN = "ContainerStatusUnknown"
_SETTINGS_OF = {"model-server": "modelServer.embedded"}
_FIRST_SIGNAL, _LAST_SIGNAL = 129, 128 + 64

Pod = Mapping[str, Any]


def exit_codes(pod: Pod) -> dict[str, int]:
    """Return the exit code of each container that has ended; -N if signal N ended it."""
    ended = {status["name"]: status["state"].get("terminated") for status in _containers(pod)}
    return {name: _as_signal(int(state["exitCode"])) for name, state in ended.items() if state}


def is_running(pod: Pod, container: str) -> bool:
    """Return whether a container runs; an init container counts as well.

    Parameters
    ----------
    pod, container
        The Pod as the cluster describes it and the container's name.
    """
    return any(s["name"] == container and "running" in s["state"] for s in all_containers(pod))


def last_output(pod: Pod, container: str) -> str:
    """Return the last line that a container that has ended printed, or its exit code.

    Parameters
    ----------
    pod, container
        The Pod as the cluster describes it and the container's name.
    """
    for status in all_containers(pod):
        state = status["state"].get("terminated")
        if status["name"] == container and state:
            return last_line(state.get("message", "")) or f"exit code {state['exitCode']}"
    return "it said nothing"


def has_begun(pod: Pod, container: str) -> bool:
    """Return whether a container runs or has run.

    Parameters
    ----------
    pod, container
        The Pod as the cluster describes it and the container's name.
    """
    return any(
        status["name"] == container and ("running" in status["state"] or "terminated" in status["state"])
        for status in _containers(pod)
    )


def has_lost_sight(pod: Pod) -> bool:
    """Return whether the node does not know any more how a container of the Pod ended."""
    ended = (status["state"].get("terminated") or {} for status in all_containers(pod))
    return any(state.get("reason") == _NOT_KNOWN for state in ended)


def is_going(pod: Pod) -> bool:
    """Return whether a Pod is being deleted."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def has_ended(pod: Pod) -> bool:
    """Return whether nothing of a Pod runs any more."""
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def images_of(pod: Pod) -> dict[str, str]:
    """Return the image of each container that was started, with its digest."""
    images = {}
    for status in _containers(pod):
        digest = str(status.get("imageID", "")).rpartition("sha256:")[2]
        if digest:
            images[status["name"]] = f"{status['image'].partition('@')[0]}@sha256:{digest}"
    return images


def why_ended(pod: Pod, step: Step) -> StageError | None:
    """Return what the cluster knows of the end of a stage that did not end by itself; None for nothing."""
    for container in _containers(pod):
        state = container["state"].get("terminated") or {}
        if container["name"] != step.name:
            continue
        if state.get("reason") == "OOMKilled":
            limit = step.block.resources.limits.get("memory", "")
            return StageError(_out_of_memory(limit, f"resources.limits.memory of stage {step.name}"))
        if state.get("reason") in CANNOT_RUN:
            return SettingsError(f"its program cannot be started: {last_line(state.get('message', ''))}")
        if state.get("reason") == _NOT_KNOWN:
            return ClusterError("its node was lost or restarted")
    return why_pod_ended(pod)


def why_pod_ended(pod: Pod) -> StageError | None:
    """Return why a whole Pod was ended, as far as it says so itself; None for nothing."""
    reason, message = pod["status"].get("reason", ""), last_line(pod["status"].get("message", ""))
    node = pod["spec"].get("nodeName")
    if reason == "Evicted":
        return ClusterError(f"its Pod was evicted ({message})" if message else "its Pod was evicted")
    if reason == "NodeLost":
        return ClusterError(f"its node {node} was lost")
    if reason == "DeadlineExceeded":
        seconds = pod["spec"].get("activeDeadlineSeconds")
        return StageTimeoutError(f"the deadline of its Pod, {seconds} s after its start, has passed")
    for each in pod["status"].get("conditions", ()):
        if each["type"] == "DisruptionTarget" and each["status"] == "True":
            return ClusterError(f"its Pod was removed ({each.get('message') or each.get('reason')})")
    if reason and has_ended(pod):
        return ClusterError(f"node {node} ended its Pod ({reason}: {message})")
    return None


def why_job_ended(job: Mapping[str, Any] | None) -> StageError | None:
    """Return why a Job has removed its Pod, as far as it says so; None for nothing.

    Parameters
    ----------
    job
        The Job as the cluster describes it; None where it is gone.
    """
    if job is None or job["metadata"].get("deletionTimestamp"):
        return ClusterError("its Job was deleted")
    for each in job["status"].get("conditions") or ():
        if each["type"] == "Failed" and each.get("reason") == "DeadlineExceeded":
            seconds = job["spec"].get("activeDeadlineSeconds")
            return StageTimeoutError(f"the deadline of its Job, {seconds} s, has passed")
    return None


def why_container_failed(pod: Pod, container: str) -> StageError | None:
    """Return why a container that is no stage has failed, with its exit code; None if it has not.

    Parameters
    ----------
    pod, container
        The Pod as the cluster describes it and the container's name.
    """
    for status in all_containers(pod):
        state = status["state"].get("terminated")
        if status["name"] != container or not state or state["exitCode"] == 0:
            continue
        if state.get("reason") == "OOMKilled":
            setting = f"{_SETTINGS_OF.get(container, 'carrier')}.resources.limits.memory"
            error = StageError(_out_of_memory(_memory_limit(pod, container), setting))
        else:
            error = StageError(_LOGGED.sub("", last_output(pod, container)))
        error.exit_code = state["exitCode"] if 0 < state["exitCode"] < _FIRST_SIGNAL else 1
        return error
    return None


def _memory_limit(pod: Pod, container: str) -> str:
    every = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
    found = [each.get("resources", {}).get("limits", {}) for each in every if each["name"] == container]
    return str(found[0].get("memory", "")) if found else ""


def _out_of_memory(limit: str, setting: str) -> str:
    return f"out of memory, limit {limit}; raise {setting} in values.yaml" if limit else "out of memory"


def why_unschedulable(pod: Pod) -> str:
    """Return why no node takes a Pod at the moment; "" if one has."""
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            return str(condition.get("message") or condition.get("reason") or "")
    return ""


def missing_gpus(pod: Pod, nodes: Sequence[Mapping[str, Any]]) -> str:
    """Return what a Pod asks for that no node of the cluster has at all; "" if there is such a node.

    Parameters
    ----------
    pod, nodes
        The Pod as the cluster describes it and the nodes as the cluster describes them.
    """
    wanted = sum(_gpus(container.get("resources", {})) for container in pod["spec"]["containers"])
    most = max((_gpus({"limits": node["status"].get("allocatable", {})}) for node in nodes), default=0.0)
    if wanted > most:
        return f"the study's stages ask for {wanted:g} {GPU}, and no node has more than {most:g}"
    return ""


def is_cut_off(pod: Pod, nodes: Iterable[Mapping[str, Any]] | None) -> bool:
    """Return whether the Pod's node does not answer the cluster.

    Parameters
    ----------
    pod
        The Pod as the cluster describes it.
    nodes
        The nodes as the cluster describes them; None where we may not see them.
    """
    name = pod["spec"].get("nodeName")
    for node in nodes or ():
        if node["metadata"]["name"] == name:
            return _condition(node, "Ready") != "True"
    if nodes is not None and name:
        return True  # the node is gone
    running = any("running" in status["state"] for status in _containers(pod))
    return running and _condition(pod, "Ready") == "False" and pod["status"].get("phase") == "Running"


def _gpus(resources: Mapping[str, Any]) -> float:
    return quantity(str(resources.get("limits", {}).get(GPU, 0)))


def _condition(thing: Mapping[str, Any], kind: str) -> str:
    conditions = thing["status"].get("conditions", ())
    return next((str(each["status"]) for each in conditions if each["type"] == kind), "")


def _containers(pod: Pod) -> list[Mapping[str, Any]]:
    return list(pod["status"].get("containerStatuses") or ())


def all_containers(pod: Pod) -> list[Mapping[str, Any]]:
    """Return the status of every container, those of the beginning (init) first."""
    return [*(pod["status"].get("initContainerStatuses") or ()), *_containers(pod)]


def _as_signal(code: int) -> int:
    return 128 - code if _FIRST_SIGNAL <= code <= _LAST_SIGNAL else code


def last_line(text: str) -> str:
    """Return the last line of a text that is not blank.

    Parameters
    ----------
    text
        The text.
    """
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
