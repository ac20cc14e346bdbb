"""The processes of a Pod's containers, where the containers share their process IDs (proc(5)).

A container's processes are known by the variable ``CLARA_CONTAINER`` that they were started with.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stages.runtime.processes import parent, peak_memory_bytes

_MARK = b"CLARA_CONTAINER="


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process of a container.

    Attributes
    ----------
    pid
        Its number.
    parent
        0 for the first process of a container, whose parent lies outside the Pod.
    container
        The name of its container.
    peak_memory_bytes
        The most resident memory it has had.
    """

    pid: int
    parent: int
    container: str
    peak_memory_bytes: int


def processes(proc: Path = Path("/proc")) -> Iterator[Process]:
    """Yield every process that belongs to a container and may be looked at.

    Parameters
    ----------
    proc
        Where the kernel shows its processes.
    """
    for folder in proc.iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                pid, container = int(folder.name), _container_of(folder)
                above = parent(pid, proc=str(proc))
                if container and above is not None:
                    peak_bytes = peak_memory_bytes(pid, proc=str(proc))
                    yield Process(pid=pid, parent=above, container=container, peak_memory_bytes=peak_bytes)


def send_signal(container: str, number: int) -> int:
    """Send a signal to a container and return how many processes got it.

    SIGKILL reaches all of its processes, any other only its first, which may pass it on to its children.

    Parameters
    ----------
    container
        Its name.
    number
        The signal.
    """
    count = 0
    for process in processes():
        if process.container == container and (number == signal.SIGKILL or process.parent == 0):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)
                count += 1
    return count


def _container_of(folder: Path) -> str:
    for entry in (folder / "environ").read_bytes().split(b"\0"):
        if entry.startswith(_MARK):
            return entry.removeprefix(_MARK).decode(errors="replace")
    return ""
