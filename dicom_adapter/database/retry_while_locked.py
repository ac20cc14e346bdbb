"""A database that is written however long it is locked or the disk is full."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.worker import heartbeat

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_WAIT_S = 1.0
_LOG_EVERY_S = 60.0


def retry_while_locked(action: Callable[[], _T], *, until: Callable[[], bool] = lambda: False) -> _T:
    """Do something with the database, again and again while it is locked or the disk is full.

    Why it waits is logged once a minute, and `Store.trouble` says it.

    Parameters
    ----------
    action
        What to do.
    until
        Returns whether to give up; then, and when the adapter ends (`Store.begin_shutdown`), the error is
        raised. What was not written is done again after a restart.
    """
    next_log = Deadline(0)
    while True:
        try:
            done = action()
        except sqlite3.OperationalError as error:
            if until() or getattr(error, "is_final", False):
                raise
            if next_log.is_over():
                logger.warning("%s; trying again", error)
                next_log = Deadline(_LOG_EVERY_S)
            heartbeat(f"the database cannot be written: {error}")
        else:
            heartbeat()
            return done
        time.sleep(_WAIT_S)
