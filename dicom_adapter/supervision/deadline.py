"""A total time for something that comes in pieces."""

from __future__ import annotations

import time


class Deadline:
    """A time that is over once, however often something has come in the meantime.

    Parameters
    ----------
    seconds
        From now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def extend(self, seconds: float) -> None:
        """Add time, seconds.

        Parameters
        ----------
        seconds
            How much.
        """
        self.seconds += seconds
        self._end += seconds

    def restart(self) -> None:
        """Begin anew, with all of its time."""
        self._end = time.monotonic() + self.seconds

    def left_s(self) -> float:
        """Return how much is left, seconds, from 0."""
        return max(0.0, self._end - time.monotonic())

    def is_over(self) -> bool:
        """Return whether nothing is left."""
        return time.monotonic() >= self._end

    def require(self) -> float:
        """Return how much is left, seconds.

        Raises
        ------
        TimeoutError
            If nothing is.
        """
        left_s = self.left_s()
        if not left_s:
            raise TimeoutError(f"it took longer than {self.seconds:g} s")
        return left_s
