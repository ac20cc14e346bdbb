"""Lines of a YAML text: where a section ends, and how a key or a block is put into it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml.comments import CommentedMap

from clara_wf.definitions.markers import begin_of, end_of, find_markers
from clara_wf.yaml.document import Document
from stages.errors import SettingsError

STEP = 2  # blanks of one indent in what is written
_PLAIN = re.compile(r"(?!(true|false|null|yes|no|on|off|y|n)$)[a-z][a-z0-9./_-]*")


def section_of(document: Document, section: str) -> Mapping[str, Any]:
    """Return what stands under a key of the file; it may be missing or empty.

    Parameters
    ----------
    document, section
        The file that was read and the section's key.
    """
    content = document.content if document.content is not None else {}
    if not isinstance(content, dict):
        raise SettingsError(f"{document.file} holds no keys; expected 'stages:' and 'workflows:'")
    found = content.get(section) or {}
    if not isinstance(found, dict):
        raise SettingsError(f"{document.file}: '{section}:' holds no keys; expected a block below it")
    if found and isinstance(found, CommentedMap) and found.fa.flow_style():
        raise SettingsError(
            f"{document.file}: '{section}:' is written in braces; write it as a block to have it edited"
        )
    return found


def with_block(document: Document, section: str, block: Sequence[str]) -> str:
    """Return the text with a block added as the last of a section.

    Parameters
    ----------
    document, section, block
        The file that was read, the section's key and its lines.
    """
    there = section_of(document, section)
    lines = document.text.splitlines(keepends=True)
    newline = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    if lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += newline
    indent = STEP
    if there:
        indent = next(iter(there.lc.data.values()))[1] if isinstance(there, CommentedMap) else STEP
        at = _end_of_section(document, section, lines)
        before = [""]
    elif document.content and section in document.content:
        at = int(document.content.lc.key(section)[0]) + 1
        lines[at - 1] = re.sub(r"^(\s*[\w\"']+:)\s*(\{\s*\}|null|~)", r"\1", lines[at - 1])
        before = []
    else:
        at = len(lines)
        before = ["", f"{section}:"] if lines else [f"{section}:"]
    pad = " " * indent
    added = [text if n < len(before) or not text else pad + text for n, text in enumerate([*before, *block])]
    return "".join([*lines[:at], *(text + newline for text in added), *lines[at:]])


def _end_of_section(document: Document, section: str, lines: Sequence[str]) -> int:
    """Return the line behind the last one of a section; comments before the next key are not its own."""
    first = int(document.content.lc.key(section)[0])
    others = [int(place[0]) for place in document.content.lc.data.values()]
    stop = min((line for line in others if line > first), default=len(lines))
    markers = {marker.line for marker in find_markers(document.text)}
    for number in range(stop - 1, first, -1):
        line = lines[number]
        if number in markers or (line.strip() and line[0] in " \t"):
            return number + 1
    raise SettingsError(
        f"{document.file}: '{section}:' has nothing below it, it refers to another place; write it as a "
        "block to have it edited"
    )


def insert_key(
    lines: list[str], stages: CommentedMap, name: str, path: Sequence[str], block: Mapping[str, Any]
) -> None:
    """Insert a key behind the last line of the one that comes before it, or right below its block's name.

    Parameters
    ----------
    lines, stages, name
        The lines, the section of the stages and the stage's name.
    path, block
        The keys from the block's name to the new one and the stage's block.
    """
    parent, wanted, key_line = stages[name], block, stages.lc.key(name)[0]
    for part in path[:-1]:
        key_line, parent, wanted = parent.lc.key(part)[0], parent[part], wanted[part]
    if not isinstance(parent, CommentedMap):
        raise SettingsError(f"stages.{name}.{'.'.join(path[:-1])} holds no keys; write a block below it")
    indent = next(iter(parent.lc.data.values()))[1]
    order = list(wanted)
    earlier = [key for key in order[: order.index(path[-1])] if key in parent]
    at = _last_line(lines, parent.lc.key(earlier[-1])[0], indent) + 1 if earlier else key_line + 1
    newline = "\r\n" if lines[key_line].endswith("\r\n") else "\n"
    if at == len(lines) and not lines[-1].endswith("\n"):
        lines[-1] += newline
    lines[at:at] = [text + newline for text in rendered({path[-1]: wanted[path[-1]]}, indent)]


def insert_markers(lines: list[str], document: Document, name: str) -> None:
    """Put a stage between its two comments.

    Parameters
    ----------
    lines, document, name
        The lines, the file that was read and the stage's name.
    """
    line, column = document.content["stages"].lc.key(name)
    newline = "\r\n" if lines[line].endswith("\r\n") else "\n"
    if not lines[-1].endswith("\n"):
        lines[-1] += newline
    pad = " " * column
    last = _last_line(lines, line, column)
    lines.insert(last + 1, pad + end_of(name) + newline)
    lines.insert(line, pad + begin_of(name) + newline)


def _last_line(lines: Sequence[str], first: int, indent: int) -> int:
    """Return the last line of what a key holds: the lines below it that stand further in."""
    last = first
    for number in range(first + 1, len(lines)):
        text = lines[number].rstrip()
        if not text:
            continue
        if len(text) - len(text.lstrip()) <= indent:
            break
        last = number
    return last


def rendered(block: Mapping[str, Any], indent: int) -> list[str]:
    """Return the lines of a block as the chart writes it: images plain, everything else in quotes.

    Parameters
    ----------
    block, indent
        The stage's block and blanks before each line.
    """
    lines = []
    for key, value in block.items():
        pad = " " * indent
        if isinstance(value, dict):
            lines += [f"{pad}{key}:", *rendered(value, indent + STEP)]
        elif key in ("repository", "tag") and _PLAIN.fullmatch(str(value)):
            lines.append(f"{pad}{key}: {value}")
        else:
            lines.append(f"{pad}{key}: {json.dumps(value, ensure_ascii=False)}")
    return lines


def key_text(key: str) -> str:
    """Return a key as YAML reads it back: names such as ``true`` or ``10`` are quoted.

    Parameters
    ----------
    key
        The key.
    """
    return key if _PLAIN.fullmatch(key) else json.dumps(key)
