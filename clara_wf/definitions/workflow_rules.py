"""The rules for one workflow block, beyond its keys and types."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from clara_wf.definitions.blocks import WorkflowBlock
from clara_wf.yaml.findings import Path, Problem
from clara_wf.yaml.scalars import LABEL
from stages.lifecycle.settings import INPUT_LOCK

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LOCK = re.compile(rf"{LABEL}\.lock")
_FOLDER = re.compile(rf"{LABEL}/(input|output)")
NEW_ID = "`cat /proc/sys/kernel/random/uuid` makes one"


@dataclass(frozen=True, kw_only=True)
class _CheckedWorkflow:
    """A workflow as it is checked: what stands where."""

    path: Path
    block: WorkflowBlock

    @property
    def lock_of(self) -> dict[str, str]:
        return {f"{stage}.lock": stage for stage in self.block.stages}

    @property
    def input_folder(self) -> str:
        return input_folder_of(self.block)

    def upstream(self) -> dict[str, set[str]]:
        """Return, by stage, all stages it waits for, directly or through others."""
        found = {
            stage: {self.lock_of[lock] for lock in locks if lock in self.lock_of}
            for stage, locks in zip(self.block.stages, self.block.waitLocks, strict=True)
        }
        for _ in self.block.stages:
            found = {s: direct.union(*(found[d] for d in direct)) for s, direct in found.items()}
        return found


def input_folder_of(block: WorkflowBlock) -> str:
    """Return the folder that whoever starts a job fills: that of the first stage that waits for nobody."""
    starting = (
        stage
        for stage, locks in zip(block.stages, block.waitLocks, strict=False)
        if {"", INPUT_LOCK}.issuperset(locks)
    )
    return f"{next(starting, block.stages[0])}/input"


def tidy_folder(text: str) -> str:
    """Return a folder without the blanks that a line break in print leaves: ``user-ai/ output``.

    Parameters
    ----------
    text
        The text.
    """
    return "/".join(part.strip() for part in text.split("/"))


def workflow_problems(key: str, block: WorkflowBlock, known: Collection[str]) -> Iterator[Problem]:
    """Return what is wrong with a workflow.

    Parameters
    ----------
    key
        Its ID.
    block
        The workflow's block.
    known
        The stages that are defined.
    """
    path: Path = ("workflows", key)
    if not _UUID.fullmatch(key):
        lower = _UUID.fullmatch(key.lower()) is not None
        yield Problem(
            path=path,
            message=f"a workflow's ID is a UUID in small letters, found {key!r}",
            advice=f"write {key.lower()}" if lower else NEW_ID,
        )
    workflow = _CheckedWorkflow(path=path, block=block)
    problems = [*_lengths(workflow), *_stages(workflow, known), *_labels(workflow)]
    yield from problems
    if not problems:
        wrong_locks = list(_locks(workflow))
        yield from wrong_locks
        yield from _folders(workflow, waits_are_right=not wrong_locks)
        yield from _arguments(workflow)


def shared_names(workflows: Mapping[str, WorkflowBlock]) -> Iterator[Problem]:
    """Return workflows that have the name of an earlier one.

    Parameters
    ----------
    workflows
        The workflows by ID.
    """
    seen: dict[str, str] = {}
    for key, block in workflows.items():
        first = seen.setdefault(block.name, key)
        if first != key:
            yield Problem(
                path=("workflows", key, "name"),
                message=f"{block.name!r} is also the name of {first}",
                advice="give it another name, or call both by their IDs",
                severity="warning",
            )


def _lengths(workflow: _CheckedWorkflow) -> Iterator[Problem]:
    count = len(workflow.block.stages)
    for key, expected in (("waitLocks", count), ("args", count), ("ioFolders", count + 1)):
        found = len(getattr(workflow.block, key))
        if found != expected:
            one_more = "; the last is the folder of the result" if key == "ioFolders" else ""
            yield Problem(
                path=(*workflow.path, key),
                message=f"{key} has {found} entries, expected {expected} for {count} stages{one_more}",
                advice="leave one out" if found > expected else 'add one ("" where there is nothing to say)',
            )


def _stages(workflow: _CheckedWorkflow, known: Collection[str]) -> Iterator[Problem]:
    for index, stage in enumerate(workflow.block.stages):
        path = (*workflow.path, "stages", index)
        if stage not in known:
            close = get_close_matches(stage, known, n=1)
            advice = f"write {close[0]!r}, or " if close else ""
            yield Problem(
                path=path,
                message=f"no stage {stage!r} is defined under 'stages:'",
                advice=f"{advice}add it with `clara-wf cs {stage}`",
            )
        elif stage in workflow.block.stages[:index]:
            yield Problem(
                path=path,
                message=f"the stage {stage!r} is listed twice",
                advice="a stage runs once in a workflow; define it under a second name to run it again",
            )


def _labels(workflow: _CheckedWorkflow) -> Iterator[Problem]:
    for attribute in ("value", "name"):
        seen = [getattr(label, attribute) for label in workflow.block.labels]
        for index, one in enumerate(seen):
            if one in seen[:index]:
                yield Problem(
                    path=(*workflow.path, "labels", index),
                    message=f"two labels have the {attribute} {one!r}",
                    advice="give each label its own value and name",
                )


def _locks(workflow: _CheckedWorkflow) -> Iterator[Problem]:
    published = workflow.lock_of
    for index, locks in enumerate(workflow.block.waitLocks):
        path = (*workflow.path, "waitLocks", index)
        for lock in locks:
            if lock in ("", INPUT_LOCK) or lock in published:
                continue
            close = get_close_matches(lock, published, n=1)
            advice = f"write {close[0]!r}" if close else f"known are: {', '.join(published)}"
            if not _LOCK.fullmatch(lock):
                message = f"{lock!r} is not of the form <stage>.lock"
            else:
                message = f"{workflow.block.stages[index]} waits for {lock}, which no stage of it publishes"
            yield Problem(path=path, message=message, advice=advice)
    upstream = workflow.upstream()
    circle = [stage for stage in workflow.block.stages if stage in upstream[stage]]
    if circle:
        yield Problem(
            path=(*workflow.path, "waitLocks", workflow.block.stages.index(circle[0])),
            message=f"stages wait for one another: {', '.join(circle)}",
            advice='one of them has to begin: let it wait for "" or for a stage outside the circle',
        )


def _folders(workflow: _CheckedWorkflow, *, waits_are_right: bool) -> Iterator[Problem]:
    written = {f"{stage}/output" for stage in workflow.block.stages}
    upstream = workflow.upstream() if waits_are_right else None
    for index, folders in enumerate(workflow.block.ioFolders):
        path = (*workflow.path, "ioFolders", index)
        if not folders:
            yield Problem(path=path, message="no folder at all", advice=f"write {workflow.input_folder!r}")
        reader = workflow.block.stages[index] if index < len(workflow.block.stages) else None
        for text in folders:
            folder = tidy_folder(text)
            if folder != text:
                yield Problem(
                    path=path,
                    message=f"{text!r} has a blank in it and is read as {folder!r}",
                    advice=f"write {folder!r}",
                    severity="warning",
                )
            problem = _folder_problem(workflow, folder, reader, written, upstream)
            if problem:
                yield Problem(path=path, message=problem[0], advice=problem[1])


def _folder_problem(
    workflow: _CheckedWorkflow,
    folder: str,
    reader: str | None,
    written: Collection[str],
    upstream: Mapping[str, Collection[str]] | None,
) -> tuple[str, str] | None:
    known = [workflow.input_folder, *sorted(written)]
    close = (get_close_matches(folder, known, n=1) or [known[0]])[0]
    if folder.startswith("/") or "\\" in folder or ".." in folder.split("/"):
        return f"{folder!r} leads out of the job's payload", f"write {close!r}"
    if not _FOLDER.fullmatch(folder):
        return f"{folder!r} is not of the form <stage>/input or <stage>/output", f"write {close!r}"
    if folder == workflow.input_folder:
        if reader is None:
            return "the result is a folder that a stage writes", f"write '{workflow.block.stages[-1]}/output'"
        return None
    if folder not in written:
        return f"nobody writes {folder!r}", f"write {close!r}; known are: {', '.join(known)}"
    writer = folder.split("/")[0]
    if reader is not None and upstream is not None and writer not in upstream[reader]:
        return (
            f"{reader} reads {folder!r} but does not wait for {writer}",
            f"add '{writer}.lock' to its waitLocks",
        )
    return None


def _arguments(workflow: _CheckedWorkflow) -> Iterator[Problem]:
    for index, given in enumerate(workflow.block.args):
        if len(given) == 1 and given[0].startswith("-") and " " in given[0].strip():
            parts = ", ".join(f'"{part}"' for part in given[0].split())
            yield Problem(
                path=(*workflow.path, "args", index),
                message=f"{given[0]!r} reaches the stage as one argument",
                advice=f"write [{parts}] for several",
                severity="warning",
            )
