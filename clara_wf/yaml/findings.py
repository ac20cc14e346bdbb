"""What a check of a file found: where, what, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
Severity: TypeAlias = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is wrong with a definition, at a path inside its file.

    Attributes
    ----------
    path
        Keys and indices from the top of the file, such as ``("workflows", ID, "waitLocks", 1)``.
    message
        What was found and what was expected.
    advice
        What to write instead.
    severity
        Whether it is an error or a warning.
    """

    path: Path
    message: str
    advice: str
    severity: Severity = "error"


@dataclass(frozen=True, kw_only=True, order=True)
class Finding:
    """A problem with its place in the text.

    Attributes
    ----------
    file
        The file's name.
    line, column
        Counted from 1.
    severity
        Whether it is an error or a warning.
    where
        The path in words: ``workflows.<id>.waitLocks[1]``.
    message
        What is wrong, a sentence.
    advice
        What to do about it.
    """

    file: str
    line: int
    column: int
    severity: Severity
    where: str
    message: str
    advice: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: {self.severity}:"
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{place} {text}; {self.advice}" if self.advice else f"{place} {text}"


def in_words(path: Path) -> str:
    """Return ``workflows.<id>.waitLocks[1]`` for a path."""
    words = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return words.removeprefix(".")


def errors_of(findings: Iterable[Finding]) -> Sequence[Finding]:
    """Return the findings with which a file cannot be used.

    Parameters
    ----------
    findings
        What was found in a file.
    """
    return [finding for finding in findings if finding.severity == "error"]
