"""A YAML file with the place of everything in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from clara_wf.findings import Finding, Path, Problem, in_words
from stages.errors import SettingsError

_NOTE = re.compile(r"\s*(To suppress this check|Duplicate keys will become|in \").*", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Document:
    """A file that was read.

    Attributes
    ----------
    file
        Where it lies.
    text
        As it stands, line ends and all.
    content
        What it says; dictionaries and lists know their lines.
    """

    file: FilePath
    text: str
    content: Any

    def finding(self, problem: Problem) -> Finding:
        """Return a problem with its line and column."""
        line, column = self._place(problem.path)
        return Finding(
            file=self.file.name,
            line=line + 1,
            column=column + 1,
            severity=problem.severity,
            where=in_words(problem.path),
            message=problem.message,
            advice=problem.advice,
        )

    def _place(self, path: Path) -> tuple[int, int]:
        """Return line and column, from 0, of the deepest part of a path that there is."""
        node, place = self.content, (0, 0)
        for part in path:
            if isinstance(node, CommentedMap) and part in node:
                place = node.lc.key(part)
            elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
                place = node.lc.item(part)
            else:
                break
            node = node[part]
        return place


class UnreadableError(SettingsError):
    """The file is not YAML, or says one thing twice.

    Attributes
    ----------
    finding
        What is wrong, and where.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


def read_document(file: FilePath) -> Document:
    """Read a YAML file.

    Raises
    ------
    UnreadableError
        If it is not YAML, or a key stands in it twice.
    SettingsError
        If it cannot be read at all.
    """
    try:
        text = file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {file}: {error}") from error
    return parsed(file, text)


def parsed(file: FilePath, text: str) -> Document:
    """Return a text as the content of a file.

    Raises
    ------
    UnreadableError
        If it is not YAML, or a key stands in it twice.
    """
    try:
        return Document(file=file, text=text, content=YAML(typ="rt").load(text))
    except YAMLError as error:
        raise UnreadableError(_what_is_wrong(file, error)) from error


def _what_is_wrong(file: FilePath, error: YAMLError) -> Finding:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    message = " ".join(str(getattr(error, "problem", None) or error).split())
    advice = "this is not YAML; look at the quotes, brackets and indents here and just above"
    if isinstance(error, DuplicateKeyError):
        message = _NOTE.sub("", message.split(" with value")[0])
        advice = "a key stands once; give the second one another name or ID, or remove it"
    elif isinstance(error, MarkedYAMLError) and error.context:
        message = f"{error.context}: {message}"
    return Finding(
        file=file.name,
        line=mark.line + 1 if mark else 1,
        column=mark.column + 1 if mark else 1,
        severity="error",
        where="",
        message=message,
        advice=advice,
    )
