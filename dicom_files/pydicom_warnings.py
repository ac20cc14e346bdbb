"""Warnings of pydicom on odd files: one line of the log a kind, with its count and no value."""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

logger = logging.getLogger(__name__)

_VALUES = re.compile(
    r"""(?P<tag>\([0-9A-Fa-f]{4}, ?[0-9A-Fa-f]{4}\))  # is kept
    | (?P<quoted>(?P<quote>['"]).*(?P=quote))         # up to the last quote: there may be some in a value
    | (?P<number>0x[0-9A-Fa-f]+|[0-9][0-9.]*)
    | (?P<rest>:\ .*|/.*)                             # a value, or the name of a file
    """,
    re.VERBOSE | re.DOTALL,
)


@contextmanager
def warnings_by_kind() -> Iterator[None]:
    """Count warnings of pydicom while a block runs, in all threads, and log them by kind afterwards.

    A block within another leaves that to the outer one.
    """
    if _Warnings.active is not None:
        yield
        return
    found = _Warnings.active = _Warnings()
    pydicom = logging.getLogger("pydicom")
    pydicom.addFilter(found.take_record)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            found.show = warnings.showwarning
            warnings.showwarning = found.take_warning
            yield
    finally:
        pydicom.removeFilter(found.take_record)
        _Warnings.active = None
        for kind, count in sorted(found.kinds.items()):
            logger.warning("pydicom warned %s: %s", "once" if count == 1 else f"{count} times", kind)


def kind_of(text: str) -> str:
    """Return what a warning says without values: quoted texts, numbers, names of files.

    Parameters
    ----------
    text
        The message of a warning.
    """
    return " ".join(_VALUES.sub(_without_value, text).split())[:200]


def _without_value(match: re.Match[str]) -> str:
    if tag := match["tag"]:
        return str(tag)
    return "" if match["rest"] else "N" if match["number"] else "'...'"


class _Warnings:
    """The warnings of one block: pydicom logs each of them, and warns of it as well."""

    active: _Warnings | None = None

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.show: Any = None
        self._logged = ""

    def take_record(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        self._logged = record.getMessage()
        self.kinds[kind_of(self._logged)] += 1
        return False

    def take_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if str(message) == self._logged:
            return
        if "/pydicom/" in filename:
            self.kinds[kind_of(str(message))] += 1
        else:
            self.show(message, category, filename, lineno, file, line)
