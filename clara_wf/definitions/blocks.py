"""The blocks of values.yaml: a stage and a workflow, with the chart's own keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, StrictBool

from clara_wf.yaml.scalars import (
    LABEL,
    AnyText,
    Command,
    Quantity,
    Seconds,
    StrictBlock,
    Text,
    Texts,
    Variable,
)
from stages.volume.labels import Label
from stages.volume.labels_file import with_rgb

RESERVED = ("carrier", "receiver", "ready", "model-server", "locks", "logs", "publish", "input")
"""Containers of the chart's own, folders of the payload, and the lock of the input."""


def name_fault(name: str) -> tuple[str, str] | None:
    """Return why a name cannot be that of a stage, and what to do; None if it can.

    Parameters
    ----------
    name
        The stage's name.
    """
    if re.fullmatch(LABEL, name) is None:
        return "is no DNS label", (
            "use at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit"
            f" (RFC 1123; the pattern is {LABEL})"
        )
    if name in RESERVED:
        return "is taken by the toolkit", "call the stage something else"
    return None


class Image(StrictBlock):
    """The container image of a stage."""

    repository: Text
    tag: Text

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


class Mount(StrictBlock):
    """The name of a volume mount."""

    name: Text


class Mounts(StrictBlock):
    """Where a stage's container finds its folders."""

    into: Mount = Field(alias="in")
    out: Mount


class Resources(StrictBlock):
    """What a stage may use (limits) and what is kept for it (requests), as Kubernetes has them."""

    limits: Mapping[str, Quantity] = {}
    requests: Mapping[str, Quantity] = {}


class StageBlock(StrictBlock):
    """One block under ``stages:``."""

    image: Image
    mount: Mounts
    stageName: Text  # noqa: N815 - the chart's key
    appDir: Text  # noqa: N815
    inputLock: Text  # noqa: N815
    inputs: Text
    logName: Text  # noqa: N815
    outputs: Text
    lockDir: Text  # noqa: N815
    lockName: Text  # noqa: N815
    timeout: Seconds
    publishPath: Text  # noqa: N815
    command: Command = ()
    gpu: StrictBool = False
    resident: StrictBool = True
    resources: Resources = Resources()
    env: Mapping[Variable, AnyText] = {}


class WorkflowBlock(StrictBlock):
    """One block under ``workflows:``."""

    name: Text
    stages: Annotated[tuple[Text, ...], Field(min_length=1)]
    waitLocks: tuple[Texts, ...]  # noqa: N815
    ioFolders: tuple[Texts, ...]  # noqa: N815
    args: tuple[Texts, ...]
    labels: tuple[Annotated[Label, BeforeValidator(with_rgb)], ...] = ()
