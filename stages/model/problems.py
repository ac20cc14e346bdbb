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
    of_name = [replace(one, place=(one.place[0], *one.place[2:])) for one in found]  # not of an alternative
    inside = [one for one in of_name if len(one.place) > 1]
    if inside:
        yield from map(_problem, inside)
    else:
        is_word_or_number = not isinstance(found[0].found, list | dict)
        meant = [one for one in found if is_word_or_number or not _is_word(one)]
        allowed = " or ".join(sorted({one.expected for one in meant}))
        yield f"parameter {found[0].place[0]}: expected {allowed}, found {_found(found[0])}"


def _is_word(mistake: Mistake) -> bool:
    return len(mistake.place) > 1 and str(mistake.place[1]).startswith("literal[")


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
