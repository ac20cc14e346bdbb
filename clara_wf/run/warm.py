"""A job that a service of this machine runs (`clara_wf.run.service`), with the streams of this process.

This is all that ``clara-wf test --warm`` imports, so it stays light.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.errors import StageError, TerminatedError
from stages.resident import orders

_POLL_S, _LOOK_S = 0.005, 0.3
_STOP_S = 30.0


def service_folder(payloads: Path) -> Path:
    """Return the folder of a service.

    Parameters
    ----------
    payloads
        Where its jobs run.
    """
    return payloads.resolve() / ".resident"


def jobs_folder(payloads: Path) -> Path:
    """Return the folder of orders of jobs.

    Parameters
    ----------
    payloads
        Where the jobs run.
    """
    return service_folder(payloads) / "jobs"


def run_warm(
    folder: Path, arguments: Sequence[str], environ: Mapping[str, str], *, priority: int = 0
) -> int | None:
    """Return the exit code of a command line that a service has run; None if none does.

    Parameters
    ----------
    folder
        The orders of its jobs.
    arguments
        What follows ``clara-wf test``.
    environ
        The environment of the run.
    priority
        Of the job among others.
    """
    streams = [_stream(number) for number in (1, 2)]
    order = orders.Order(
        arguments=tuple(arguments),
        environ=dict(environ),
        folder=os.getcwd(),
        umask=orders.own_umask(),
        output=streams[0],
        errors=streams[1],
    )
    sys.stdout.flush()
    ticket = orders.put(folder, order, priority=priority)
    try:
        return _outcome(ticket)
    except TerminatedError:
        ticket.stop(signal.SIGTERM)
        end = time.monotonic() + _STOP_S
        while ticket.exit_code() is None and time.monotonic() < end and not ticket.withdraw():
            time.sleep(_POLL_S)
        raise
    finally:
        ticket.close()


def why_not(folder: Path) -> str:
    """Return why nobody runs jobs that are ordered here; "" if somebody does."""
    if not folder.is_dir() or not orders.is_served(folder):
        return (
            f"no service runs there; start one with: clara-wf serve WORKFLOW --payloads {folder.parents[1]}"
        )
    if any(stat.S_ISSOCK(os.fstat(number).st_mode) for number in (1, 2)):
        return "standard output or standard error is a socket, which no other process can open"
    return ""


def _outcome(ticket: orders.Ticket) -> int | None:
    next_look = 0.0
    while (code := ticket.exit_code()) is None:
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + _LOOK_S
            if not ticket.is_served and ticket.withdraw():
                return None
        time.sleep(_POLL_S)
    if code < 0:
        raise StageError("the service that ran the job has ended; the same command goes on where it was")
    return code


def _stream(number: int) -> str:
    return f"/proc/{os.getpid()}/fd/{number}"
