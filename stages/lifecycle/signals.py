"""How a stage is stopped from outside: SIGTERM, SIGINT and its time limit, as exceptions.

Each is raised in the main thread, wherever it is, so that files are closed and `cleanup` runs. A
main thread that does not react within the grace time (it may be deep in foreign code) is ended with
the process, after the failure was published.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from stages.errors import StageError, StageTimeoutError, TerminatedError

logger = logging.getLogger(__name__)

GRACE_S = 7.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)


class StopSignals:
    """Turn signals into `TerminatedError` and `StageTimeoutError` while the block lasts.

    Parameters
    ----------
    on_forced_exit
        Called with the error before the process is ended by force.
    grace_s
        How long the main thread may take to come to an end, seconds.
    """

    def __init__(
        self, *, on_forced_exit: Callable[[StageError], None] | None = None, grace_s: float = GRACE_S
    ) -> None:
        self._on_forced_exit = on_forced_exit
        self._grace_s = grace_s
        self._before: dict[signal.Signals, Any] = {}
        self._forced_exit: threading.Timer | None = None
        self._limit_s = 0.0
        self._raised: StageError | None = None

    def __enter__(self) -> StopSignals:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._raise)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._forced_exit is not None:
            self._forced_exit.cancel()

    def ignore(self) -> None:
        """Ignore further signals, so that what is left to do is done."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    @contextmanager
    def time_limit(self, seconds: float) -> Iterator[None]:
        """Raise `StageTimeoutError` if the block takes longer.

        Parameters
        ----------
        seconds
            The longest time that the block may take.
        """
        self._limit_s = seconds
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def raise_swallowed(self) -> None:
        """Raise again what was raised before, in case the interrupted code went on regardless."""
        if self._raised is not None:
            raise self._raised

    def _raise(self, number: int, frame: FrameType | None) -> None:
        error: StageError
        if number == signal.SIGALRM:
            error = StageTimeoutError(f"the work took longer than the stage's timeout of {self._limit_s:g} s")
        else:
            error = TerminatedError(f"stopped by {signal.Signals(number).name}")
        self._raised = error
        self.ignore()
        self._forced_exit = threading.Timer(self._grace_s, self._end_process, [error])
        self._forced_exit.daemon = True
        self._forced_exit.start()
        raise error

    def _end_process(self, error: StageError) -> None:
        logger.error("%s, and it did not come to an end within %g s", error, self._grace_s)
        if self._on_forced_exit is not None:
            self._on_forced_exit(error)
        logging.shutdown()
        os._exit(error.exit_code)
