"""The hosts of stages that stay: started, looked after, and ended with whoever keeps them."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from clara_wf.residents.programs import Program, is_driven, pool_name
from stages.lifecycle.residence import AT_ONCE, FOLDER
from stages.resident import orders
from stages.runtime import job_files, subreaper

logger = logging.getLogger(__name__)

_STOP_S = 10.0
_READY_S = 60.0
_POLL_S = 0.02
_SHORTEST_LIFE_S = 5.0
_MOST_DEATHS = 3


@dataclass
class _Host:
    """A host that was started; one that dies at once again and again is given up."""

    program: Program
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0

    @property
    def is_given_up(self) -> bool:
        return self.deaths >= _MOST_DEATHS


@dataclass
class Pools:
    """One host for each program, in folders below one.

    Attributes
    ----------
    folder
        Where the folders of orders lie.
    """

    folder: Path
    _hosts: dict[str, _Host] = field(default_factory=dict)

    def keep(self, program: Program) -> None:
        """Start the host of a program unless there is one, or it knows of no orders.

        Parameters
        ----------
        program
            What is kept ready.
        """
        name = pool_name(program)
        if name not in self._hosts and is_driven(program.command):
            orders.make_folder(self.folder)
            self._hosts[name] = host = _Host(program, self.folder / name)
            orders.make_folder(host.folder)
            _start(host)

    def look_after(self) -> None:
        """Start each host again that has ended."""
        for host in self._hosts.values():
            if host.process is None or host.process.poll() is None or host.is_given_up:
                continue
            is_early = time.monotonic() - host.started < _SHORTEST_LIFE_S
            host.deaths = host.deaths + 1 if is_early else 0
            why = _last_line(host)
            if host.process.returncode in (2, 3) or host.is_given_up:
                host.deaths = _MOST_DEATHS
                logger.warning("%s is started for each job: it does not stay (%s)", host.program.stage, why)
            else:
                logger.warning("%s has ended and is started again (%s)", host.program.stage, why)
                _start(host)

    def wait_until_ready(self, timeout_s: float = _READY_S) -> None:
        """Return when each host takes orders, or does not stay, or has had its time.

        Parameters
        ----------
        timeout_s
            The longest wait, seconds.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and not all(map(_is_settled, self._hosts.values())):
            self.look_after()
            time.sleep(_POLL_S)

    def close(self) -> None:
        """End the hosts with what they run, and remove their folders."""
        for host in self._hosts.values():
            _signal(host, signal.SIGTERM)
        end = time.monotonic() + _STOP_S
        for host in self._hosts.values():
            if host.process is not None:
                with suppress(subprocess.TimeoutExpired):
                    host.process.wait(max(0.0, end - time.monotonic()))
                _signal(host, subreaper.END_NOW)
                host.process.wait()
        self._hosts.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def _start(host: _Host) -> None:
    environ = {**host.program.environ, FOLDER: str(host.folder), AT_ONCE: str(host.program.at_once)}
    command = subreaper.command_under(os.getpid(), [*host.program.command], grace_s=_STOP_S)
    host.started = time.monotonic()
    with job_files.open_to_append(_log(host)) as output:
        host.process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _is_settled(host: _Host) -> bool:
    return host.is_given_up or orders.is_served(host.folder)


def _signal(host: _Host, number: int) -> None:
    if host.process is not None and host.process.poll() is None:
        host.process.send_signal(number)


def _log(host: _Host) -> Path:
    return host.folder / "host.log"


def _last_line(host: _Host) -> str:
    lines: Sequence[str] = job_files.last_lines(_log(host))
    return next((line for line in reversed(lines) if line.strip()), "it wrote nothing")
