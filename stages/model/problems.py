"""What is wrong with a model's parameters, in words for who writes a ``config.pbtxt``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from stages.model.parameter_texts import shortened
from stages.runtime.validation import Mistake, mistakes, place_text

ORIENTATION, SHA256 = "^[LRPASI]{3}$", "^([0-9a-fA-F]{64})?$"
_FORMS: Mapping[str, str] = {
    ORIENTATION: 'three letters of L R P A S I, such as "SPL"',
    SHA256: "64 hexadecimal digits",
}


def problems_by_name(details: Sequence[Any]) -> dict[str, list[str]]:
    """Return what is wrong, by parameter; what concerns several of them has no name.

    Parameters
    ----------
    details
        The errors of pydantic.
    """
    by_name: dict[str, list[Mistake]] = {}
    for mistake in mistakes(details, forms=_FORMS):
        by_name.setdefault(str(mistake.place[0]) if mistake.place else "", []).append(mistake)
    return {name: list(_problems(found)) for name, found in by_name.items()}


def _problems(found: Sequence[Mistake]) -> Iterator[str]:
    """Yield what is wrong with one parameter; where a word or something else may stand, of what was meant."""
    if not any(map(_is_word, found)):
        yield from map(_problem, found)
        return
    inside: dict[tuple[str | int, ...], list[Mistake]] = {}
    for one in found:
        place = _without_alternatives(one.place)
        if len(place) > 1:
            inside.setdefault(place, []).append(replace(one, place=place))
    if inside:
        yield from (_of_alternatives(ones) for ones in inside.values())
    else:
        yield _of_alternatives([replace(one, place=one.place[:1]) for one in found])


def _is_word(mistake: Mistake) -> bool:
    return len(mistake.place) > 1 and str(mistake.place[1]).startswith("literal[")


def _without_alternatives(place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return a place without what pydantic calls the types that may stand there, such as ``literal['a']``."""
    name, _, *rest = place
    return name, *(part for part in rest if not str(part).startswith(("literal[", "constrained-")))


def _of_alternatives(mistakes: Sequence[Mistake]) -> str:
    """Return what is wrong with one value, by what each of its possible types says of it."""
    found = mistakes[0].found
    words = [one for one in mistakes if one.type == "literal_error"]
    others = [one for one in mistakes if one.type != "literal_error"]
    numbers = isinstance(found, int | float) and not isinstance(found, bool) and len(mistakes[0].place) > 1
    if others and (numbers or isinstance(found, list | dict)):
        return _problem(others[0])
    allowed = " or ".join(sorted({one.expected for one in (*words, *others)}))
    return f"parameter {place_text(mistakes[0].place)}: expected {allowed}, found {_found(mistakes[0])}"


def _problem(mistake: Mistake) -> str:
    name = place_text(mistake.place)
    if mistake.kind == "own":
        return f"parameter {name}: {mistake.message}" if name else mistake.message
    if mistake.kind == "missing":
        return f"parameter {name} is missing"
    if mistake.kind == "unknown":
        return f"parameter {name} is unknown; take it out"
    as_key = " as key" if mistake.is_key else ""
    return f"parameter {name}: expected {mistake.expected}{as_key}, found {_found(mistake)}"


def _found(mistake: Mistake) -> str:
    return shortened(mistake.found_as_json)
