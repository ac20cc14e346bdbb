"""A workflow and its stages, as the chart's values.yaml defines them: read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.errors import SettingsError
from stages.locks import stage_of
from stages.settings import INPUT_LOCK, checked_lock_name

_Block = TypeVar("_Block", bound=BaseModel)
_Label = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
_FOLDER = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/(input|output)")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Image(_Strict):
    """The container image of a stage."""

    repository: str
    tag: str


class Mount(_Strict):
    """The name of a volume mount."""

    name: str


class Mounts(_Strict):
    """Where a stage's container finds its folders."""

    into: Mount = Field(alias="in")
    out: Mount


class StageBlock(_Strict):
    """One block under ``stages:``, with the chart's own keys."""

    image: Image
    mount: Mounts
    stageName: _Label  # noqa: N815 - the chart's key
    appDir: str  # noqa: N815
    inputLock: str  # noqa: N815
    inputs: str
    logName: str  # noqa: N815
    outputs: str
    lockDir: str  # noqa: N815
    lockName: str  # noqa: N815
    timeout: Annotated[float, Field(gt=0)]
    publishPath: str  # noqa: N815
    command: tuple[str, ...] = ()
    gpu: bool = False
    resources: Mapping[str, Any] = {}
    env: Mapping[str, str] = {}


class _WorkflowBlock(_Strict):
    name: Annotated[str, Field(min_length=1)]
    stages: Annotated[tuple[str, ...], Field(min_length=1)]
    waitLocks: tuple[str | tuple[str, ...], ...]  # noqa: N815
    ioFolders: tuple[str | tuple[str, ...], ...]  # noqa: N815
    args: tuple[str | tuple[str, ...], ...]

    @model_validator(mode="after")
    def _fit_together(self) -> _WorkflowBlock:
        count = len(self.stages)
        for key, expected in (("waitLocks", count), ("args", count), ("ioFolders", count + 1)):
            found = len(getattr(self, key))
            if found != expected:
                raise ValueError(f"{key} has {found} entries, expected {expected} for {count} stages")
        return self


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage at its place in a workflow.

    Attributes
    ----------
    name
        The stage.
    block
        Its definition.
    wait_locks
        File names of the locks it waits for.
    input_folders
        Folders it reads, inside the job's payload.
    arguments
        Its command line.
    """

    name: str
    block: StageBlock
    wait_locks: tuple[str, ...]
    input_folders: tuple[str, ...]
    arguments: tuple[str, ...]

    @property
    def output_folder(self) -> str:
        """The folder it writes, inside the job's payload."""
        return f"{self.name}/output"


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """Stages in an order in which each comes after those it waits for.

    Attributes
    ----------
    result_folders
        Where the job's result lies, inside its payload.
    """

    id: str
    name: str
    steps: tuple[Step, ...]
    result_folders: tuple[str, ...]

    @property
    def input_folder(self) -> str:
        """The folder that whoever starts a job fills, inside the job's payload."""
        return self.steps[0].input_folders[0]


def load_workflows(values: Path) -> dict[str, Workflow]:
    """Read every workflow of a values.yaml, by ID.

    Raises
    ------
    SettingsError
        If the file cannot be read or a definition in it cannot be used, naming where and why.
    """
    try:
        content = YAML(typ="safe").load(values)
    except (OSError, YAMLError) as error:
        raise SettingsError(f"cannot read {values}: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{values.name}: expected the keys 'stages' and 'workflows'")
    blocks = {
        str(name): _validated(StageBlock, block, f"{values.name}: stages.{name}")
        for name, block in (content.get("stages") or {}).items()
    }
    return {
        str(key): _workflow(str(key), block, blocks, where=f"{values.name}: workflows.{key}")
        for key, block in (content.get("workflows") or {}).items()
    }


def find_workflow(workflows: Mapping[str, Workflow], wanted: str) -> Workflow:
    """Return the workflow with this ID or name.

    Raises
    ------
    SettingsError
        If there is none, naming those there are.
    """
    for workflow in workflows.values():
        if wanted in (workflow.id, workflow.name):
            return workflow
    known = ", ".join(f"{w.id} ({w.name})" for w in workflows.values()) or "none"
    raise SettingsError(f"there is no workflow {wanted!r}; the chart defines: {known}")


def _validated(kind: type[_Block], content: object, where: str) -> _Block:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}".lstrip(": ")
            for detail in error.errors()
        )
        raise SettingsError(f"{where}: {problems}") from error


def _workflow(key: str, content: object, blocks: Mapping[str, StageBlock], *, where: str) -> Workflow:
    try:
        UUID(key)
    except ValueError as error:
        raise SettingsError(f"{where}: a workflow's ID is a UUID, found {key!r}") from error
    block = _validated(_WorkflowBlock, content, where)
    unknown = [name for name in block.stages if name not in blocks]
    if unknown:
        raise SettingsError(f"{where}: stages {unknown} are not defined under 'stages:'")
    if len(set(block.stages)) != len(block.stages):
        raise SettingsError(f"{where}: a stage is listed twice in {list(block.stages)}")
    steps = tuple(
        Step(
            name=name,
            block=blocks[name],
            wait_locks=tuple(_lock(lock, where) for lock in _each(block.waitLocks[n])),
            input_folders=tuple(_folder(folder, where) for folder in _each(block.ioFolders[n])),
            arguments=tuple(a for a in _each(block.args[n]) if a != ""),
        )
        for n, name in enumerate(block.stages)
    )
    results = tuple(_folder(folder, where) for folder in _each(block.ioFolders[-1]))
    return Workflow(id=key, name=block.name, steps=_in_order(steps, where), result_folders=results)


def _each(entry: str | tuple[str, ...]) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else entry


def _lock(lock: str, where: str) -> str:
    try:
        return checked_lock_name(lock or INPUT_LOCK, "waitLocks")
    except SettingsError as error:
        raise SettingsError(f"{where}: waitLocks: {lock!r} is not of the form <stage>.lock") from error


def _folder(folder: str, where: str) -> str:
    if not _FOLDER.fullmatch(folder):
        raise SettingsError(
            f"{where}: ioFolders: {folder!r} is not of the form <stage>/input or <stage>/output"
        )
    return str(PurePosixPath(folder))


def _in_order(steps: tuple[Step, ...], where: str) -> tuple[Step, ...]:
    """Sort the steps so that each comes after those it waits for."""
    published = {step.block.lockName for step in steps} | {INPUT_LOCK}
    for step in steps:
        if not published.issuperset(step.wait_locks):
            unknown = ", ".join(sorted(set(step.wait_locks) - published))
            raise SettingsError(f"{where}: {step.name} waits for {unknown}, which no stage of it publishes")
    done, ordered, left = {INPUT_LOCK}, [], list(steps)
    while left:
        ready = [step for step in left if done.issuperset(step.wait_locks)]
        if not ready:
            circle = ", ".join(f"{s.name} for {' and '.join(map(stage_of, s.wait_locks))}" for s in left)
            raise SettingsError(f"{where}: stages wait for one another: {circle}")
        ordered += ready
        done |= {step.block.lockName for step in ready}
        left = [step for step in left if step not in ready]
    return tuple(ordered)
