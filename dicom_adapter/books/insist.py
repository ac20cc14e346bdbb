"""Time that never goes back, and books that are written however long they are locked."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from itertools import count
from typing import TypeVar

from dicom_adapter.supervisor import sign_of_life

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_WAIT_S = 1.0


class SteadyClock:
    """Seconds of the epoch as they were at the start, and the time since; nobody sets it back."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Return the time, seconds of the epoch."""
        return time.monotonic() + self._offset


def insist(action: Callable[[], _T], *, until: Callable[[], bool] = lambda: False) -> _T:
    """Do something with the books, again and again while they are locked or the disk is full.

    Parameters
    ----------
    until
        Tells when to give up; then the error is raised. What was not written is done again after a restart.
    """
    for tries in count(1):
        try:
            done = action()
        except sqlite3.OperationalError as error:
            if until():
                raise
            if tries & (tries - 1) == 0:  # less and less often
                logger.warning("the books cannot be written (%s), %d times now; trying again", error, tries)
            sign_of_life(f"the database cannot be written: {error}")
        else:
            sign_of_life()
            return done
        time.sleep(_WAIT_S)
    raise AssertionError("it never ends otherwise")
