"""A YAML file with the place of everything in it."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node, ScalarNode

from clara_wf.yaml.findings import Finding, Path, Problem, in_words
from clara_wf.yaml.nodes import LARGEST_FILE, BoundedComposer, BoundsError, as_helm_reads
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
    node
        The same before it was made of the text: with quotes, without meaning.
    """

    file: FilePath
    text: str
    content: Any
    node: Node | None

    def as_helm_reads(self) -> Any:
        """Return what Helm takes the file to say, see `clara_wf.yaml.nodes`."""
        return as_helm_reads(self.node)

    def finding(self, problem: Problem) -> Finding:
        """Return a problem with its line and column."""
        line, column = self._place(problem.path)
        return Finding(
            file=str(self.file),
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
        if not file.is_file():
            what = "it is no regular file" if file.exists() else "it is not there"
            raise SettingsError(f"cannot read {file}: {what}")
        with file.open("rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from error
    if len(content) > LARGEST_FILE:
        raise SettingsError(
            f"{file} has more than {LARGEST_FILE >> 10} KiB, as no file of definitions has; is it the one?"
        )
    text = _decoded(file, content)
    if "\ufeff" in text[1:]:
        raise UnreadableError(_second_mark(file, text))
    return parsed(file, text)


def _second_mark(file: FilePath, text: str) -> Finding:
    before = text[: text.index("\ufeff", 1)]
    return Finding(
        file=str(file),
        line=before.count("\n") + 1,
        column=len(before) - before.rfind("\n"),
        severity="error",
        where="",
        message="a byte order mark (BOM, U+FEFF, not to be seen) stands inside the file",
        advice="delete it; each of two files that were joined may have had one",
    )


def _decoded(file: FilePath, content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SettingsError(
            f"{file} is UTF-16, as its byte order mark (BOM) says; save it as UTF-8, with or without a BOM"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(
            f"{file}:{line}: the byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error


def parsed(file: FilePath, text: str) -> Document:
    """Return a text as the content of a file.

    Parameters
    ----------
    file, text
        The file and the text.

    Raises
    ------
    UnreadableError
        If it is not YAML, or a key stands in it twice.
    """
    yaml = YAML(typ="rt")
    yaml.Composer = BoundedComposer
    constructor = None
    try:
        constructor, parser = yaml.get_constructor_parser(text)
        try:
            node = constructor.composer.get_single_node()
            content = None if node is None else constructor.construct_document(node)
        finally:
            parser.dispose()
        return Document(file=file, text=text, content=content, node=node)
    except YAMLError as error:
        raise UnreadableError(_what_is_wrong(file, error)) from error
    except (ValueError, OverflowError, RecursionError) as error:  # such as the date 2020-13-45
        raise UnreadableError(_no_value(file, constructor, error)) from error


def _no_value(file: FilePath, constructor: Any, error: Exception) -> Finding:
    """Return where a value stands that is written as a number or a date and is none."""
    at_work = getattr(constructor, "recursive_objects", {})  # what it had begun and not ended
    failed = next((each for each in at_work if isinstance(each, ScalarNode)), None)
    line, column = (failed.start_mark.line + 1, failed.start_mark.column + 1) if failed else (1, 1)
    return Finding(
        file=str(file),
        line=line,
        column=column,
        severity="error",
        where="",
        message=f"a value that cannot be read: {str(error)[:100]}",
        advice='write text in quotes, such as "2020-13-45"',
    )


def _what_is_wrong(file: FilePath, error: YAMLError) -> Finding:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    message = " ".join(str(getattr(error, "problem", None) or error).split())
    advice = "this is not YAML; look at the quotes, brackets and indents here and just above"
    if isinstance(error, DuplicateKeyError):
        message = _NOTE.sub("", message.split(" with value")[0])
        advice = "a key stands once; give the second one another name or ID, or remove it"
    elif isinstance(error, BoundsError):
        advice = "definitions are smaller; write them out, or look whether it is the right file"
    elif isinstance(error, MarkedYAMLError) and error.context:
        message = f"{error.context}: {message}"
    return Finding(
        file=str(file),
        line=mark.line + 1 if mark else 1,
        column=mark.column + 1 if mark else 1,
        severity="error",
        where="",
        message=message,
        advice=advice,
    )
