"""Regular expressions of a configuration: compiled, and their time bounded, when it is read.

Python's `re` tries one way to match after the other, and holds all threads meanwhile: ``(a+)+$`` takes years
on a text of 64 letters. The ways are counted here from the expression alone, as a polynomial in the length of
what was matched, so that the count holds for every text of the length that is matched; an expression that
could need more steps than fit into a second or so is refused. That needs no other engine, and nobody learns
of it from a worker that hangs.

References
----------
DICOM PS3.5 6.2: LO, as Series Description (0008,103E) is, has 64 characters at most.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, TypeAlias

LONGEST_TEXT = 64
_LONGEST_PATTERN = 1000
_MOST_STEPS = 80_000_000
_parser: Any = importlib.import_module("re._parser")

_Counts: TypeAlias = list[int]  # by how many characters are matched, up to LONGEST_TEXT
_NOTHING: _Counts = [1] + [0] * LONGEST_TEXT
_ONE_CHARACTER: _Counts = [0, 1] + [0] * (LONGEST_TEXT - 1)
_NOTHING_OR_ONE: _Counts = _NOTHING[:1] + _ONE_CHARACTER[1:]
_ANY_NUMBER: _Counts = [1] * (LONGEST_TEXT + 1)


def checked_pattern(text: str) -> str:
    """Return a regular expression.

    Parameters
    ----------
    text
        The text.

    Raises
    ------
    ValueError
        If it is none, or could take too long on a text of `LONGEST_TEXT` characters.
    """
    if len(text) > _LONGEST_PATTERN:
        raise ValueError(
            f"a regular expression of {len(text)} characters; {_LONGEST_PATTERN} are the most that is taken"
        )
    try:
        re.compile(text)
        steps = _steps(text)
    except (re.error, RecursionError, OverflowError) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{text!r} is no regular expression: {reason}; a character that has a meaning is written with a "
            f"backslash before it, such as \\("
        ) from error
    if steps > _MOST_STEPS:
        raise ValueError(
            f"the regular expression {text!r} could take too long (more than {_MOST_STEPS} steps on "
            f"{LONGEST_TEXT} characters); repeat nothing that holds a repetition or a choice itself, and use "
            f"fewer of .* and the like"
        )
    return text


@lru_cache(maxsize=4096)
def matches(pattern: str, text: str) -> bool:
    """Return whether a text holds a regular expression (`checked_pattern`) in its first 64 characters.

    Parameters
    ----------
    pattern, text
        The regular expression and the text.
    """
    return not pattern or re.search(pattern, text[:LONGEST_TEXT]) is not None


def _steps(pattern: str) -> int:
    """Return how many steps a search takes at most, wherever it begins."""
    parsed = _parser.parse(pattern)
    _, steps = _sequence(parsed)
    if [str(part) for part in parsed[:1] for part in part] in _BEGINNINGS and not parsed.state.flags & re.M:
        return sum(steps)  # it ends at once wherever it begins but there
    return sum(_times(_ANY_NUMBER, steps))


def _sequence(parts: Iterable[tuple[Any, Any]]) -> tuple[_Counts, _Counts]:
    """Return the ways to match parts one after the other, and the steps of trying all of them."""
    ways, steps = _NOTHING, [0] * (LONGEST_TEXT + 1)
    for operation, operand in parts:
        own_ways, own_steps = _KINDS.get(str(operation), _character)(operand)
        steps = _plus(steps, _times(ways, own_steps))
        ways = _times(ways, own_ways)
    return ways, steps


def _character(operand: Any) -> tuple[_Counts, _Counts]:
    return _ONE_CHARACTER, _NOTHING


def _position(operand: Any) -> tuple[_Counts, _Counts]:
    return _NOTHING, _NOTHING


def _group_again(operand: Any) -> tuple[_Counts, _Counts]:
    return _NOTHING_OR_ONE, [LONGEST_TEXT, *_NOTHING[1:]]


def _branch(operand: Any) -> tuple[_Counts, _Counts]:
    return _any_of(operand[1])


def _condition(operand: Any) -> tuple[_Counts, _Counts]:
    return _any_of(each for each in operand[1:] if each)


def _any_of(alternatives: Iterable[Any]) -> tuple[_Counts, _Counts]:
    ways, steps = [0] * (LONGEST_TEXT + 1), _NOTHING
    for each in alternatives:
        own_ways, own_steps = _sequence(each)
        ways, steps = _plus(ways, own_ways), _plus(steps, own_steps)
    return ways, steps


def _group(operand: Any) -> tuple[_Counts, _Counts]:
    return _sequence(operand[-1])


def _look(operand: Any) -> tuple[_Counts, _Counts]:
    """Return what looking around counts as: it is left with one way, and nothing is matched by it."""
    return _NOTHING, [sum(_sequence(operand[1])[1]) + 1, *_NOTHING[1:]]


def _atomic(operand: Any) -> tuple[_Counts, _Counts]:
    ways, steps = _sequence(operand)
    return [min(each, 1) for each in ways], steps


def _possessive(operand: Any) -> tuple[_Counts, _Counts]:
    ways, steps = _repetition(operand)
    return [min(each, 1) for each in ways], steps


def _repetition(operand: Any) -> tuple[_Counts, _Counts]:
    least, most, body = operand
    body_ways, body_steps = _sequence(body)
    ways, steps = [0] * (LONGEST_TEXT + 1), [0] * (LONGEST_TEXT + 1)
    so_far, most = _NOTHING, min(int(most), int(least) + LONGEST_TEXT)
    for count in range(most + 1):
        steps = _plus(steps, so_far)
        if count >= least:
            ways = _plus(ways, so_far)
        if count > least:
            body_ways = [0, *body_ways[1:]]  # what matches nothing once more than it must ends it
        if count == most or not any(so_far) or max(so_far) > _MOST_STEPS:
            break
        steps = _plus(steps, _times(so_far, body_steps))
        so_far = _times(so_far, body_ways)
    return ways, steps


def _plus(one: _Counts, other: _Counts) -> _Counts:
    return [a + b for a, b in zip(one, other, strict=True)]


def _times(one: _Counts, other: _Counts) -> _Counts:
    found = [0] * (LONGEST_TEXT + 1)
    for at, ways in enumerate(one):
        if ways:
            for after in range(LONGEST_TEXT + 1 - at):
                found[at + after] += ways * other[after]
    return [min(each, 10**12) for each in found]


_BEGINNINGS = [["AT", "AT_BEGINNING"], ["AT", "AT_BEGINNING_STRING"]]
_KINDS: dict[str, Callable[[Any], tuple[_Counts, _Counts]]] = {
    "AT": _position,
    "BRANCH": _branch,
    "SUBPATTERN": _group,
    "ASSERT": _look,
    "ASSERT_NOT": _look,
    "ATOMIC_GROUP": _atomic,
    "GROUPREF": _group_again,
    "GROUPREF_EXISTS": _condition,
    "MAX_REPEAT": _repetition,
    "MIN_REPEAT": _repetition,
    "POSSESSIVE_REPEAT": _possessive,
}
