"""What is wrong with a model's parameters, in words for who writes a ``config.pbtxt``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def problems(details: Sequence[Any]) -> Iterator[str]:
    """Say what is wrong; where a word or something else may stand, only of what was meant."""
    of_words = {detail["loc"][0]: detail["input"] for detail in details if _is_word(detail)}
    for detail in details:
        places = list(detail["loc"])
        if places and places[0] in of_words:
            if _is_word(detail) != isinstance(of_words[places[0]], str):
                continue
            del places[1]  # pydantic's name of the alternative
        yield _problem(detail, ".".join(map(str, places)))


def _is_word(detail: Any) -> bool:
    return len(detail["loc"]) > 1 and str(detail["loc"][1]).startswith("literal[")


def _problem(detail: Any, name: str) -> str:
    if detail["type"] == "missing":
        return f"parameter {name} is missing"
    found = f", found {detail['input']!r}" if name else ""
    return f"{f'parameter {name}: ' if name else ''}{detail['msg']}{found}"
