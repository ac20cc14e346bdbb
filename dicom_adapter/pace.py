"""pynetdicom polls its queues every millisecond; while instances come, ten times as often.

Its two threads of an association each sleep 1 ms between looks, several times an instance, which is most of
the time that receiving one takes. A thread that has just had something to do sleeps for 0.1 ms instead; one
that is idle sleeps as it did, so that open associations cost nothing more.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pynetdicom.association
import pynetdicom.dul

_BUSY_FOR_S = 0.05
_NAP_S = 0.0001
_thread = threading.local()


def busy(event: Any = None) -> None:
    """Note that this thread has something to do; also a handler of pynetdicom's events."""
    _thread.last = time.monotonic()


class _Clock:
    """The module `time` but for its sleep."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """Sleep, for a shorter time where there was something to do."""
        idle = time.monotonic() - getattr(_thread, "last", 0.0) > _BUSY_FOR_S
        time.sleep(seconds if idle else min(seconds, _NAP_S))


def quicken() -> None:
    """Let pynetdicom's threads sleep by this clock."""
    for module in (pynetdicom.association, pynetdicom.dul):
        module.time = _Clock()
