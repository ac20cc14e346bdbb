"""What counts as damage of a file: what parsers raise, what is too much, and how it is told."""

from __future__ import annotations

import struct
import zlib

from stages.errors import InputError

PARSE_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


class ExcessError(InputError):
    """A header has more in it than any image's: it is damaged, or made to take time and memory."""

    @classmethod
    def twice(cls, tag: int) -> ExcessError:
        """Return the error of an attribute that stands there twice and differs: nobody knows which holds.

        Parameters
        ----------
        tag
            Group and element as one number.
        """
        return cls(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) twice, and they differ")


def parse_errors() -> tuple[type[Exception], ...]:
    """Return all that pydicom raises on a damaged file; imports pydicom."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (InvalidDicomError, BytesLengthException, *PARSE_ERRORS)


def too_large(name: str, error: ExcessError) -> InputError:
    """Return the error that names a file, and the bound that its header breaks.

    Parameters
    ----------
    name
        Of the file, fit for a log.
    error
        What its header has too much of.
    """
    return InputError(
        f"{name} is refused: its header has {error}; it is damaged, or made to do harm: leave it out"
    )


def unreadable(name: str, error: OSError) -> InputError:
    """Return the error that tells why a file cannot be read; of a damaged one pydicom raises such too.

    Parameters
    ----------
    name
        Of the file, fit for a log.
    error
        What reading it raised.
    """
    if error.strerror:
        return InputError(f"cannot read {name}: {error.strerror}")
    return InputError(f"{name} is damaged: it ends, or a sequence of it, where an element was expected")
