"""The parameters of a ``config.pbtxt``: which are the stage's, and their texts as JSON values."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from difflib import SequenceMatcher
from typing import Any

from stages.model.backend_parameters import BACKEND_PARAMETERS

OWN_PREFIX = "x_"
"""What the name of a parameter begins with that is nobody's but the author's."""

_NUMBER, _LABEL = re.compile(r"[\s+_.\d]*\d[\s_.\d]*"), re.compile(r"0|[1-9][0-9]*")
_ALIKE = 0.6
_SHORTEST_PART = 4
_LONGEST_TEXT = 60


def read_parameters(
    parameters: Mapping[str, str], known: Collection[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of the stage's parameters, and what is wrong with others, both by name.

    Parameters
    ----------
    parameters
        Names and texts, as a server tells them.
    known
        Names of the stage's parameters. A name that is neither of them nor one of a backend is wrong unless
        it begins with `OWN_PREFIX`: left out in silence, a misspelt one would change the result.
    """
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, text in parameters.items():
        if name in known:
            try:
                values[name] = _read(text)
            except _KeyFormError as error:
                problems[name] = f"parameter {name}: {error}"
            except ValueError as error:
                problems[name] = (
                    f"parameter {name}: '{shortened(text)}' is not JSON ({error}); write a JSON text such as "
                    rf'string_value: "[1, 2]" or string_value: "\"word\""'
                )
        elif name not in BACKEND_PARAMETERS and not name.startswith(OWN_PREFIX):
            shown = shortened(name)
            problems[name] = f"there is no parameter {shown}; {_advice(shown, known)}"
    return values, problems


def shortened(text: str) -> str:
    """Return a text as it may be shown: its middle left out where it is long, control characters escaped.

    Parameters
    ----------
    text
        Foreign text.
    """
    half = _LONGEST_TEXT // 2
    short = text if len(text) <= _LONGEST_TEXT else f"{text[:half]}...{text[-half:]}"
    return short if short.isprintable() else ascii(short)[1:-1]


def _read(text: str) -> Any:
    if not text.strip():
        raise ValueError("it is empty")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        rest = text[error.pos :].strip()
        raise ValueError(f"from '{shortened(rest)}' on" if rest else "it ends too early") from error
    except UnicodeEncodeError as error:
        raise ValueError("half a character, a lone surrogate") from error
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return value


class _KeyFormError(ValueError):
    """A key that would be read as a label, and perhaps as the same one as another."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'"{shortened(twice)}" stands there twice')
    for name, _ in pairs:
        if _NUMBER.fullmatch(name) and not _LABEL.fullmatch(name):
            raise _KeyFormError(f'the key "{shortened(name)}" is no label; write it as "5", digits alone')
    return found


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is no finite number")


def _advice(name: str, known: Collection[str]) -> str:
    best = max((*known, *BACKEND_PARAMETERS), key=lambda each: (_likeness(name, each), each))
    if _likeness(name, best) >= _ALIKE:
        return f"write {best}, or {OWN_PREFIX}{name} for a note of your own"
    return f"take it out, or write {OWN_PREFIX}{name} for a note of your own"


def _likeness(name: str, other: str) -> float:
    """Return how alike two names are, from 0 to 1; one that is part of the other is at least `_ALIKE`."""
    a, b = name.lower().replace("-", "_"), other.lower()
    ratio = SequenceMatcher(None, a, b, autojunk=False).ratio()
    is_part = min(len(a), len(b)) >= _SHORTEST_PART and (a in b or b in a)
    return max(ratio, _ALIKE + ratio / 10) if is_part else ratio
