"""Tell an engine what the stages of a Pod do, as it happens: their logs, locks and results.

Messages (`stages.pod.messages`) go out on standard output::

    {"protocol": 1}                                    the first: which version this is
    {"append": "logs/a.log", "at": 120, "size": 80}    the log has grown
    {"clear": "a/output"}, {"file": "a/output/x"}      the result of a stage, before its lock
    {"file": "locks/a.lock"}                           a lock, a failure or a heartbeat as it is now
    {"gone": "locks/a.running"}
    {"beat": 3, "memory": {"a": 1000}}                 once a second, with the most memory each stage has had
    {"synced": 1}                                      everything up to the question has been told

Questions and orders come on standard input, a JSON object a line: ``{"protocol": 1}`` as the first, then
``{"sync": 1}``, ``{"signal": 15, "stage": "a"}``, ``{"done": true}``.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stages.pod.messages import HELLO, require_protocol, write_file, write_message
from stages.pod.processes import processes, send_signal
from stages.runtime.job_files import JobFileError

logger = logging.getLogger(__name__)

_LOOK_S = 0.02
_BEAT_S = 1.0


def follow(payload: Path, stages: Sequence[str], have: Sequence[str], *, sign: Callable[[], None]) -> None:
    """Tell everything there is and what becomes of it, until the engine has had enough.

    Parameters
    ----------
    stages
        The stages of this Pod.
    have
        Stages whose result is not to be told again.
    sign
        Called from time to time while the engine takes what it is told.

    Raises
    ------
    SettingsError
        If the engine speaks another version of the protocol.
    """
    orders = Orders(sys.stdin.fileno())
    teller = Teller(payload, stages, have, sign=sign)
    teller.say(HELLO)
    is_known = False
    while True:
        asked = list(orders.take(_LOOK_S))
        teller.tell_changes()
        for order in asked:
            if not is_known:
                require_protocol(order, of="the engine")
                is_known = True
            elif "signal" in order:
                send_signal(str(order["stage"]), int(order["signal"]))
            elif "sync" in order:
                teller.say({"synced": order["sync"]})
            elif order.get("done"):
                return
        if orders.ended:
            raise BrokenPipeError
        teller.beat()


class Orders:
    """The lines that come on a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._rest = descriptor, b""
        self.ended = False

    def take(self, wait_s: float) -> Iterator[dict[str, Any]]:
        """Give the orders that have come; wait a while for one."""
        if not select.select([self._descriptor], [], [], wait_s)[0]:
            return
        data = os.read(self._descriptor, 65536)
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        yield from (json.loads(line) for line in lines)


class Teller:
    """What has been told of a payload, and what is to be told next."""

    def __init__(
        self, payload: Path, stages: Sequence[str], have: Sequence[str], *, sign: Callable[[], None]
    ) -> None:
        self._payload, self._stages, self._have = payload, tuple(stages), set(have)
        self._sign = sign
        self._told: dict[str, tuple[int, int, int]] = {}
        self._log_ends: dict[str, int] = {}
        self._count, self._next_beat, self._signed = 0, 0.0, 0.0

    def say(self, header: dict[str, Any]) -> None:
        """Send a message without content."""
        write_message(self._write, header)

    def beat(self) -> None:
        """Send a sign of life once a second."""
        if time.monotonic() >= self._next_beat:
            self._next_beat, self._count = time.monotonic() + _BEAT_S, self._count + 1
            memory: dict[str, int] = {}
            for process in processes():
                known = memory.get(process.container, 0)
                memory[process.container] = max(known, process.peak_memory_bytes)
            self.say({"beat": self._count, "memory": memory})

    def tell_changes(self) -> None:
        """Tell what is new: first the logs, then what the locks say, each after its result."""
        names = [f"{stage}.{kind}" for stage in self._stages for kind in ("running", "failed", "lock")]
        for stage in self._stages:
            self._tell_log(stage)
        for name in names:
            state = _state(self._payload / "locks" / name)
            if state == self._told.get(name):
                continue
            if state is None:
                del self._told[name]
                self.say({"gone": f"locks/{name}"})
            else:
                self._tell_lock(name)
                self._told[name] = state

    def _tell_lock(self, name: str) -> None:
        stage, _, kind = name.rpartition(".")
        if kind != "running":
            if stage in self._have:
                return
            self._next_beat = 0.0
            self.beat()  # while the stage still has its memory
            folders = [f"publish/{stage}"] + [f"{stage}/output"] * (kind == "lock")
            for folder in folders:
                self.say({"clear": folder})
                self._tell_files(f"{folder}/{path}" for path in _files_in(self._payload / folder))
            self._tell_log(stage)
        self._tell_files([f"locks/{name}"])

    def _tell_files(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                write_file(self._write, {"file": name}, self._payload / name)
            except FileNotFoundError:
                continue  # a heartbeat that has ended just now
            except JobFileError as error:
                logger.warning("not sent: %s", error)

    def _tell_log(self, stage: str) -> None:
        log, told = self._payload / "logs" / f"{stage}.log", self._log_ends.get(stage, 0)
        try:
            if log.stat().st_size > told:
                header = {"append": f"logs/{stage}.log", "at": told}
                self._log_ends[stage] = write_file(self._write, header, log, start=told)
        except (FileNotFoundError, JobFileError):
            return

    def _write(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        if time.monotonic() - self._signed > _BEAT_S / 2:
            self._signed = time.monotonic()
            self._sign()


def _state(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file does; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _files_in(folder: Path) -> list[str]:
    """Return the files of a folder, by their paths in it; links are left out."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return [path.relative_to(folder).as_posix() for path in found]
