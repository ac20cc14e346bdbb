"""Time that never goes back, and books that are written however long they are locked."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

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
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if until():
                raise
            logger.warning("the books cannot be written (%s); trying again", error)
        time.sleep(_WAIT_S)
