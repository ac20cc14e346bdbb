"""How long to wait before something is tried again.

Forty lines of our own rather than tenacity or stamina: a stage's start would pay for their import, and the
waits here end by rules that those do not have: when a server is known to be back, when the process is asked
to stop, at a time in the database.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
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


def attempts(
    backoff: Backoff,
    patience_s: float,
    *,
    since: float | None = None,
    tries: int = 0,
    on_wait: Callable[[float], object] = lambda wait_s: None,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[float]:
    """Yield for each attempt how much time is left, seconds, after a wait; without end, at last 0.

    Parameters
    ----------
    backoff
        The waits; none goes past the end of the patience.
    patience_s
        How long to try, seconds.
    since
        When the first attempt failed, by `time.monotonic`; None for one that is still to come.
    tries
        How many attempts there were already; the first of all is made at once.
    on_wait
        Called before each wait with its length, seconds.
    sleep
        Waits so many seconds.
    """
    deadline = (time.monotonic() if since is None else since) + patience_s
    for made in itertools.count(tries):
        if made > 0:
            wait_s = min(backoff.wait_s(made), max(0.0, deadline - time.monotonic()))
            on_wait(wait_s)
            sleep(wait_s)
        yield max(0.0, deadline - time.monotonic())
