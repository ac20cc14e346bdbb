"""Send an engine what the stages of a Pod do, as it happens: their logs, locks and results.

Messages (`stages.pod.messages`) go out on standard output::

    {"protocol": 1}                                    the first: which version this is
    {"append": "logs/a.log", "at": 120, "size": 80}    the log has grown
    {"clear": "a/output"}, {"file": "a/output/x"}      the result of a stage, before its lock
    {"file": "locks/a.lock"}                           a lock, a failure or a heartbeat as it is now
    {"gone": "locks/a.running"}
    {"beat": 3, "memory": {"a": 1000}}                 once a second, with the most memory each stage has had
    {"synced": 1}                                      everything up to the question has been sent

Commands come on standard input, a JSON object a line: ``{"protocol": 1}`` as the first, then
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
    """Send everything there is and what becomes of it, until the engine has had enough.

    Parameters
    ----------
    payload
        The job's folder.
    stages
        The stages of this Pod.
    have
        Stages whose result is not to be sent again.
    sign
        Called from time to time while the engine takes what it is sent.

    Raises
    ------
    SettingsError
        If the engine speaks another version of the protocol.
    """
    commands = Commands(sys.stdin.fileno())
    stream = EventStream(payload, stages, have, sign=sign)
    stream.send(HELLO)
    is_known = False
    while True:
        received = list(commands.receive(_LOOK_S))
        stream.send_changes()
        for command in received:
            if not is_known:
                require_protocol(command, of="the engine")
                is_known = True
            elif "signal" in command:
                send_signal(str(command["stage"]), int(command["signal"]))
            elif "sync" in command:
                stream.send({"synced": command["sync"]})
            elif command.get("done"):
                return
        if commands.ended:
            raise BrokenPipeError
        stream.send_heartbeat()


class Commands:
    """The lines that come on a descriptor.

    Parameters
    ----------
    descriptor
        It is open to read.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._rest = descriptor, b""
        self.ended = False

    def receive(self, wait_s: float) -> Iterator[dict[str, Any]]:
        """Yield the commands that have come; wait a while for one.

        Parameters
        ----------
        wait_s
            Longest wait for the first, seconds.
        """
        if not select.select([self._descriptor], [], [], wait_s)[0]:
            return
        data = os.read(self._descriptor, 65536)
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        yield from (json.loads(line) for line in lines)


class EventStream:
    """The events of a payload: what has been sent of it, and what is to be sent next.

    Parameters
    ----------
    payload
        The job's folder.
    stages
        The stages of this Pod.
    have
        Stages whose result is not to be sent again.
    sign
        Called twice a second while the engine takes what is sent.
    """

    def __init__(
        self, payload: Path, stages: Sequence[str], have: Sequence[str], *, sign: Callable[[], None]
    ) -> None:
        self._payload, self._stages, self._have = payload, tuple(stages), set(have)
        self._sign = sign
        self._sent: dict[str, tuple[int, int, int]] = {}
        self._log_ends: dict[str, int] = {}
        self._count, self._next_beat, self._signed = 0, 0.0, 0.0

    def send(self, header: dict[str, Any]) -> None:
        """Send a message without content.

        Parameters
        ----------
        header
            What JSON can hold.
        """
        write_message(self._write, header)

    def send_heartbeat(self) -> None:
        """Send a sign of life once a second."""
        if time.monotonic() >= self._next_beat:
            self._next_beat, self._count = time.monotonic() + _BEAT_S, self._count + 1
            memory: dict[str, int] = {}
            for process in processes():
                known = memory.get(process.container, 0)
                memory[process.container] = max(known, process.peak_memory_bytes)
            self.send({"beat": self._count, "memory": memory})

    def send_changes(self) -> None:
        """Send what is new: first the logs, then what the locks say, each after its result."""
        names = [f"{stage}.{kind}" for stage in self._stages for kind in ("running", "failed", "lock")]
        states = {name: _state(self._payload / "locks" / name) for name in names}
        for stage in self._stages:  # after a look at the locks, so that the log is sent up to them
            self._send_log(stage)
        for name, state in states.items():
            if state == self._sent.get(name):
                continue
            if state is None:
                del self._sent[name]
                self.send({"gone": f"locks/{name}"})
            else:
                self._send_lock(name)
                self._sent[name] = state

    def _send_lock(self, name: str) -> None:
        stage, _, kind = name.rpartition(".")
        if kind != "running":
            if stage in self._have:
                return
            self._next_beat = 0.0
            self.send_heartbeat()  # while the stage still has its memory
            folders = [f"publish/{stage}"] + [f"{stage}/output"] * (kind == "lock")
            for folder in folders:
                self.send({"clear": folder})
                self._send_files(f"{folder}/{path}" for path in _files_in(self._payload / folder))
            self._send_log(stage)
        self._send_files([f"locks/{name}"])

    def _send_files(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                write_file(self._write, {"file": name}, self._payload / name)
            except FileNotFoundError:
                continue  # a heartbeat that has ended just now
            except JobFileError as error:
                logger.warning("not sent: %s", error)

    def _send_log(self, stage: str) -> None:
        log, sent = self._payload / "logs" / f"{stage}.log", self._log_ends.get(stage, 0)
        try:
            if log.stat().st_size > sent:
                header = {"append": f"logs/{stage}.log", "at": sent}
                self._log_ends[stage] = write_file(self._write, header, log, start=sent)
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
