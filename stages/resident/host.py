"""The host of a pool: it takes orders and forks a process for each, which has all that the host has loaded.

The host itself does nothing of a job, so nothing of a job stays in it. It has one thread: it watches the
folder of orders and its processes, tells them whose turn it is, and writes down how they ended.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from stages.errors import TerminatedError
from stages.resident import orders, temporary
from stages.resident.orders import Order, TakenOrder
from stages.resident.temporary import TemporaryFolder
from stages.runtime.processes import adopt_orphans, children, die_with_parent

logger = logging.getLogger(__name__)

LOOK_S = 0.25
_GRACE_S = 10.0
_ASK, _GO = b"?", b"!"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass
class _Worker:
    """A process that does one order."""

    order: TakenOrder
    process: int
    watched: int
    line: socket.socket
    temporary: TemporaryFolder
    asks: bool = False
    works: bool = False
    ends_at: float = float("inf")


@dataclass(frozen=True)
class Assignment:
    """What a forked process is to do.

    Attributes
    ----------
    order
        The order.
    turn
        Returns when it is this job's turn to work.
    """

    order: Order
    turn: Callable[[], None]


@dataclass
class Host:
    """Takes orders until it is asked to stop.

    Attributes
    ----------
    folder
        The pool's.
    at_once
        How many jobs may work at the same time; others wait for their turn when they are ready.
    most
        How many processes there may be.
    adopts
        Whether what a job has left running is ended with it, as far as this process is its next of kin.
    tick
        Called a few times a second; what it returns, if anything, is why this host ends when its jobs have.
    on_ready
        Called when orders are taken.
    """

    folder: Path
    at_once: int = 1
    most: int = 64
    adopts: bool = True
    tick: Callable[[], str] = str
    on_ready: Callable[[], None] = lambda: None
    _workers: dict[int, _Worker] = field(default_factory=dict)
    _draining: str = ""
    _hurries: bool = False

    def serve(self) -> Assignment | None:
        """Return in each process that was forked for an order; in the host itself None, at the end."""
        gc.collect()
        gc.freeze()  # so that no page is written to, and copied, for want of another reason
        with orders.living(self.folder) as alive, self._listening() as wake:
            orders.sweep(self.folder)
            temporary.sweep()
            self.on_ready()
            while True:
                self._look_after_workers()
                why = self.tick()  # a signal may come meanwhile
                self._draining = self._draining or why
                if self._draining and not self._workers:
                    logger.info("this host ends: %s", self._draining)
                    return None
                assignment = self._take_what_there_is(alive, wake)
                if assignment is not None:
                    return assignment
                self._wait(wake)

    @contextmanager
    def _listening(self) -> Iterator[int]:
        """Yield what becomes readable when there is something to do: the FIFO."""
        before = {number: signal.signal(number, self._drain) for number in _SIGNALS}
        path = self.folder / orders.WAKE
        wake = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)  # our own end for writing: no EOF
        host = os.getpid()
        if self.adopts:
            adopt_orphans()
        try:
            yield wake
        finally:
            if os.getpid() == host:
                os.close(wake)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _drain(self, number: int, _: object) -> None:
        """Take no more at the first signal, and stop what runs at the second."""
        self._hurries = bool(self._draining)
        self._draining = f"{signal.Signals(number).name}"

    def _take_what_there_is(self, alive: int, wake: int) -> Assignment | None:
        """Fork a process for each order, and return what to do in it; None in the host."""
        if self._draining:
            return None
        for key in orders.waiting(self.folder):
            if len(self._workers) >= self.most:
                break
            taken = TakenOrder(self.folder, key)
            order = orders.order_of(self.folder, key)
            if order is None or not taken.is_wanted or not taken.take():
                continue
            assignment = self._fork(order, taken, alive, wake)
            if assignment is not None:
                return assignment
        return None

    def _fork(self, order: Order, taken: TakenOrder, alive: int, wake: int) -> Assignment | None:
        ours, theirs = socket.socketpair()
        made = TemporaryFolder()
        host = os.getpid()
        _flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        process = os.fork()
        if process == 0:
            os.close(alive)
            os.close(wake)
            ours.close()
            for other in self._workers.values():
                other.order.let_go()
                other.line.close()
                other.temporary.let_go()
                os.close(other.watched)
            die_with_parent()
            if os.getppid() != host:
                os._exit(1)
            if self.adopts:
                adopt_orphans()
            environ = {**order.environ, "TMPDIR": str(made.path)}
            return Assignment(Order(**{**vars(order), "environ": environ}), _Turn(theirs))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        theirs.close()
        ours.setblocking(False)
        taken.note_process(process)
        self._workers[process] = _Worker(
            taken, process, watched=os.pidfd_open(process), line=ours, temporary=made
        )
        return None

    def _wait(self, wake: int) -> None:
        watched = [wake]
        for worker in self._workers.values():
            watched += [worker.watched] if worker.asks else [worker.watched, worker.line.fileno()]
        poll = select.poll()
        for descriptor in watched:
            poll.register(descriptor, select.POLLIN)
        poll.poll(LOOK_S * 1000)
        with suppress(BlockingIOError):
            while os.read(wake, 4096):
                pass

    def _look_after_workers(self) -> None:
        for worker in list(self._workers.values()):
            process, status = os.waitpid(worker.process, os.WNOHANG)
            if process:
                self._end(worker, os.waitstatus_to_exitcode(status))
        self._give_turns()
        for worker in self._workers.values():
            self._stop_if_asked(worker)

    def _end(self, worker: _Worker, code: int) -> None:
        del self._workers[worker.process]
        os.close(worker.watched)
        worker.line.close()
        if self.adopts:
            self._kill_what_is_left()
        worker.temporary.remove()
        worker.order.note_turn(waits=False)
        worker.order.end(code)

    def _kill_what_is_left(self) -> None:
        """Kill what jobs that have ended left running: nobody else's child is ours by now."""
        while left := set(children(os.getpid()) or ()) - set(self._workers):
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                with suppress(ChildProcessError):
                    os.waitpid(process, 0)

    def _give_turns(self) -> None:
        for worker in self._workers.values():
            if not worker.asks:
                with suppress(BlockingIOError, ConnectionError):
                    worker.asks = worker.line.recv(1) == _ASK
        free = self.at_once - sum(worker.works for worker in self._workers.values())
        ready = sorted(
            (each for each in self._workers.values() if each.asks and not each.works),
            key=lambda each: each.order.key,
        )
        for n, worker in enumerate(ready):
            worker.works = n < free
            worker.order.note_turn(waits=not worker.works)
            if worker.works:
                with suppress(ConnectionError):
                    worker.line.send(_GO)

    def _stop_if_asked(self, worker: _Worker) -> None:
        number = worker.order.stop_signal()
        now = time.monotonic()
        is_unwanted = self._hurries or not worker.order.is_wanted
        if not number and is_unwanted and worker.ends_at == float("inf"):
            number, worker.ends_at = signal.SIGTERM, now + _GRACE_S
        if now > worker.ends_at:
            number = signal.SIGKILL
        if number:
            os.kill(worker.process, number)


class _Turn:
    """A forked process asks its host whether it may work, and waits until it may."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def __call__(self) -> None:
        with suppress(ConnectionError):
            self._line.send(_ASK)
            if self._line.recv(1) == _GO:
                return
        raise TerminatedError("the process that this one was forked from has ended")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
