"""The rules for what a workflow's args say of models, held against the model repository of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path as FilePath

from clara_wf.definitions.blocks import WorkflowBlock
from clara_wf.yaml.findings import Problem


def model_problems(workflows: Mapping[str, WorkflowBlock], models: FilePath) -> Iterator[Problem]:
    """Return what is wrong with the models that workflows name by ``--model``, as far as they lie here.

    Parameters
    ----------
    workflows
        The workflows by ID.
    models
        The model repository; what it does not hold may be on a server elsewhere.
    """
    for key, block in workflows.items():
        for index, arguments in enumerate(block.args):
            name = model_named(arguments)
            if name and (models / name / "config.pbtxt").is_file():
                for message, advice in _problems(models / name, block):
                    yield Problem(
                        path=("workflows", key, "args", index),
                        message=message,
                        advice=advice,
                        severity="warning",
                    )


def model_named(arguments: Sequence[str]) -> str | None:
    """Return the model that a stage's arguments name by ``--model``; the last one counts.

    Parameters
    ----------
    arguments
        The stage's arguments.
    """
    named = [value for option, value in pairwise(arguments) if option == "--model"]
    joined = [each.removeprefix("--model=") for each in arguments if each.startswith("--model=")]
    found = named or joined
    return found[-1] if found else None


def _problems(folder: FilePath, block: WorkflowBlock) -> Iterator[tuple[str, str]]:
    from clara_wf.models.config_pbtxt import nameless_in, problem_of
    from stages.errors import InputError
    from stages.volume.labels import nameless_text, where_to_say

    try:
        if problem := problem_of(folder):
            yield problem, f"complete {folder / 'config.pbtxt'}"
            return
    except InputError as error:
        yield str(error), "mend the file"
        return
    stated = any("--labels" in (part.partition("=")[0] for part in given) for given in block.args)
    nameless = sorted(set(nameless_in(folder)) - {label.value for label in block.labels})
    if nameless and not stated:
        yield (
            f"model {folder.name!r}: {nameless_text(nameless)}, and dicom-writer will refuse it",
            where_to_say(folder.name),
        )
