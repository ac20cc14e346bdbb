"""The comments ``##BEGIN_<stage>##`` and ``##END_<stage>##`` between which a stage's block stands."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from clara_wf.yaml.document import Document
from clara_wf.yaml.findings import Finding

_MARKER = re.compile(r"^\s*##(?P<kind>BEGIN|END)_(?P<name>[^#\s]+)##\s*$")


@dataclass(frozen=True, kw_only=True)
class Marker:
    """One of the two comments; `line` is counted from 0.

    Attributes
    ----------
    line
        Number of the line.
    kind
        ``BEGIN`` or ``END``.
    name
        The stage's name.
    """

    line: int
    kind: str
    name: str


def find_markers(text: str) -> list[Marker]:
    """Return the markers of a file in its order.

    Parameters
    ----------
    text
        The text of the file.
    """
    found = []
    for number, line in enumerate(text.splitlines()):
        if match := _MARKER.match(line):
            found.append(Marker(line=number, kind=match["kind"], name=match["name"]))
    return found


def begin_of(name: str) -> str:
    """Return the comment before a stage's block.

    Parameters
    ----------
    name
        The stage's name.
    """
    return f"##BEGIN_{name}##"


def end_of(name: str) -> str:
    """Return the comment after a stage's block.

    Parameters
    ----------
    name
        The stage's name.
    """
    return f"##END_{name}##"


def marker_problems(document: Document, stages: Collection[str]) -> Iterator[Finding]:
    """Return markers without a partner or a stage, and stages that do not stand between theirs.

    Parameters
    ----------
    document, stages
        The file that was read and the names of the stages that are defined.
    """
    markers = find_markers(document.text)
    opened: Marker | None = None
    spans: dict[str, tuple[int, int]] = {}
    for marker in markers:
        if marker.kind == "BEGIN" and opened is None and marker.name not in spans:
            opened = marker
        elif marker.kind == "END" and opened is not None and opened.name == marker.name:
            spans[marker.name] = (opened.line, marker.line)
            opened = None
        else:
            yield _finding(document, marker, f"{marker.kind}_{marker.name} has no partner here")
    if opened is not None:
        yield _finding(document, opened, f"BEGIN_{opened.name} has no END_{opened.name}")
    for name in stages:
        line = document.content["stages"].lc.key(name)[0]
        begin, end = spans.get(name, (-1, -1))
        if name in spans and not begin < line < end:
            yield _finding(
                document,
                Marker(line=begin, kind="BEGIN", name=name),
                f"the block of {name} (line {line + 1}) does not stand between its markers",
            )


def _finding(document: Document, marker: Marker, message: str) -> Finding:
    return Finding(
        file=str(document.file),
        line=marker.line + 1,
        column=1,
        severity="error",
        where="",
        message=message,
        advice=f"a block stands between {begin_of(marker.name)} and {end_of(marker.name)}",
    )
