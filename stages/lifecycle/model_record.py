"""Which model a result was made with, so that another one is noticed: by name, version and hashes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

DESCRIPTION = "config.pbtxt"


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """A model as a stage used it, or as it is now; what is not known is empty.

    Attributes
    ----------
    name
        Of the model.
    version
        The version that answers.
    weights_sha256, configuration_sha256
        What a server says of it, hexadecimal (`stages.volume.origin.Algorithm`).
    files
        SHA-256 of each file that a server reads of it, by path in the model's folder.
    """

    name: str
    version: str = ""
    weights_sha256: str = ""
    configuration_sha256: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


def records_in(stored: Any) -> Iterator[ModelRecord]:
    """Yield the records in a list of JSON objects; a foreign stage may write anything, or the name alone.

    Parameters
    ----------
    stored
        What a lock or ``models.json`` holds under ``models``.
    """
    for each in stored if isinstance(stored, list) else ():
        if isinstance(each, Mapping) and isinstance(each.get("name"), str):
            texts = {f.name: each[f.name] for f in fields(ModelRecord) if isinstance(each.get(f.name), str)}
            files = each.get("files")
            yield ModelRecord(**{**texts, "files": dict(files) if isinstance(files, Mapping) else {}})


def why_changed(used: ModelRecord, now: ModelRecord) -> str | None:
    """Return what of a model is not as it was; None where all is, as far as both sides are known.

    Parameters
    ----------
    used
        The model as the stage used it.
    now
        The model as it is now.
    """
    if _differ(used.version, now.version):
        return f"version {used.version}, now {now.version}"
    kinds = list(_changed_files(used.files, now.files)) if used.files and now.files else []
    if _differ(used.weights_sha256, now.weights_sha256):
        kinds.append("weights")
    if _differ(used.configuration_sha256, now.configuration_sha256):
        kinds.append("description")
    return " and ".join(dict.fromkeys(kinds)) or None


def knows_weights(used: ModelRecord, now: ModelRecord | None) -> bool:
    """Return whether both sides have something of the weights, so that others would be noticed.

    Parameters
    ----------
    used
        The model as the stage used it.
    now
        The model as it is now; None where nothing is known of it.
    """
    if now is None:
        return False
    return bool((used.files and now.files) or (used.weights_sha256 and now.weights_sha256))


def _differ(used: str, now: str) -> bool:
    return bool(used and now and used != now)


def _changed_files(used: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for path in sorted(used.keys() | now.keys()):
        if used.get(path) != now.get(path):
            yield "description" if path == DESCRIPTION else "weights" if "/" in path else path
