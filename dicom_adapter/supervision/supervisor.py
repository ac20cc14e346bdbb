"""Threads that no error ends: each is started again after one, and told of when it is stuck or has ended.

A worker does one round of its work after the other. An error ends the round, is logged, and the next round
begins after a wait that grows. The beginning of a round is a sign of life; a round that may take long gives
more of them (`sign_of_life`). Who gives none for too long is stuck. A worker that waits after an error is
a matter of `/readyz`; one that is stuck, or whose thread has ended, fails `/healthz` too, so that whoever
runs the adapter starts it anew.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from dicom_adapter.supervision.backoff import Backoff
from dicom_adapter.supervision.deadline import Deadline
from stages.errors import StageError, printable

logger = logging.getLogger(__name__)

_BACKOFF = Backoff(first_s=0.5, longest_s=60.0)
_STUCK_S = 300.0
_MOST_KINDS = 64
_LONGEST_REASON = 300
_PACKAGES = Path(__file__).resolve().parents[2]
_here = threading.local()


class UnforeseenError(Exception):
    """Stands for an error in a log: its kind without its message, which may quote what somebody sent."""


def is_of_surroundings(error: BaseException) -> bool:
    """Return whether an error is one of the disk, the memory or the database, whatever is worked on."""
    if isinstance(error, (sqlite3.OperationalError, sqlite3.InternalError)):
        return True
    if isinstance(error, StageError):
        return False
    return isinstance(error, (OSError, MemoryError)) or type(error) is sqlite3.DatabaseError


def reason_of(error: BaseException) -> str:
    """Return in one line why something failed, without the message of an error that nobody foresaw."""
    if isinstance(error, StageError) or is_of_surroundings(error):
        return printable(f"{error}" or type(error).__name__)[:_LONGEST_REASON]
    frames = traceback.extract_tb(error.__traceback__)
    ours = [each for each in frames if Path(each.filename).is_relative_to(_PACKAGES)] or frames
    place = f" in {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    return f"{type(error).__name__}{place}"


def traceback_of(error: BaseException) -> tuple[type[UnforeseenError], UnforeseenError, TracebackType | None]:
    """Return what `logging` takes as ``exc_info`` to log where an error came from, without its message."""
    return UnforeseenError, UnforeseenError(type(error).__name__), error.__traceback__


def sign_of_life(waits_for: str = "") -> None:
    """Note that the worker whose thread this is goes on; outside of workers nothing happens.

    Parameters
    ----------
    waits_for
        What keeps it from its work meanwhile; "" for nothing.
    """
    worker = getattr(_here, "worker", None)
    if isinstance(worker, Worker):
        worker.note(waits_for)


def worker_here() -> Worker | None:
    """Return the worker whose thread this is."""
    found = getattr(_here, "worker", None)
    return found if isinstance(found, Worker) else None


def adopt(worker: Worker | None) -> None:
    """Let signs of life of this thread count for a worker: for threads that it shares its work with."""
    _here.worker = worker


class Worker:
    """One thread that does round after round until it is asked to stop.

    Parameters
    ----------
    name
        For people; of a job with its ID.
    work
        One round. It returns soon after `stop` was called.
    kind
        For metrics.
    once
        Whether a single round that ends well is all.
    patience
        How many times longer than others it may be silent.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        *,
        kind: str,
        once: bool,
        patience: float,
        backoff: Backoff,
        on_failure: Callable[[str], None],
    ) -> None:
        self.name, self.kind, self.patience = name, kind, patience
        self._work, self._once, self._backoff, self._on_failure = work, once, backoff, on_failure
        self._stopping = threading.Event()
        self._ended = False
        self._sign, self._waits_for = time.monotonic(), ""
        self._failures, self._calm_at = 0, 0.0
        self._logged: Counter[tuple[object, ...]] = Counter()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._sign = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Begin no further round."""
        self._stopping.set()

    def join(self, deadline: Deadline) -> bool:
        """Wait for the end, and return whether it came in time."""
        if self._thread.ident is not None:
            self._thread.join(deadline.left_s())
        return not self._thread.is_alive()

    def note(self, waits_for: str = "") -> None:
        """Note a sign of life, and what the work waits for."""
        self._sign, self._waits_for = time.monotonic(), waits_for

    @property
    def is_over(self) -> bool:
        """Whether it has come to its end as it should, or never began."""
        return self._ended or self._thread.ident is None

    @property
    def is_dead(self) -> bool:
        """Whether its thread has ended although it should not have."""
        return not self.is_over and not self._thread.is_alive()

    @property
    def waits_for(self) -> str:
        """What keeps it from its work; "" for nothing."""
        return self._waits_for

    @property
    def silent_s(self) -> float:
        """How long ago its last sign of life was, seconds."""
        return time.monotonic() - self._sign

    def _run(self) -> None:
        adopt(self)
        while not self._stopping.is_set():
            self._sign = time.monotonic()
            try:
                self._work()
            except BaseException as error:
                self._start_again(error)
                continue
            self._succeed()
            if self._once:
                break
        self._ended = True

    def _succeed(self) -> None:
        self._waits_for = ""
        if self._failures and time.monotonic() >= self._calm_at:
            logger.info("%s works again, after %d failures", self.name, self._failures)
            self._failures = 0
            self._logged.clear()

    def _start_again(self, error: BaseException) -> None:
        if self._stopping.is_set() and is_of_surroundings(error):
            return  # what it was at is done after the restart
        self._failures += 1
        self._on_failure(self.kind)
        wait_s = self._backoff.wait_s(self._failures)
        self._waits_for = reason_of(error)
        self._tell(error, wait_s)
        end = time.monotonic() + wait_s
        self._calm_at = end + wait_s
        while not self._stopping.is_set() and (left_s := end - time.monotonic()) > 0:
            self._sign = time.monotonic()
            self._stopping.wait(min(left_s, 1.0))

    def _tell(self, error: BaseException, wait_s: float) -> None:
        """Log an error the first time, and then each time that it has come twice as often."""
        frames = traceback.extract_tb(error.__traceback__)
        same = (type(error), *((each.filename, each.lineno) for each in frames[-4:]))
        if len(self._logged) >= _MOST_KINDS:
            self._logged.clear()
        self._logged[same] += 1
        times = self._logged[same]
        told = (self.name, self._waits_for, wait_s)
        if times > 1:
            if times & (times - 1) == 0:
                logger.warning("%s failed as before (%s), next try in %.1f s, %d times now", *told, times)
        elif is_of_surroundings(error) or isinstance(error, StageError):
            logger.warning("%s failed (%s), next try in %.1f s", *told)
        else:
            logger.error(
                "%s failed (%s), next try in %.1f s; the same again is counted and told less and less often",
                *told,
                exc_info=traceback_of(error),
            )


class Supervisor:
    """All workers of an adapter, and how they are.

    Parameters
    ----------
    stuck_s
        Returns after how long without a sign of life a worker is stuck, seconds.
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
        """Return a worker that is watched from its start on, see `Worker`; `kind` is its name by default."""
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
    """Ask workers to stop, wait for them, and return the names of those that have not ended in time."""
    asked = list(workers)
    for each in asked:
        each.stop()
    return [each.name for each in asked if not each.join(deadline)]
