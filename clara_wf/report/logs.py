"""What the logs of a job hold for its report page: warnings, the end of a log, the model's name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from stages.runtime.job_files import JobFileError, read_end

_READ_BYTES = 1 << 20
_LINE = 600  # characters of a line that are shown
_UID = re.compile(r"(?<![\d.])\d+(?:\.\d+){2,}(?!\.?\d)")
_LEVEL = re.compile(r"^\S+ (WARNING|ERROR|CRITICAL) (\S+): (.*)$")
_MODEL = re.compile(r" INFO \S+: model (\S+) version (\S+) at \S+ is ready$")


@dataclass(frozen=True)
class Warned:
    """A line that a stage logged at WARNING or above.

    Attributes
    ----------
    stage
        The stage's name.
    level
        Such as ``WARNING``.
    message
        What was said.
    """

    stage: str
    level: str
    message: str


@dataclass(frozen=True)
class Model:
    """A model that a stage asked.

    Attributes
    ----------
    stage
        The stage's name.
    name
        The model's name.
    version
        The version that answered.
    """

    stage: str
    name: str
    version: str


def end_of(log: Path) -> list[str]:
    """Return the lines of the last MiB of a log; none if it cannot be read.

    Parameters
    ----------
    log
        The log file.
    """
    try:
        content = read_end(log, _READ_BYTES + 1)
    except JobFileError as error:
        return [str(error)]
    lines = content.decode("utf-8", errors="backslashreplace").splitlines()
    return [line[:_LINE] for line in (lines[1:] if len(content) > _READ_BYTES else lines)]


def warnings_in(lines: list[str], *, stage: str) -> list[Warned]:
    """Return what was logged at WARNING or above, each message once.

    Parameters
    ----------
    lines, stage
        The lines of its log and the stage's name.
    """
    found = (_LEVEL.match(line) for line in lines)
    return list(dict.fromkeys(Warned(stage, m[1], m[3]) for m in found if m))


def model_in(lines: list[str], *, stage: str) -> Model | None:
    """Return the model that a stage found ready, if its log names one.

    Parameters
    ----------
    lines, stage
        The lines of its log and the stage's name.
    """
    found = [m for line in lines if (m := _MODEL.search(line))]
    return Model(stage, found[-1][1], found[-1][2]) if found else None


def without_uids(text: str) -> str:
    """Shorten every DICOM UID of a text, so that a page that is passed on points at no study.

    Parameters
    ----------
    text
        The text.
    """
    return _UID.sub(lambda uid: shortened(uid[0]), text)


def shortened(uid: str) -> str:
    """Return the beginning and the end of a long UID.

    Parameters
    ----------
    uid
        The UID.
    """
    return uid if len(uid) <= 16 else f"{uid[:7]}…{uid[-5:]}"
