"""Threads that no error ends: each is started again after one, and reported when it is stuck or has ended.

A worker does one round of its work after the other. An error ends the round, is logged, and the next round
begins after a wait that grows. The beginning of a round is a sign of life; a round that may take long gives
more of them (`heartbeat`). Who gives none for too long is stuck. A worker that waits after an error is
a matter of `/readyz`; one that is stuck, or whose thread has ended, fails `/healthz` too, so that whoever
runs the adapter starts it anew.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable

from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.worker import Worker
from stages.runtime.retry import Backoff

logger = logging.getLogger(__name__)

_BACKOFF = Backoff(first_s=0.5, longest_s=60.0)
_STUCK_S = 300.0


class Supervisor:
    """All workers of an adapter, and how they are.

    Parameters
    ----------
    stuck_s
        Returns after how long without a sign of life a worker is stuck, seconds.
    backoff
        How long it waits after failures.
    on_failure
        Called with the kind of a worker after each of its failures.
    """

    def __init__(
        self,
        *,
        stuck_s: Callable[[], float] = lambda: _STUCK_S,
        backoff: Backoff = _BACKOFF,
        on_failure: Callable[[str], None] = lambda kind: None,
    ) -> None:
        self._stuck_s, self._backoff, self._on_failure = stuck_s, backoff, on_failure
        self._lock = threading.Lock()
        self._workers: list[Worker] = []

    def worker(
        self,
        name: str,
        work: Callable[[], None],
        *,
        kind: str = "",
        once: bool = False,
        patience: float = 1.0,
    ) -> Worker:
        """Return a worker that is watched from its start on, see `Worker`; `kind` is its name by default.

        Parameters
        ----------
        name, work
            The worker's name and one round of the work.
        kind
            What is done, for metrics.
        once
            Whether it ends after one round.
        patience
            How many times as long as others it may be silent.
        """
        made = Worker(
            name,
            work,
            kind=kind or name,
            once=once,
            patience=patience,
            backoff=self._backoff,
            on_failure=self._on_failure,
        )
        with self._lock:
            self._workers = [each for each in self._workers if not each._ended] + [made]
        return made

    def states(self) -> dict[str, int]:
        """Return how many workers work, wait, are stuck, and are dead."""
        found = Counter(self._state(each) for each in self._all() if not each.is_over)
        return {state: found[state] for state in ("working", "waiting", "stuck", "dead")}

    def why_unhealthy(self) -> str:
        """Return which workers are dead or stuck, in a sentence; "" if none is."""
        return "; ".join(self._sentences("dead", "stuck"))

    def why_not_ready(self) -> str:
        """Return the same, and which workers wait after a failure; "" if all work."""
        return "; ".join(self._sentences("dead", "stuck", "waiting"))

    def _all(self) -> list[Worker]:
        with self._lock:
            return list(self._workers)

    def _state(self, worker: Worker) -> str:
        if worker.is_dead:
            return "dead"
        if worker.silent_s > self._stuck_s() * worker.patience:
            return "stuck"
        return "waiting" if worker.waits_for else "working"

    def _sentences(self, *states: str) -> Iterable[str]:
        for each in self._all():
            if each.is_over or (state := self._state(each)) not in states:
                continue
            if state == "dead":
                yield f"the worker {each.name!r} has ended, as the log says; start the adapter again"
            elif state == "stuck":
                yield f"the worker {each.name!r} has given no sign of life for {each.silent_s:.0f} s"
            else:
                yield f"the worker {each.name!r} cannot go on, and tries again: {each.waits_for}"


def stop_all(workers: Iterable[Worker], deadline: Deadline) -> list[str]:
    """Ask workers to stop, wait for them, and return the names of those that have not ended in time.

    Parameters
    ----------
    workers
        The workers.
    deadline
        Until when.
    """
    asked = list(workers)
    for each in asked:
        each.stop()
    return [each.name for each in asked if not each.join(deadline)]
