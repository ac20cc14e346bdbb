"""Text that others wrote (logs, messages, names of files) where people and programs read it."""

from __future__ import annotations

from typing import Any

from stages.runtime.logs import printable


def printable_lines(text: str) -> str:
    r"""Return text as it is shown: line breaks and tabs stay, whatever else a terminal obeys is escaped.

    Parameters
    ----------
    text
        Such as the end of a log. One line that must stay one, such as the name of a file, is for
        `stages.runtime.logs.printable`.

    Returns
    -------
    str
        The same text; ``\r\n`` is a line break too.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in lines)


def encodable(value: Any) -> Any:
    """Return what goes into a JSON object as UTF-8 can carry it.

    Parameters
    ----------
    value
        Dictionaries, lists and scalars. A string that is no Unicode, such as the name of a file whose
        bytes are not UTF-8, comes back with escapes: half a surrogate pair would stop a strict reader.
    """
    if isinstance(value, dict):
        return {key: encodable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [encodable(part) for part in value]
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        return printable(value)
    return value
