"""The scalars of YAML files that people write, as types for pydantic: each mistake says what was expected."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from clara_wf.yaml.json_schema import shown

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
"""A DNS label (RFC 1123): what Kubernetes takes as the name of a container."""

VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"

_QUANTITY = re.compile(r"\d+(\.\d+)?([eE][+-]?\d+|m|k|[KMGTPE]i?)?")
_FACTORS = {"": 1.0, "m": 1e-3, "k": 1e3} | {
    letter + binary: (1024.0 if binary else 1000.0) ** power
    for power, letter in enumerate("KMGTPE", start=1)
    for binary in ("", "i")
}


def quantity(text: str) -> float:
    """Return what a Kubernetes quantity such as ``512Mi`` or ``500m`` amounts to.

    Parameters
    ----------
    text
        The text.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not _QUANTITY.fullmatch(text):
        raise ValueError(f"expected a quantity such as 512Mi, 2 or 500m, found {text!r}")
    number = re.match(r"\d+(\.\d+)?([eE][+-]?\d+)?", text)
    assert number is not None
    return float(number.group()) * _FACTORS[text[number.end() :]]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, found {shown(value)}; quote it")
    return str(value)


def _texts(value: object) -> tuple[str, ...]:
    """Accept one text or a list of texts."""
    entries = value if isinstance(value, list | tuple) else [value]
    return tuple(_text(entry) for entry in entries)


def _seconds(value: object) -> float:
    try:
        seconds = float(value) if isinstance(value, str | int | float) else 0.0
    except ValueError:
        seconds = 0.0
    if isinstance(value, bool) or not 0 < seconds < float("inf"):
        raise ValueError(f"expected a positive number of seconds, found {shown(value)}")
    return seconds


def _quantity_text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected a quantity such as 512Mi, 2 or 500m, found {shown(value)}")
    quantity(str(value))
    return str(value)


def _variable(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(VARIABLE, value):
        raise ValueError(f"{shown(value)} is no name of an environment variable; use letters, digits and _")
    return value


Text = Annotated[str, BeforeValidator(_text), Field(min_length=1)]
AnyText = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Command = Annotated[tuple[Text, ...], BeforeValidator(_texts)]
Variable = Annotated[str, BeforeValidator(_variable)]
Seconds = Annotated[float, BeforeValidator(_seconds)]
Quantity = Annotated[str, BeforeValidator(_quantity_text)]


class StrictBlock(BaseModel):
    """A block whose keys are all known."""

    model_config = ConfigDict(frozen=True, extra="forbid")
