"""What the chart is told of one workflow: the blocks of its stages and the workflow itself, as values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from clara_wf.definitions.blocks import StageBlock
from clara_wf.definitions.markers import begin_of, end_of
from clara_wf.definitions.workflow import Step, Workflow
from stages.lifecycle.settings import INPUT_LOCK
from stages.volume.labels_file import stored_labels

_PLAIN = re.compile(r"(?!(?i:true|false|yes|no|on|off|null|y|n)$)[A-Za-z][A-Za-z0-9-]*")


def values_of(workflow: Workflow) -> dict[str, Any]:
    """Return ``workflow``, ``stages`` and ``workflows`` of a values.yaml that defines this workflow alone."""
    steps = workflow.steps
    return {
        "workflow": workflow.id,
        "stages": {step.name: block_values(step.block) for step in steps},
        "workflows": {
            workflow.id: {
                "name": workflow.name,
                "stages": [step.name for step in steps],
                "waitLocks": [_one_or_all(_locks(step)) for step in steps],
                "ioFolders": [
                    *(_one_or_all(step.input_folders) for step in steps),
                    _one_or_all(workflow.result_folders),
                ],
                "args": [list(step.arguments) or "" for step in steps],
                **({"labels": stored_labels(workflow.labels)} if workflow.labels else {}),
            }
        },
    }


def narrowed(content: Mapping[str, Any], workflow: Workflow) -> str:
    """Return the text of a values.yaml with one workflow, its stages, and the settings as they were.

    Parameters
    ----------
    content
        Everything that the whole values.yaml says.
    workflow
        The workflow.
    """
    values = values_of(workflow)
    settings = {key: value for key, value in content.items() if key not in values}
    lines = [f"workflow: {json.dumps(workflow.id)}", *_lines(settings, 0), "", "stages:"]
    for name, block in values["stages"].items():
        lines += [f"  {begin_of(name)}", f"  {name}:", *_lines(block, 4), f"  {end_of(name)}"]
    lines += ["", "workflows:", f"  {workflow.id}:", *_lines(values["workflows"][workflow.id], 4)]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if _PLAIN.fullmatch(key) else json.dumps(key)


def _lines(block: Mapping[str, Any], indent: int) -> list[str]:
    lines = []
    for key, value in block.items():
        if isinstance(value, dict) and value:
            lines += [f"{' ' * indent}{_key(str(key))}:", *_lines(value, indent + 2)]
        else:
            text = json.dumps(value, ensure_ascii=False)
            lines.append(f"{' ' * indent}{_key(str(key))}: {text}")
    return lines


def block_values(block: StageBlock) -> dict[str, Any]:
    """Return a stage's block with the keys it was written with, in the chart's order."""
    given = block.model_dump(by_alias=True, mode="json")
    optional = {key for key in ("command", "gpu", "resources", "env") if not given[key]}
    values = {key: value for key, value in given.items() if key not in optional}
    if block.resident:
        del values["resident"]
    values["timeout"] = f"{block.timeout:g}"
    if "resources" in values:
        values["resources"] = {key: value for key, value in values["resources"].items() if value}
    if not values.get("resources", True):
        del values["resources"]
    return values


def _locks(step: Step) -> list[str]:
    return ["" if lock == INPUT_LOCK else lock for lock in step.wait_locks]


def _one_or_all(entries: Sequence[str]) -> str | list[str]:
    return entries[0] if len(entries) == 1 else list(entries)
