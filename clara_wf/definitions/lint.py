"""Every rule for values.yaml, applied to a whole file at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import BaseModel

from clara_wf.definitions.blocks import StageBlock, WorkflowBlock
from clara_wf.definitions.markers import marker_problems
from clara_wf.definitions.model_rules import model_problems
from clara_wf.definitions.resource_rules import settings_problems
from clara_wf.definitions.stage_rules import stage_problems
from clara_wf.definitions.workflow_rules import shared_names, workflow_problems
from clara_wf.text.suggestion import did_you_mean
from clara_wf.workspace import own_workspace
from clara_wf.yaml.document import Document, UnreadableError, read_document
from clara_wf.yaml.findings import Finding, Path, Problem
from clara_wf.yaml.json_schema import problems_of
from clara_wf.yaml.shape import shaped

_Block = TypeVar("_Block", bound=BaseModel)
_SCHEMA = own_workspace().chart / "values.schema.json"


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
    values
        The file.
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
        problems.append(
            Problem(path=(), message="expected a block of keys", advice="see docs/reference/chart.md")
        )
        content = {}
    stages = _blocks(StageBlock, content, "stages", problems)
    workflows = _blocks(WorkflowBlock, content, "workflows", problems)
    for name, stage in stages.items():
        problems += stage_problems(name, stage)
    known = [str(name) for name in _mapping(content, "stages")]
    for key, workflow in workflows.items():
        problems += workflow_problems(key, workflow, known)
    problems += shared_names(workflows)
    problems += _chosen_workflow(content, workflows)
    problems += settings_problems(content)
    problems += _refused_by_helm(document, [problem.path for problem in problems])
    findings = [document.finding(problem) for problem in problems]
    findings += marker_problems(document, known)
    return Definitions(stages=stages, workflows=workflows, findings=tuple(sorted(findings)))


def _chosen_workflow(content: Mapping[str, Any], workflows: Mapping[str, WorkflowBlock]) -> Iterator[Problem]:
    """Return that the workflow which the settings name is none."""
    wanted = content.get("workflow")
    known = [*workflows, *(workflow.name for workflow in workflows.values())]
    if isinstance(wanted, str) and wanted and wanted not in known:
        yield Problem(
            path=("workflow",),
            message=f"there is no workflow {wanted!r}{did_you_mean(wanted, known)}",
            advice='write its ID or name, or "" for none',
        )


def _refused_by_helm(document: Document, known: Sequence[Path]) -> list[Problem]:
    """Return what Helm would refuse by the chart's schema, but for what is known to be wrong already."""
    if not isinstance(document.content, dict):
        return []
    if not _SCHEMA.is_file():
        told = f"the settings were not checked, since {_SCHEMA} is not there"
        return [Problem(path=(), message=told, advice="", severity="warning")]
    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    wrong = [tuple(map(str, path)) for path in known if path]
    return [
        problem
        for problem in problems_of(document.as_helm_reads(), schema)
        if not any(_lie_in_one_another(tuple(map(str, problem.path)), path) for path in wrong)
    ]


def _lie_in_one_another(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return all(a == b for a, b in zip(one, other, strict=False))


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
