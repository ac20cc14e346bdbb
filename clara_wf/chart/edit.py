"""values.yaml as a text that people edit: stages and workflows are added, nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from clara_wf.chart.text import STEP, insert_key, insert_markers, key_text, rendered, section_of, with_block
from clara_wf.definitions.blocks import name_fault
from clara_wf.definitions.lint import check
from clara_wf.definitions.markers import begin_of, end_of, find_markers, marker_problems
from clara_wf.yaml.document import Document, parsed
from stages.errors import OutputError, SettingsError
from stages.runtime import atomic


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A values.yaml after a change.

    Attributes
    ----------
    text
        The whole file.
    changes
        What was done, a line each; empty if all was there already.
    """

    text: str
    changes: tuple[str, ...]


def stage_block(
    name: str, *, repository: str = "", tag: str = "latest", command: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the block of a stage with the usual folders, in the chart's order of keys.

    Parameters
    ----------
    name, repository, tag
        The stage's name, the repository of its image and the tag of its image.
    command
        The program and its arguments, where it runs as a process; may be empty.
    """
    block: dict[str, Any] = {
        "image": {"repository": repository or name, "tag": tag},
        "mount": {"in": {"name": "input"}, "out": {"name": "output"}},
        "stageName": name,
        "appDir": "/app",
        "inputLock": "/app/locks/input.lock",
        "inputs": "input",
        "logName": f"/app/logs/{name}.log",
        "outputs": "output",
        "lockDir": "/app/locks",
        "lockName": f"{name}.lock",
        "timeout": "300",
        "publishPath": "/publish",
    }
    return block | ({"command": list(command)} if command else {})


def add_stage(document: Document, name: str, block: Mapping[str, Any]) -> Edit:
    """Add a stage, or complete the one there is: keys it lacks and its markers.

    What people wrote stays as it is: values, comments, order, blank lines and line ends.

    Parameters
    ----------
    document, name, block
        The file that was read, the stage's name and the stage's block.

    Raises
    ------
    SettingsError
        If the name is no DNS label or is taken, or the file does not let itself be completed; it says why.
    """
    if fault := name_fault(name):
        raise SettingsError(f"{name!r} cannot be a stage: it {fault[0]}; {fault[1]}")
    broken = list(marker_problems(document, []))
    if broken:
        raise SettingsError("\n".join(map(str, broken)))
    there = section_of(document, "stages")
    if name in there:
        return _complete_stage(document, name, block)
    lines = [begin_of(name), f"{key_text(name)}:", *rendered(block, STEP), end_of(name)]
    return Edit(text=with_block(document, "stages", lines), changes=(f"added the stage {name}",))


def add_workflow(document: Document, key: str, name: str, stages: Sequence[str]) -> Edit:
    """Add a workflow in which each stage waits for the one before and reads what it wrote.

    Parameters
    ----------
    document, key, name
        The file that was read, its ID and its display name.
    stages
        The names of its stages, in order.

    Raises
    ------
    SettingsError
        If a stage is not defined, stands twice, or the ID or the name is taken.
    """
    known = check(document)
    taken = {workflow.name: other for other, workflow in known.workflows.items()}
    if name in taken or key in known.workflows:
        raise SettingsError(
            f"there is a workflow {name!r} already: {taken.get(name, key)}; choose another name"
        )
    undefined = [stage for stage in stages if stage not in known.stages]
    if undefined:
        raise SettingsError(
            f"no stage {', '.join(undefined)} is defined under 'stages:'; add it with `clara-wf cs`, "
            f"or choose from {', '.join(known.stages)}"
        )
    if not stages or len(set(stages)) != len(stages):
        raise SettingsError(f"a workflow has at least one stage and each once, found {list(stages)}")
    entries = {
        "stages": list(stages),
        "waitLocks": ["", *(f"{stage}.lock" for stage in stages[:-1])],
        "ioFolders": [f"{stages[0]}/input", *(f"{stage}/output" for stage in stages)],
        "args": [""] * len(stages),
    }
    lines = [f"{key}:", f"{' ' * STEP}name: {json.dumps(name, ensure_ascii=False)}"]
    lines += [f"{' ' * STEP}{entry}: {json.dumps(value)}" for entry, value in entries.items()]
    return Edit(text=with_block(document, "workflows", lines), changes=(f"added the workflow {name} {key}",))


def save(document: Document, edit: Edit) -> None:
    """Put the new text in the place of the old one, whole or not at all.

    Raises
    ------
    SettingsError
        If somebody else has changed the file meanwhile.
    OutputError
        If it cannot be written.
    """
    file = document.file.resolve()
    if file.read_bytes().decode("utf-8") != document.text:
        raise SettingsError(f"{file} was changed by somebody else meanwhile; try again")
    try:
        with atomic.writing(file, mode=0o600) as new:
            new.write(edit.text.encode("utf-8"))
            shutil.copystat(file, new.name)
            _keep_owner(file, new.name)
    except OSError as error:
        raise OutputError(f"cannot write {file}: {error.strerror}") from error


def _keep_owner(file: Path, temporary: str) -> None:
    owner = file.stat()
    if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()) and os.geteuid() == 0:
        os.chown(temporary, owner.st_uid, owner.st_gid)


def _complete_stage(document: Document, name: str, block: Mapping[str, Any]) -> Edit:
    stage = document.content["stages"][name]
    missing = _missing_keys(stage, block)
    if missing and (not isinstance(stage, CommentedMap) or stage.fa.flow_style()):
        line = document.content["stages"].lc.key(name)[0] + 1
        raise SettingsError(
            f"{document.file}:{line}: the stage {name} lacks {', '.join('.'.join(m) for m in missing)} and "
            f"is not written as a block; write one key a line to have it completed, or remove it"
        )
    changes = []
    for path in missing:  # each in a text of its own, since every line added moves those below
        lines = document.text.splitlines(keepends=True)
        insert_key(lines, document.content["stages"], name, path, block)
        document = parsed(document.file, "".join(lines))
        changes.append(f"added {'.'.join(path)} to the stage {name}")
    lines = document.text.splitlines(keepends=True)
    if not any(marker.name == name for marker in find_markers(document.text)):
        insert_markers(lines, document, name)
        changes.append(f"put the stage {name} between its markers")
    return Edit(text="".join(lines), changes=tuple(changes))


def _missing_keys(stage: Any, block: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(stage, dict):
        return [above] if above else [(key,) for key in block]
    missing: list[tuple[str, ...]] = []
    for key, value in block.items():
        if key not in stage:
            missing.append((*above, key))
        elif isinstance(value, dict):
            missing += _missing_keys(stage[key], value, (*above, key))
    return missing
