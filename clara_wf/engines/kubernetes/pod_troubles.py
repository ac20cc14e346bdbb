"""What keeps the containers of a Pod from running, read from their states: images, mounts, programs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from clara_wf.engines.kubernetes.pod_state import Pod, all_containers

SURE_S = 5.0  # a Secret or an account may come a moment after the Pod that needs it
UNSURE_S = 30.0  # a registry or a runtime may be back soon
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
NO_SUCH_THING = re.compile(
    r"not found|no such file|check failed|does not exist|exec format error|permission denied|"
    r"non-root|run as root|invalid|not a directory",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Something that keeps the containers of a Pod from running.

    Attributes
    ----------
    key
        The same while it is the same trouble, whatever the cluster calls it at the moment.
    text
        One line for the user.
    is_certain
        Whether another try would end the same way: it is the settings'.
    has_cause
        Whether `text` says why; the cluster also reports the same trouble without its cause.
    patience_s
        How long it may last before the study is given up, seconds.
    """

    key: str
    text: str
    is_certain: bool
    patience_s: float
    has_cause: bool = True


def troubles_of(pod: Pod) -> Iterator[Trouble]:
    """Yield what keeps the containers of a Pod from running, as their states show."""
    for status in all_containers(pod):
        waiting = status["state"].get("waiting") or {}
        reason, message = waiting.get("reason", ""), " ".join(waiting.get("message", "").split())
        name, image = status["name"], status["image"]
        if reason in _IMAGE_REASONS:
            yield _no_image(pod, name, image, reason, message)
        elif reason in _NO_CONTAINER_REASONS:
            certain = bool(NO_SUCH_THING.search(message))
            yield Trouble(
                key=f"container {name}",
                text=f"the container of {image} of {name} cannot be started: {message or reason}",
                is_certain=certain,
                patience_s=SURE_S if certain else UNSURE_S,
            )


def _no_image(pod: Pod, name: str, image: str, reason: str, message: str) -> Trouble:
    node = pod["spec"].get("nodeName")
    has_cause = bool(message) and reason not in ("ErrImageNeverPull", "ImagePullBackOff")
    why = f"{reason}: {message}" if has_cause else reason
    certain = reason in _NEVER or (reason == "ErrImagePull" and bool(_NO_SUCH_IMAGE.search(message)))
    if reason == "InvalidImageName":
        text = f"the image of {name}, {image!r}, is no name of an image ({why})"
    else:
        text = (
            f"the image {image} of {name} is not on node {node} and cannot be pulled ({why}); "
            f"load it onto the nodes, or set image.registry and image.pullSecrets of the chart"
        )
    patience_s = 0.0 if reason in _NEVER else SURE_S if certain else UNSURE_S
    return Trouble(
        key=f"image {name}", text=text, is_certain=certain, patience_s=patience_s, has_cause=has_cause
    )
