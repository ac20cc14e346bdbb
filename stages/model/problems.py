"""What is wrong with a model's parameters, in words for who writes a ``config.pbtxt``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stages.model.parameter_texts import shortened

_EXPECTED: Mapping[str, str] = {
    "bool_type": "true or false",
    "dataclass_type": "an object in braces",
    "dict_type": "an object in braces",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number from {ge:g} up",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number up to {le:g}",
    "list_type": "a list in brackets",
    "literal_error": "{expected}",
    "model_type": "an object in braces",
    "string_too_long": "a text of {max_length} characters at most",
    "string_too_short": "a text of {min_length} or more characters",
    "string_type": "a text in quotes",
    "too_long": "{max_length} entries at most",
    "too_short": "{min_length} or more entries",
    "tuple_type": "a list in brackets",
}
"""What a value should have been, by the validator's name of the mistake."""

ORIENTATION, SHA256 = "^[LRPASI]{3}$", "^([0-9a-fA-F]{64})?$"
_FORMS: Mapping[str, str] = {
    ORIENTATION: 'three letters of L R P A S I, such as "SPL"',
    SHA256: "64 hexadecimal digits",
}
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def problems_by_name(details: Sequence[Any]) -> dict[str, list[str]]:
    """Return what is wrong, by parameter; what concerns several of them has no name.

    Parameters
    ----------
    details
        The errors of pydantic.
    """
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(_parameter(detail) for detail in details):
        found[name] = list(_problems([detail for detail in details if _parameter(detail) == name]))
    return found


def _parameter(detail: Any) -> str:
    return str(detail["loc"][0]) if detail["loc"] else ""


def _problems(details: Sequence[Any]) -> Iterator[str]:
    """Yield what is wrong with one parameter; where a word or something else may stand, of what was meant."""
    if not any(_is_word(detail) for detail in details):
        yield from (_problem(detail, detail["loc"]) for detail in details)
        return
    places = [(detail["loc"][0], *detail["loc"][2:]) for detail in details]  # without the alternative's name
    inside = [pair for pair in zip(details, places, strict=True) if len(pair[1]) > 1]
    if inside:
        yield from (_problem(*pair) for pair in inside)
    else:
        is_word_or_number = not isinstance(details[0]["input"], list | dict)
        meant = [detail for detail in details if is_word_or_number or not _is_word(detail)]
        allowed = " or ".join(sorted({_expected(detail) for detail in meant}))
        yield f"parameter {places[0][0]}: expected {allowed}, found {_found(details[0])}"


def _is_word(detail: Any) -> bool:
    return len(detail["loc"]) > 1 and str(detail["loc"][1]).startswith("literal[")


def _name(places: Sequence[str | int]) -> str:
    """Return the place of a value, such as ``spacing_mm[2]`` or ``inside.2``; a key has that of its value."""
    first, *rest = places
    parts = [f"[{place}]" if isinstance(place, int) else f".{place}" for place in rest if place != "[key]"]
    return "".join([str(first), *parts])


def _problem(detail: Any, places: Sequence[str | int]) -> str:
    kind = detail["type"]
    if kind == "value_error":  # a sentence of our own
        said = str(detail["ctx"]["error"])
        return f"parameter {_name(places)}: {said}" if places else said
    if kind in ("missing", "missing_argument"):
        return f"parameter {_name(places)} is missing"
    if kind in _UNKNOWN:
        return f"parameter {_name(places)} is unknown; take it out"
    as_key = " as key" if places[-1] == "[key]" else ""
    return f"parameter {_name(places)}: expected {_expected(detail)}{as_key}, found {_found(detail)}"


def _found(detail: Any) -> str:
    return shortened(json.dumps(detail["input"], ensure_ascii=False, default=str))


def _expected(detail: Any) -> str:
    words, more = _EXPECTED.get(detail["type"]), detail.get("ctx", {})
    if words is not None:
        return words.format(**more)
    return _FORMS.get(more.get("pattern"), str(detail["msg"]).removeprefix("Input should be "))
