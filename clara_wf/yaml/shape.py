"""Whether a block has the keys and types it must have, told in the words of values.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from clara_wf.yaml.findings import Path, Problem
from stages.runtime.validation import Mistake, mistakes
from stages.volume.labels_file import problem_of

_Block = TypeVar("_Block", bound=BaseModel)


def shaped(kind: type[_Block], content: object, path: Path) -> tuple[_Block | None, list[Problem]]:
    """Return the block, or what is wrong with its keys and types.

    Parameters
    ----------
    kind, content
        The model of the block and what the file has there.
    path
        Where the block stands in the file.
    """
    try:
        return kind.model_validate(content), []
    except ValidationError as error:
        return None, list(_problems(kind, error.errors(), path))


def keys_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the keys of a block in the chart's order, with the field behind each.

    Parameters
    ----------
    model
        The model of the block.
    """
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _problems(kind: type[BaseModel], details: Iterable[Any], path: Path) -> Iterator[Problem]:
    for mistake in mistakes(details):
        message, advice = _in_our_words(kind, mistake)
        yield Problem(path=(*path, *mistake.place), message=message, advice=advice)


def _in_our_words(kind: type[BaseModel], mistake: Mistake) -> tuple[str, str]:
    what, inside = mistake.type, mistake.place
    key = str(inside[-1]) if inside else ""
    if inside[:1] == ("labels",) and len(inside) > 1:
        return problem_of(mistake), "docs/reference/labels.md shows a label with all its keys"
    if mistake.kind == "missing":
        return f"the key {key!r} is missing", "`clara-wf cs` writes all keys of a stage" * (
            "image" in keys_of(kind)
        )
    if mistake.kind == "unknown":
        known = list(keys_of(_model_at(kind, inside[:-1])))
        close = get_close_matches(key, known, n=1)
        return f"unknown key {key!r}", f"write {close[0]!r}" if close else f"known are: {', '.join(known)}"
    if what in ("model_type", "dict_type", "mapping_type"):
        return "expected a block of keys", "indent the keys below it"
    if what in ("tuple_type", "list_type"):
        return "expected a list", 'write ["first", "second"]'
    if what in ("bool_type", "bool_parsing"):
        return "expected true or false", "write true or false, without quotes"
    if what in ("string_too_short", "too_short"):
        return "it is empty", "write at least one"
    found, _, advice = mistake.message.partition("; ")
    return found, advice


def _model_at(kind: type[BaseModel], path: Path) -> type[BaseModel]:
    """Return the model of the block at a path."""
    for part in path:
        if isinstance(part, str):
            annotation = keys_of(kind)[part].annotation
            inner = (each for each in (annotation, *get_args(annotation)) if isinstance(each, type))
            kind = next((each for each in inner if issubclass(each, BaseModel)), kind)
    return kind
