"""How long to wait before something is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Waits that double from one try to the next, each moved at random so that not all come at once.

    Attributes
    ----------
    first_s, longest_s
        The first wait and the longest, seconds.
    jitter
        Part of a wait that chance may take away or add, 0 to 1.
    """

    first_s: float = 5.0
    longest_s: float = 600.0
    jitter: float = 0.25

    def wait_s(self, tries: int, *, chance: float | None = None) -> float:
        """Return the wait after so many tries, seconds.

        Parameters
        ----------
        tries
            How often it was tried, from 1.
        chance
            From 0 to 1; None for a random one.
        """
        usual = min(self.longest_s, self.first_s * 2.0 ** min(max(tries, 1) - 1, 32))
        drawn = random.random() if chance is None else chance  # noqa: S311 - spreads load, hides nothing
        return usual * (1 + self.jitter * (2 * drawn - 1))
