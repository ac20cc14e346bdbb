"""What can go wrong in a stage, and the exit code each kind of failure ends with.

::

    StageError                 1   anything else
    ├── SettingsError          2   usage, arguments, environment          (ValueError)
    ├── InputError             3   the input data cannot be used          (ValueError)
    │   └── GeometryError      3   the slices form no regular volume
    ├── StageTimeoutError      4   no sign of life upstream, or too long  (TimeoutError)
    ├── UpstreamError          5   a stage we wait for has failed
    ├── InferenceError         6   the inference server or its model
    ├── OutputError            7   the result could not be written        (OSError)
    └── TerminatedError        1   SIGTERM or SIGINT

A message says what was found, where, what was expected, and what to do. It never holds a
patient's name, birth date or ID, nor anything that a terminal would obey rather than show.
"""

from pathlib import Path

_RAW_BYTES = range(0xDC80, 0xDD00)  # what Python makes of bytes of a file's name that are not UTF-8


def printable(text: str | Path) -> str:
    r"""Return foreign text as one line that does nothing but show it.

    Parameters
    ----------
    text
        Such as the name of a file, whole or only its last part.

    Returns
    -------
    str
        The same text with escapes, as Python writes them, in place of what a terminal, a log or a page
        would obey rather than show: control characters, line breaks, marks that turn the direction of
        writing; and ``\xff`` for a byte that is not UTF-8.
    """
    text = str(text)
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if code in _RAW_BYTES else character.encode("unicode_escape").decode()


class StageError(Exception):
    """A failure with a message for the user and an exit code for the workflow."""

    exit_code: int = 1
    retryable: bool = False

    def __str__(self) -> str:
        return "\n".join(map(printable, super().__str__().split("\n")))


class SettingsError(StageError, ValueError):
    """The stage was started with settings or arguments that cannot be used."""

    exit_code = 2


class InputError(StageError, ValueError):
    """The input data are missing, damaged or of the wrong kind."""

    exit_code = 3


class GeometryError(InputError):
    """The slices do not form one regular volume."""


class StageTimeoutError(StageError, TimeoutError):
    """Nothing upstream showed a sign of life, or the work took longer than allowed."""

    exit_code = 4
    retryable = True


class UpstreamError(StageError):
    """A stage that this one waits for has failed.

    Attributes
    ----------
    root
        The stage that began it, and its message.
    """

    exit_code = 5
    root: tuple[str, str] | None = None


class InferenceError(StageError):
    """The inference server did not answer, or its model cannot be used as described."""

    exit_code = 6
    retryable = True


class OutputError(StageError, OSError):
    """The result could not be written, or what was read back differs from what was meant."""

    exit_code = 7


class TerminatedError(StageError):
    """The stage was asked to stop (SIGTERM or SIGINT)."""

    retryable = True
