"""What a Pod's state, as the API tells it, means for its stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clara_wf.blocks import quantity
from clara_wf.workflow import Step
from stages.errors import SettingsError

GPU = "nvidia.com/gpu"
KILLED, TERMINATED = -9, -15
_NO_IMAGE = {"ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName", "ImageInspectError"}
_NOT_STARTED = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
_FIRST_SIGNAL, _LAST_SIGNAL = 129, 128 + 64

Pod = Mapping[str, Any]


def exit_codes(pod: Pod) -> dict[str, int]:
    """Return the exit code of each container that has ended; -N if signal N ended it."""
    ended = {status["name"]: status["state"].get("terminated") for status in _containers(pod)}
    return {name: _as_signal(int(state["exitCode"])) for name, state in ended.items() if state}


def is_running(pod: Pod, container: str) -> bool:
    """Tell whether a container runs; an init container counts as well."""
    return any(s["name"] == container and "running" in s["state"] for s in _all_containers(pod))


def init_problem(pod: Pod, container: str) -> str:
    """Return why an init container failed; "" if it did not."""
    for status in _all_containers(pod):
        state = status["state"].get("terminated")
        if status["name"] == container and state and state["exitCode"] != 0:
            return last_words(pod, container)
    return ""


def last_words(pod: Pod, container: str) -> str:
    """Return what a container that has ended said last, or its exit code."""
    for status in _all_containers(pod):
        state = status["state"].get("terminated")
        if status["name"] == container and state:
            return _last_line(state.get("message", "")) or f"exit code {state['exitCode']}"
    return "it said nothing"


def is_going(pod: Pod) -> bool:
    """Tell whether a Pod is being deleted."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def has_ended(pod: Pod) -> bool:
    """Tell whether nothing of a Pod runs any more."""
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def images_of(pod: Pod) -> dict[str, str]:
    """Return the image of each container that was started, with its digest."""
    images = {}
    for status in _containers(pod):
        digest = str(status.get("imageID", "")).rpartition("sha256:")[2]
        if digest:
            images[status["name"]] = f"{status['image'].partition('@')[0]}@sha256:{digest}"
    return images


def why_ended(pod: Pod, step: Step) -> str:
    """Return what the cluster knows of the end of a stage that a signal ended; "" for nothing."""
    status = pod["status"]
    limit = step.block.resources.limits.get("memory", "")
    for container in _containers(pod):
        state = container["state"].get("terminated") or {}
        if container["name"] == step.name and state.get("reason") == "OOMKilled":
            raised = f"raise resources.limits.memory of stage {step.name} in values.yaml"
            return f"out of memory, limit {limit}; {raised}" if limit else "out of memory"
        if container["name"] == step.name and state.get("reason") == "ContainerStatusUnknown":
            return "its node was lost or restarted"
    if status.get("reason") == "Evicted":
        return f"its Pod was evicted ({_last_line(status.get('message', ''))})"
    if status.get("reason") == "NodeLost":
        return f"its node {pod['spec'].get('nodeName')} was lost"
    if status.get("reason") == "DeadlineExceeded":
        return "the deadline of its Job has passed"
    return ""


def refusal(pod: Pod) -> SettingsError | None:
    """Return why a Pod will never run, as far as that is certain."""
    for status in _all_containers(pod):
        waiting = status["state"].get("waiting") or {}
        reason, message = waiting.get("reason", ""), _last_line(waiting.get("message", ""))
        where = f"{status['image']} of {status['name']}"
        if reason in _NO_IMAGE:
            node = pod["spec"].get("nodeName")
            return SettingsError(
                f"the image {where} is not on node {node} and cannot be pulled ({reason}); "
                f"load it onto the nodes, or set image.registry and image.pullSecrets of the chart"
            )
        if reason in _NOT_STARTED:
            return SettingsError(f"the container of {where} cannot be started: {message or reason}")
    return None


def why_unschedulable(pod: Pod) -> str:
    """Return why no node takes a Pod at the moment; "" if one has."""
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            return str(condition.get("message") or condition.get("reason") or "")
    return ""


def missing_gpus(pod: Pod, nodes: Sequence[Mapping[str, Any]]) -> str:
    """Return what a Pod asks for that no node of the cluster has at all; "" if there is such a node."""
    wanted = sum(_gpus(container.get("resources", {})) for container in pod["spec"]["containers"])
    most = max((_gpus({"limits": node["status"].get("allocatable", {})}) for node in nodes), default=0.0)
    if wanted > most:
        return f"the study's stages ask for {wanted:g} {GPU}, and no node has more than {most:g}"
    return ""


def is_cut_off(pod: Pod, nodes: Iterable[Mapping[str, Any]] | None) -> bool:
    """Tell whether the Pod's node does not answer the cluster."""
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


def _all_containers(pod: Pod) -> list[Mapping[str, Any]]:
    return [*(pod["status"].get("initContainerStatuses") or ()), *_containers(pod)]


def _as_signal(code: int) -> int:
    return 128 - code if _FIRST_SIGNAL <= code <= _LAST_SIGNAL else code


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
