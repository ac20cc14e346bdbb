"""What pydantic finds wrong with a value, in words for whoever wrote it.

pydantic describes a mistake by its own words, as a dictionary; here it becomes a `Mistake`, of which the
callers (a model's parameters, labels, rules of the reader, values.yaml) make sentences of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["own", "missing", "unknown", "wrong"]

_KINDS: Mapping[str, Kind] = {
    "value_error": "own",
    "missing": "missing",
    "missing_argument": "missing",
    "extra_forbidden": "unknown",
    "unexpected_keyword_argument": "unknown",
}
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
"""What a value should have been, by pydantic's name of the mistake."""
_KEY = "[key]"  # what pydantic puts behind a key that is wrong itself


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One thing that is wrong.

    Attributes
    ----------
    kind
        ``own``: one of our validators said so; ``missing``, ``unknown``: a key is; ``wrong``: any other.
    type
        pydantic's name of the mistake, such as ``int_type``.
    place
        Keys and indices from the whole down to the value.
    is_key
        Whether it is the key at that place that is wrong, not its value.
    message
        The sentence of our validator, or pydantic's.
    found
        What was there.
    expected
        What should have been there, such as ``a whole number``.
    context
        What pydantic adds, such as the pattern of a text.
    """

    kind: Kind
    type: str
    place: tuple[str | int, ...]
    is_key: bool
    message: str
    found: Any
    expected: str
    context: Mapping[str, Any] = field(default_factory=dict)

    @property
    def found_as_json(self) -> str:
        """What was there, as JSON."""
        return json.dumps(self.found, ensure_ascii=False, default=str)


def mistakes(details: Iterable[Any], *, forms: Mapping[str, str] | None = None) -> list[Mistake]:
    """Return what is wrong.

    Parameters
    ----------
    details
        What `pydantic.ValidationError.errors` returns.
    forms
        What a text should be, by the pattern that it has to match.
    """
    return [_mistake(detail, forms or {}) for detail in details]


def place_text(place: Iterable[str | int], *, first_index: int = 0) -> str:
    """Return a place as text, such as ``spacing_mm[2].name``.

    Parameters
    ----------
    place
        Keys and indices.
    first_index
        What the first of a list is counted as.
    """
    parts = (f"[{part + first_index}]" if isinstance(part, int) else f".{part}" for part in place)
    return "".join(parts).removeprefix(".")


def _mistake(detail: Any, forms: Mapping[str, str]) -> Mistake:
    context = detail.get("ctx", {})
    kind = _KINDS.get(detail["type"], "wrong")
    message = str(context["error"]) if kind == "own" else str(detail["msg"])
    return Mistake(
        kind=kind,
        type=detail["type"],
        place=tuple(part for part in detail["loc"] if part != _KEY),
        is_key=detail["loc"][-1:] == (_KEY,),
        message=message,
        found=detail["input"],
        expected=_expected(detail, context, forms),
        context=context,
    )


def _expected(detail: Any, context: Mapping[str, Any], forms: Mapping[str, str]) -> str:
    words = _EXPECTED.get(detail["type"])
    if words is not None:
        return words.format(**context)
    return forms.get(context.get("pattern", ""), str(detail["msg"]).removeprefix("Input should be "))
