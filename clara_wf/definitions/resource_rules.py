"""The rules for what containers ask for and may use, beyond the form of a quantity."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from clara_wf.yaml.findings import Path, Problem
from clara_wf.yaml.scalars import quantity

GPU = "nvidia.com/gpu"
_SMALLEST_MEMORY = 1 << 20  # bytes; no container starts with less
_NAMES = ("cpu", "memory", "ephemeral-storage")
_OF_THE_CLUSTER = re.compile(
    r"hugepages-\w+|([a-z0-9]([a-z0-9.-]*[a-z0-9])?)/[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?"
)
_SHORT = {
    "gpu": GPU,
    "gpus": GPU,
    "mem": "memory",
    "ram": "memory",
    "cpus": "cpu",
    "storage": "ephemeral-storage",
}


def settings_problems(content: Mapping[str, Any]) -> Iterator[Problem]:
    """Return what is wrong with the resources that the settings above ``stages:`` give.

    Parameters
    ----------
    content
        A whole values.yaml; what is not of the right shape is left to the schema.
    """
    for path in (("carrier",), ("modelServer", "embedded")):
        block: Any = content
        for key in (*path, "resources"):
            block = block.get(key) if isinstance(block, Mapping) else None
        given = {key: _quantities(block.get(key)) for key in ("limits", "requests")} if block else {}
        yield from resource_problems((*path, "resources"), **given)


def resource_problems(
    path: Path, limits: Mapping[str, str] | None = None, requests: Mapping[str, str] | None = None
) -> Iterator[Problem]:
    """Return what a cluster would refuse of a container's resources.

    Parameters
    ----------
    path
        Where the block of resources stands in its file.
    limits, requests
        Kubernetes quantities by the name of what is limited or asked for.
    """
    limits, requests = limits or {}, requests or {}
    for kind, given in (("limits", limits), ("requests", requests)):
        for name, amount in given.items():
            yield from _amount((*path, kind, name), name, amount)
    yield from _too_little((*path, "limits", "memory"), limits.get("memory", "0"))
    for name in requests:
        yield from _request((*path, "requests", name), name, requests[name], limits.get(name))


def _amount(path: Path, name: str, amount: str) -> Iterator[Problem]:
    if name not in _NAMES and not _OF_THE_CLUSTER.fullmatch(name):
        advice = f"write {_SHORT.get(name, GPU)!r}, or one of {', '.join(_NAMES)}"
        yield Problem(path=path, message=f"{name!r} is nothing that a cluster counts", advice=advice)
    elif name not in _NAMES and not quantity(amount).is_integer():
        yield Problem(path=path, message=f"found {amount}", advice=f"{name} is counted in whole ones")


def _too_little(path: Path, memory: str) -> Iterator[Problem]:
    size = quantity(memory)
    if 0 < size < _SMALLEST_MEMORY:
        number = re.match(r"[\d.]+", memory)
        meant = f"{number.group() if number else memory}Mi"
        yield Problem(
            path=path, message=f"{memory} is {size:g} bytes", advice=f"write {meant!r} if you mean MiB"
        )


def _request(path: Path, name: str, amount: str, limit: str | None) -> Iterator[Problem]:
    if name not in _NAMES and limit is None:
        told = f"{name} is asked for without a limit"
        yield Problem(path=path, message=told, advice=f"write it under limits: {name}: {amount}")
    elif limit is not None and name not in _NAMES and quantity(amount) != quantity(limit):
        told = f"{amount} is not the limit, {limit}"
        yield Problem(path=path, message=told, advice="leave it out; the limit is asked for")
    elif limit is not None and quantity(amount) > quantity(limit):
        told = f"{amount} is more than the limit, {limit}"
        yield Problem(path=path, message=told, advice="ask for at most the limit")


def _quantities(given: Any) -> dict[str, str]:
    """Return the quantities of a block that are such; the schema tells of the others."""
    found = given.items() if isinstance(given, Mapping) else ()
    texts = {str(name): str(amount) for name, amount in found if not isinstance(amount, bool)}
    return {name: amount for name, amount in texts.items() if _is_quantity(amount)}


def _is_quantity(text: str) -> bool:
    try:
        quantity(text)
    except ValueError:
        return False
    return True
