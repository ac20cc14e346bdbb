"""The cores that a stage may use, and work that is shared out among them."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_parts(work: Callable[[int, int], object], length: int, *, parts_a_core: int = 4) -> None:
    """Call ``work(start, stop)`` for parts of ``range(length)``, one on each core at a time.

    Parameters
    ----------
    work
        Must give up Python's lock for its time, or nothing is won.
    length
        How many pieces of work there are.
    parts_a_core
        More than one, so that a core whose parts were easy helps the others.
    """
    count = min(length, cores() * parts_a_core)
    bounds = [length * n // count for n in range(count + 1)] if count else [0]
    if cores() < 2 or count < 2:
        for start, stop in pairwise(bounds):
            work(start, stop)
        return
    list(_workers(cores()).map(work, bounds, bounds[1:]))


@cache
def _workers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "part")


def _end_workers() -> None:
    """End the threads before a fork, which they would not survive; whoever needs them starts others."""
    if _workers.cache_info().currsize:
        _workers(cores()).shutdown()
        _workers.cache_clear()


os.register_at_fork(before=_end_workers)
