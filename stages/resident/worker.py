"""A forked process becomes one that was started for its job: environment, folder, streams."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from stages.resident.orders import Order
from stages.runtime import job_files

_OTHERS = ("/proc/", "/dev/")


def become(order: Order) -> None:
    """Take on what an order says, but for its arguments.

    Parameters
    ----------
    order
        The order.

    Raises
    ------
    JobFileError
        If something else than a file stands where the log belongs.
    OSError
        If the folder or the streams cannot be used.
    """
    os.setsid()
    _redirect(order)
    os.environ.clear()
    os.environ.update(order.environ)
    os.umask(order.umask)
    os.chdir(order.folder)
    tempfile.tempdir = None
    _draw_other_random_numbers()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _redirect(order: Order) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for number, name in ((1, order.output), (2, order.errors)):
        opened = _opened(name)
        os.dup2(opened, number)
        os.close(opened)


def _opened(name: str) -> int:
    """Return a descriptor to append to: a log, a device, or a stream of another process of this user."""
    if name.startswith(_OTHERS):
        return os.open(name, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
    with job_files.open_to_append(Path(name)) as log:
        return os.dup(log.fileno())


def _draw_other_random_numbers() -> None:
    """Seed NumPy's global generator anew, as each process does; Python's own has been."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        with suppress(AttributeError):
            numpy.random.seed()
