"""Published workflows: what each says of itself, and where its versions lie.

::

    DIR/<workflow ID>/versions/1/published.json    what, when, by which version, digests
                               1/chart/            the chart with this workflow alone
                               1/job.yaml          the Job as Helm renders it, where Helm was there
                      current -> versions/1        switched by one rename; gone when it is unpublished
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clara_wf.definitions.workflow import Workflow, load_workflows
from clara_wf.text.suggestion import did_you_mean
from stages.errors import SettingsError

RECORD, CHART, CURRENT, VERSIONS = "published.json", "chart", "current", "versions"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A version of a workflow that was published.

    Attributes
    ----------
    workflow, name, display_name
        The ID, the name in the chart, and what people see.
    version
        Counted from 1.
    published, by
        When (ISO 8601, UTC), and by which version of this software.
    engines
        What can run it.
    images
        Digest of each stage's image, where it was known.
    models
        Digest of each model that was in the repository.
    content
        SHA-256 of all of it but `version`, `published` and `by`.
    folder
        Where it lies.
    is_new
        Whether this very call has made it.
    """

    workflow: str
    name: str
    display_name: str
    version: int
    published: str
    by: str
    engines: tuple[str, ...]
    images: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    content: str
    folder: Path = Path()
    is_new: bool = False

    @property
    def chart(self) -> Path:
        """The chart, with this workflow alone."""
        return self.folder / CHART

    def record(self) -> dict[str, Any]:
        """Return what is written down."""
        told = asdict(self)
        del told["folder"], told["is_new"]
        return told


def list_published(target: Path) -> list[Published]:
    """Return the workflows that are published in a folder, by display name.

    Parameters
    ----------
    target
        The folder of published workflows.

    Raises
    ------
    SettingsError
        If one of them is damaged.
    """
    folders = [path for path in target.iterdir() if _UUID.fullmatch(path.name)] if target.is_dir() else []
    found = [current_version(folder) for folder in folders]
    return sorted((each for each in found if each), key=lambda each: (each.display_name, each.workflow))


def load_published(target: Path, workflow: str) -> tuple[Published, Workflow]:
    """Return a published workflow: what is said of it, and the workflow to run.

    Parameters
    ----------
    target, workflow
        The folder of published workflows and the ID or the display name.

    Raises
    ------
    SettingsError
        If it is not published there, or damaged.
    """
    found = current_version(workflow_folder(target, workflow))
    if found is None:
        there = list_published(target)
        known = ", ".join(f"{each.workflow} ({each.display_name})" for each in there) or "none"
        meant = did_you_mean(workflow, [each.workflow for each in there])
        raise SettingsError(f"no workflow {workflow} is published in {target}{meant}; there are: {known}")
    return found, load_workflows(found.chart / "values.yaml")[found.workflow]


def workflow_folder(target: Path, workflow: str) -> Path:
    """Return the folder of a workflow among the published ones.

    Parameters
    ----------
    target, workflow
        The folder of published workflows and the ID.

    Raises
    ------
    SettingsError
        If the ID could lead out of it.
    """
    if not _UUID.fullmatch(workflow):
        raise SettingsError(f"a workflow's ID is a UUID in small letters, found {workflow!r}")
    folder = target / workflow
    if folder.is_symlink():
        raise SettingsError(f"{folder} is a link that may lead elsewhere; remove it")
    return folder


def current_version(folder: Path) -> Published | None:
    """Return the version of a workflow that is published; None if there is none."""
    link = folder / CURRENT
    if not link.is_symlink():
        return None
    return read_version(folder / VERSIONS / link.readlink().name)


def last_version(folder: Path) -> Published | None:
    """Return the last version that there was, published or not; None if there is none."""
    numbers = [int(path.name) for path in (folder / VERSIONS).glob("*") if path.name.isdigit()]
    return read_version(folder / VERSIONS / str(max(numbers))) if numbers else None


def read_version(folder: Path) -> Published:
    """Read a version.

    Raises
    ------
    SettingsError
        If it is damaged.
    """
    file = folder / RECORD
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return Published(**{**told, "engines": tuple(told["engines"]), "folder": folder})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SettingsError(f"{file} is damaged ({error}); publish the workflow again") from error
