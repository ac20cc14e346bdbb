"""The blocks of values.yaml: a stage and a workflow, with the chart's own keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from clara_wf.yaml.json_schema import shown
from stages.volume.labels import Label
from stages.volume.labels_file import with_rgb

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
# Containers of the chart's own, folders of the payload, and the lock of the input.
RESERVED = ("carrier", "receiver", "ready", "model-server", "locks", "logs", "publish", "input")
"""A DNS label (RFC 1123): what Kubernetes takes as the name of a container."""

_QUANTITY = re.compile(r"\d+(\.\d+)?([eE][+-]?\d+|m|k|[KMGTPE]i?)?")
_FACTORS = {"": 1.0, "m": 1e-3, "k": 1e3} | {
    letter + binary: (1024.0 if binary else 1000.0) ** power
    for power, letter in enumerate("KMGTPE", start=1)
    for binary in ("", "i")
}


def name_fault(name: str) -> tuple[str, str] | None:
    """Return why a name cannot be that of a stage, and what to do; None if it can."""
    if re.fullmatch(LABEL, name) is None:
        return "is no DNS label", (
            "use at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit"
            f" (RFC 1123; the pattern is {LABEL})"
        )
    if name in RESERVED:
        return "is taken by the toolkit", "call the stage something else"
    return None


def quantity(text: str) -> float:
    """Return what a Kubernetes quantity such as ``512Mi`` or ``500m`` amounts to.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not _QUANTITY.fullmatch(text):
        raise ValueError(f"expected a quantity such as 512Mi, 2 or 500m, found {text!r}")
    number = re.match(r"\d+(\.\d+)?([eE][+-]?\d+)?", text)
    assert number is not None
    return float(number.group()) * _FACTORS[text[number.end() :]]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, found {shown(value)}; quote it")
    return str(value)


def _texts(value: object) -> tuple[str, ...]:
    """Accept one text or a list of texts."""
    entries = value if isinstance(value, list | tuple) else [value]
    return tuple(_text(entry) for entry in entries)


def _seconds(value: object) -> float:
    try:
        seconds = float(value) if isinstance(value, str | int | float) else 0.0
    except ValueError:
        seconds = 0.0
    if isinstance(value, bool) or not 0 < seconds < float("inf"):
        raise ValueError(f"expected a positive number of seconds, found {shown(value)}")
    return seconds


def _quantity_text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected a quantity such as 512Mi, 2 or 500m, found {shown(value)}")
    quantity(str(value))
    return str(value)


def _variable(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(VARIABLE, value):
        raise ValueError(f"{shown(value)} is no name of an environment variable; use letters, digits and _")
    return value


Text = Annotated[str, BeforeValidator(_text), Field(min_length=1)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Seconds = Annotated[float, BeforeValidator(_seconds)]
Quantity = Annotated[str, BeforeValidator(_quantity_text)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Image(_Strict):
    """The container image of a stage."""

    repository: Text
    tag: Text

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


class Mount(_Strict):
    """The name of a volume mount."""

    name: Text


class Mounts(_Strict):
    """Where a stage's container finds its folders."""

    into: Mount = Field(alias="in")
    out: Mount


class Resources(_Strict):
    """What a stage may use (limits) and what is kept for it (requests), as Kubernetes has them."""

    limits: Mapping[str, Quantity] = {}
    requests: Mapping[str, Quantity] = {}


class StageBlock(_Strict):
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
    command: Annotated[tuple[Text, ...], BeforeValidator(_texts)] = ()
    gpu: StrictBool = False
    resources: Resources = Resources()
    env: Mapping[Annotated[str, BeforeValidator(_variable)], Annotated[str, BeforeValidator(_text)]] = {}


class WorkflowBlock(_Strict):
    """One block under ``workflows:``."""

    name: Text
    stages: Annotated[tuple[Text, ...], Field(min_length=1)]
    waitLocks: tuple[Texts, ...]  # noqa: N815
    ioFolders: tuple[Texts, ...]  # noqa: N815
    args: tuple[Texts, ...]
    labels: tuple[Annotated[Label, BeforeValidator(with_rgb)], ...] = ()


def keys_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the keys of a block in the chart's order, with the field behind each."""
    return {field.alias or name: field for name, field in model.model_fields.items()}
