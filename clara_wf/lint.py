"""Every rule for values.yaml, applied to a whole file at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import BaseModel

from clara_wf.blocks import StageBlock, WorkflowBlock
from clara_wf.document import Document, UnreadableError, read_document
from clara_wf.findings import Finding, Problem
from clara_wf.markers import marker_problems
from clara_wf.model_rules import model_problems
from clara_wf.shape import shaped
from clara_wf.stage_rules import stage_problems
from clara_wf.workflow_rules import shared_names, workflow_problems

_Block = TypeVar("_Block", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Definitions:
    """What a values.yaml defines, and what is wrong with it.

    Attributes
    ----------
    stages, workflows
        The blocks with the right keys and types, by name and by ID.
    findings
        In the order of the file.
    """

    stages: Mapping[str, StageBlock]
    workflows: Mapping[str, WorkflowBlock]
    findings: tuple[Finding, ...]


def lint(values: FilePath, *, models: FilePath | None = None) -> list[Finding]:
    """Return everything that is wrong with a values.yaml, in the order of the file.

    Parameters
    ----------
    models
        The model repository, for warnings about the models that workflows name; None for none of these.

    Raises
    ------
    SettingsError
        If the file cannot be read at all.
    """
    try:
        document = read_document(values)
        found = check(document)
        of_models = model_problems(found.workflows, models) if models else ()
        return sorted([*found.findings, *map(document.finding, of_models)])
    except UnreadableError as error:
        return [error.finding]


def check(document: Document) -> Definitions:
    """Return what a file defines, and what is wrong with it."""
    problems: list[Problem] = []
    content = document.content
    if not isinstance(content, dict):
        problems.append(Problem(path=(), message="expected a block of keys", advice="see docs/reference"))
        content = {}
    stages = _blocks(StageBlock, content, "stages", problems)
    workflows = _blocks(WorkflowBlock, content, "workflows", problems)
    for name, stage in stages.items():
        problems += stage_problems(name, stage)
    known = [str(name) for name in _mapping(content, "stages")]
    for key, workflow in workflows.items():
        problems += workflow_problems(key, workflow, known)
    problems += shared_names(workflows)
    findings = [document.finding(problem) for problem in problems]
    findings += marker_problems(document, known)
    return Definitions(stages=stages, workflows=workflows, findings=tuple(sorted(findings)))


def _blocks(
    kind: type[_Block], content: Mapping[str, Any], section: str, problems: list[Problem]
) -> dict[str, _Block]:
    if section not in content:
        problems.append(
            Problem(path=(), message=f"the key {section!r} is missing", advice=f"add a line '{section}:'")
        )
    elif not isinstance(content[section] or {}, dict):
        problems.append(
            Problem(path=(section,), message="expected a block of keys", advice="indent the keys below it")
        )
    blocks: dict[str, _Block] = {}
    for key, raw in _mapping(content, section).items():
        block, wrong = shaped(kind, raw, (section, key))
        problems += wrong
        if block is not None:
            blocks[str(key)] = block
    return blocks


def _mapping(content: Mapping[str, Any], section: str) -> Mapping[Any, Any]:
    found = content.get(section)
    return found if isinstance(found, dict) else {}
