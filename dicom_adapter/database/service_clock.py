"""Seconds of service: the clock by which ages and waits are counted, which nobody can set."""

from __future__ import annotations

import time


class ServiceClock:
    """How long the adapter has been in service, all its runs together.

    The database keeps the count from one run to the next. The time while the adapter was off, or the machine
    slept, is not counted: nothing is given up or removed for its age in a time in which nobody tried.

    Parameters
    ----------
    seconds
        The count so far.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._offset = seconds - time.monotonic()

    def __call__(self) -> float:
        """Return the seconds of service until now."""
        return time.monotonic() + self._offset
