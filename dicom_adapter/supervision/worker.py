"""A thread that does one round of its work after the other; an error ends the round, not the thread."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable

from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.failures import is_resource_error, reason_of, traceback_of
from stages.errors import StageError
from stages.runtime.retry import Backoff

logger = logging.getLogger(__name__)

_MOST_KINDS = 64
_here = threading.local()


def heartbeat(waits_for: str = "") -> None:
    """Note that the worker whose thread this is goes on; outside of workers do nothing.

    Parameters
    ----------
    waits_for
        What keeps it from its work meanwhile; "" for nothing.
    """
    worker = getattr(_here, "worker", None)
    if isinstance(worker, Worker):
        worker.note(waits_for)


def current_worker() -> Worker | None:
    """Return the worker whose thread this is."""
    found = getattr(_here, "worker", None)
    return found if isinstance(found, Worker) else None


def work_for(worker: Worker | None) -> None:
    """Count heartbeats of this thread for a worker: for threads that it shares its work with."""
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
    backoff
        How long it waits after failures.
    on_failure
        Is called with why a round failed.
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
        """Note a sign of life, and what the work waits for.

        Parameters
        ----------
        waits_for
            What the work waits for; "" for nothing.
        """
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
        work_for(self)
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
        if self._stopping.is_set() and is_resource_error(error):
            return  # what it was at is done after the restart
        self._failures += 1
        self._on_failure(self.kind)
        wait_s = self._backoff.wait_s(self._failures)
        self._waits_for = reason_of(error)
        self._log_failure(error, wait_s)
        end = time.monotonic() + wait_s
        self._calm_at = end + wait_s
        while not self._stopping.is_set() and (left_s := end - time.monotonic()) > 0:
            self._sign = time.monotonic()
            self._stopping.wait(min(left_s, 1.0))

    def _log_failure(self, error: BaseException, wait_s: float) -> None:
        """Log an error the first time, and then each time that it has come twice as often."""
        frames = traceback.extract_tb(error.__traceback__)
        same = (type(error), *((each.filename, each.lineno) for each in frames[-4:]))
        if len(self._logged) >= _MOST_KINDS:
            self._logged.clear()
        self._logged[same] += 1
        times = self._logged[same]
        facts = (self.name, self._waits_for, wait_s)
        if times > 1:
            if times & (times - 1) == 0:
                logger.warning("%s failed as before (%s), next try in %.1f s, %d times now", *facts, times)
        elif is_resource_error(error) or isinstance(error, StageError):
            logger.warning("%s failed (%s), next try in %.1f s", *facts)
        else:
            logger.error(
                "%s failed (%s), next try in %.1f s; the same again is counted and told less and less often",
                *facts,
                exc_info=traceback_of(error),
            )
