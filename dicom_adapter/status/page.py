"""The status page: studies, jobs and deliveries at a glance, told by hashes; it changes nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from jinja2 import Environment, FileSystemLoader, StrictUndefined

CellKind: TypeAlias = Literal["state", "link", "code", "text", "number", "time", "message"]

_FILES = Path(__file__).parent / "page_files"
REFRESH_S = 15
_STATES = {
    "good": ("done", "delivered", "unchanged", "committed", "ok"),
    "bad": ("dead", "failed", "refused", "down"),
    "calm": ("receiving", "complete", "removed", "queued", "running", "superseded", "cancelled"),
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of a table.

    Attributes
    ----------
    text
        What it says.
    kind
        What the cell shows.
    href
        Where a link leads, relative to the page; "" for none.
    """

    text: str
    kind: CellKind = "text"
    href: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the page.

    Attributes
    ----------
    key
        Its name in the page's HTML.
    title
        What stands above it.
    headings
        What stands above the columns.
    rows
        The cells of each row.
    more
        How many rows there are that are not shown.
    """

    key: str
    title: str
    headings: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    more: int = 0


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that the page shows.

    Attributes
    ----------
    ae_title
        The adapter's.
    time
        When it was made.
    facts
        Names and figures at the top.
    problems
        What somebody should look at, one line each.
    tables
        Its tables.
    """

    ae_title: str
    time: str
    facts: Sequence[tuple[str, str]]
    problems: Sequence[str]
    tables: Sequence[Table]


def render(page: Page) -> str:
    """Return the page as HTML; nothing that it shows can run."""
    template = _environment().get_template("template.html")
    states = {state: colour for colour, states in _STATES.items() for state in states}
    return template.render(page=page, style=_style(), states=states, refresh_s=REFRESH_S)


def policy() -> str:
    """Return the Content-Security-Policy that the page is sent with: its own style, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; " + (
        "frame-ancestors 'none'"
    )


@cache
def _style() -> str:
    return (_FILES / "style.css").read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(_FILES), autoescape=True, undefined=StrictUndefined)
