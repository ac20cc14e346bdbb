"""The part of JSON Schema that a chart's ``values.schema.json`` is written in: what Helm would refuse.

Helm holds values against that file before it renders anything. Here the same file is read, so that the rules
stand once, and every mistake gets its path and an advice; the rule's ``description`` says what is expected.

References
----------
JSON Schema draft 7, https://json-schema.org/draft-07.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeAlias

from clara_wf.yaml.findings import Path, Problem

Schema: TypeAlias = Mapping[str, Any]

KEYWORDS = {
    *(
        "$schema",
        "title",
        "description",
        "$ref",
        "definitions",
        "type",
        "enum",
        "const",
        "anyOf",
        "allOf",
        "not",
    ),
    *(
        "properties",
        "required",
        "additionalProperties",
        "propertyNames",
        "items",
        "minItems",
        "maxItems",
        "uniqueItems",
    ),
    *("minLength", "maxLength", "pattern", "minimum", "maximum", "exclusiveMinimum"),
}
"""What is understood; a schema that says anything else needs more here."""

_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: _is_number(value),
    "integer": lambda value: _is_number(value) and float(value).is_integer(),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
_EXPECTED = {
    "null": "nothing",
    "boolean": "true or false",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "array": "a list",
    "object": "a block of keys",
}
_ADVICE = {
    "boolean": "write true or false, without quotes",
    "string": "quote it",
    "number": "write a number, without quotes",
    "integer": "write a whole number, without quotes",
    "array": 'write ["first", "second"]',
    "object": "indent the keys below it, or write {} for none",
}


def problems_of(value: Any, schema: Schema, *, path: Path = (), root: Schema | None = None) -> list[Problem]:
    """Return everything in which a value is not what a schema describes.

    Parameters
    ----------
    value
        Text, numbers, truth values, None, lists and dictionaries.
    schema
        With keywords of `KEYWORDS` only.
    path
        Where the value stands in its file.
    root
        The whole schema, for its definitions; None where `schema` is the whole.
    """
    return list(_Check(root if root is not None else schema).problems(value, schema, path))


class _Check:
    """A value that is held against a schema."""

    def __init__(self, root: Schema) -> None:
        self._root = root

    def problems(self, value: Any, schema: Schema, path: Path) -> Iterator[Problem]:
        unknown = schema.keys() - KEYWORDS
        assert not unknown, f"the schema says {unknown}, which is not understood"
        if "$ref" in schema:
            target = self._root["definitions"][schema["$ref"].removeprefix("#/definitions/")]
            yield from self.problems(value, target, path)
            return
        wrong = _mistake(value, schema)
        if wrong is not None:
            yield Problem(path=path, message=wrong[0], advice=wrong[1])
            return
        for part in schema.get("allOf", ()):
            yield from self.problems(value, part, path)
        if self._is_none_of(value, schema, path):
            yield _misfit(value, schema, path)
        if isinstance(value, dict):
            yield from self._of_block(value, schema, path)
        elif isinstance(value, list) and "items" in schema:
            for index, each in enumerate(value):
                yield from self.problems(each, schema["items"], (*path, index))

    def _is_none_of(self, value: Any, schema: Schema, path: Path) -> bool:
        def fits(part: Schema) -> bool:
            return next(self.problems(value, part, path), None) is None

        branches = schema.get("anyOf", ())
        return bool(branches and not any(map(fits, branches))) or ("not" in schema and fits(schema["not"]))

    def _of_block(self, value: Mapping[str, Any], schema: Schema, path: Path) -> Iterator[Problem]:
        known = schema.get("properties", {})
        for key in schema.get("required", ()):
            if key not in value:
                told = f"the key {key!r} is missing"
                yield Problem(path=(*path, key), message=told, advice=f"add a line '{key}:'")
        for key, each in value.items():
            names = schema.get("propertyNames", {})
            yield from self.problems(key, names, (*path, key))
            further = schema.get("additionalProperties", True)
            if key in known:
                yield from self.problems(each, known[key], (*path, key))
            elif further is False:
                yield _unknown(key, list(known), (*path, key))
            elif further is not True:
                yield from self.problems(each, further, (*path, key))


def _mistake(value: Any, schema: Schema) -> tuple[str, str] | None:
    """Return what is wrong with a value by itself, and what to do; None if nothing is."""
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(_TYPES[each](value) for each in types):
        expected = " or ".join(_EXPECTED[each] for each in types)
        return f"expected {expected}, found {shown(value)}", _ADVICE.get(types[0], "")
    if "enum" in schema and value not in schema["enum"]:
        return _not_among(value, schema["enum"])
    if "const" in schema and (value != schema["const"] or isinstance(value, bool)):
        return f"expected {shown(schema['const'])}, found {shown(value)}", ""
    if _is_number(value):
        return _out_of_range(value, schema)
    if isinstance(value, str):
        return _wrong_text(value, schema)
    return _wrong_list(value, schema) if isinstance(value, list) else None


def _out_of_range(value: float, schema: Schema) -> tuple[str, str] | None:
    if "minimum" in schema and not value >= schema["minimum"]:
        return f"expected at least {schema['minimum']}, found {shown(value)}", ""
    if "maximum" in schema and not value <= schema["maximum"]:
        return f"expected at most {schema['maximum']}, found {shown(value)}", ""
    if "exclusiveMinimum" in schema and not value > schema["exclusiveMinimum"]:
        return f"expected more than {schema['exclusiveMinimum']}, found {shown(value)}", ""
    return None


def _wrong_text(value: str, schema: Schema) -> tuple[str, str] | None:
    if len(value) < schema.get("minLength", 0):
        return "it is empty", _described(schema)
    if len(value) > schema.get("maxLength", len(value)):
        return f"it has {len(value)} letters, expected at most {schema['maxLength']}", ""
    if "pattern" in schema and not _compiled(schema["pattern"]).search(value):
        return f"found {shown(value)}", _described(schema)
    return None


def _wrong_list(value: list[Any], schema: Schema) -> tuple[str, str] | None:
    if len(value) < schema.get("minItems", 0):
        return "the list is empty", "write at least one"
    if len(value) > schema.get("maxItems", len(value)):
        return f"the list has {len(value)} entries, expected at most {schema['maxItems']}", ""
    if schema.get("uniqueItems"):
        texts = [json.dumps(each, sort_keys=True) for each in value]
        twice = next((each for each in texts if texts.count(each) > 1), None)
        if twice is not None:
            return f"{twice} stands there twice", "write each once"
    return None


def _misfit(value: Any, schema: Schema, path: Path) -> Problem:
    if isinstance(value, int | float) and {"type": "string"} in schema.get("anyOf", ()):
        return Problem(path=path, message=f"expected text, found {shown(value)}", advice=_ADVICE["string"])
    return Problem(path=path, message=f"found {shown(value)}", advice=_described(schema))


def _unknown(key: str, known: list[str], path: Path) -> Problem:
    close = get_close_matches(key, known, n=1)
    advice = f"write {close[0]!r}" if close else f"known are: {', '.join(known)}"
    return Problem(path=path, message=f"unknown key {key!r}", advice=advice)


def _not_among(value: Any, known: list[Any]) -> tuple[str, str]:
    close = get_close_matches(str(value), list(map(str, known)), n=1)
    told = ", ".join(map(str, known))
    return f"expected one of {told}; found {shown(value)}", f"write {close[0]!r}" if close else ""


def _described(schema: Schema) -> str:
    said = str(schema.get("description", ""))
    return f"expected: {said[:1].lower()}{said[1:].rstrip('.')}" if said else ""


def shown(value: Any) -> str:
    """Return a value as YAML writes it, blocks and lists as such.

    Parameters
    ----------
    value
        What JSON can hold.
    """
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, Mapping):
        return "a block"
    return "nothing" if value is None else json.dumps(value, default=str, ensure_ascii=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern that means what it means in Go: ``$`` is the end, and blanks are those of ASCII."""
    return re.compile(pattern.replace("$", r"\Z"), re.ASCII)
