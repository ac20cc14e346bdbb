"""A workflow as it is run: its steps, in an order in which each comes after those it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clara_wf.definitions.blocks import StageBlock, WorkflowBlock
from clara_wf.definitions.lint import check
from clara_wf.definitions.workflow_rules import input_folder_of, tidy_folder
from clara_wf.text.suggestion import did_you_mean
from clara_wf.yaml.document import read_document
from clara_wf.yaml.findings import errors_of
from stages.errors import SettingsError
from stages.lifecycle.settings import INPUT_LOCK
from stages.volume.labels import Label


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
    id
        The ID, a UUID.
    name
        The display name.
    input_folder
        The folder that whoever starts a job fills, inside the job's payload.
    steps
        Its stages, in that order.
    result_folders
        Where the job's result lies, inside its payload.
    labels
        What the labels of masks mean that do not say it themselves.
    """

    id: str
    name: str
    input_folder: str
    steps: tuple[Step, ...]
    result_folders: tuple[str, ...]
    labels: tuple[Label, ...] = ()


def load_workflows(values: Path) -> dict[str, Workflow]:
    """Read every workflow of a values.yaml, by ID.

    Parameters
    ----------
    values
        The file.

    Raises
    ------
    SettingsError
        If the file cannot be read or a definition in it cannot be used, naming where and why.
    """
    definitions = check(read_document(values))
    wrong = errors_of(definitions.findings)
    if wrong:
        raise SettingsError("\n".join(map(str, wrong)))
    return {key: _workflow(key, block, definitions.stages) for key, block in definitions.workflows.items()}


def find_workflow(workflows: Mapping[str, Workflow], wanted: str) -> Workflow:
    """Return the workflow with this ID or name.

    Parameters
    ----------
    workflows, wanted
        The workflows by ID and the ID or the name.

    Raises
    ------
    SettingsError
        If there is none, naming those there are, or several have the name.
    """
    found = [w for w in workflows.values() if w.id == wanted.lower()] or [
        w for w in workflows.values() if w.name == wanted
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise SettingsError(
            f"several workflows are called {wanted!r}; use an ID: {', '.join(w.id for w in found)}"
        )
    known = ", ".join(f"{w.id} ({w.name})" for w in workflows.values()) or "none"
    meant = did_you_mean(wanted, [name for w in workflows.values() for name in (w.name, w.id)])
    raise SettingsError(f"there is no workflow {wanted!r}{meant}; the chart defines: {known}")


def _workflow(key: str, block: WorkflowBlock, blocks: Mapping[str, StageBlock]) -> Workflow:
    steps = [
        Step(
            name=name,
            block=blocks[name],
            wait_locks=tuple(lock or INPUT_LOCK for lock in block.waitLocks[n]) or (INPUT_LOCK,),
            input_folders=tuple(tidy_folder(folder) for folder in block.ioFolders[n]),
            arguments=() if block.args[n] == ("",) else block.args[n],
        )
        for n, name in enumerate(block.stages)
    ]
    return Workflow(
        id=key,
        name=block.name,
        input_folder=input_folder_of(block),
        steps=_in_order(steps),
        result_folders=tuple(tidy_folder(folder) for folder in block.ioFolders[-1]),
        labels=tuple(sorted(block.labels, key=lambda label: label.value)),
    )


def _in_order(steps: list[Step]) -> tuple[Step, ...]:
    """Sort the steps so that each comes after those it waits for."""
    done, ordered, left = {INPUT_LOCK}, [], list(steps)
    while left:
        ready = [step for step in left if done.issuperset(step.wait_locks)]
        assert ready, "a circle has been refused before"
        ordered += ready
        done |= {step.block.lockName for step in ready}
        left = [step for step in left if step not in ready]
    return tuple(ordered)
