"""The processes of a Pod's containers, where the containers share their process IDs (proc(5)).

A container's processes are told by the variable ``CLARA_CONTAINER`` that they were started with.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MARK = b"CLARA_CONTAINER="


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process of a container.

    Attributes
    ----------
    parent
        0 for the first process of a container, whose parent lies outside the Pod.
    peak_memory_bytes
        The most resident memory it has had.
    """

    pid: int
    parent: int
    container: str
    peak_memory_bytes: int


def processes(proc: Path = Path("/proc")) -> Iterator[Process]:
    """Give every process that belongs to a container and may be looked at."""
    for folder in proc.iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                container = _container_of(folder)
                if container:
                    yield _process(folder, container)


def send_signal(container: str, number: int) -> int:
    """Send a signal to a container and return how many processes got it.

    SIGKILL reaches all of its processes, any other only its first, which may have to tell its children.
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


def _process(folder: Path, container: str) -> Process:
    told = dict(
        line.split(":", 1)
        for line in (folder / "status").read_text(encoding="ascii", errors="replace").splitlines()
        if ":" in line
    )
    return Process(
        pid=int(folder.name),
        parent=int(told["PPid"]),
        container=container,
        peak_memory_bytes=int(told.get("VmHWM", "0 kB").split()[0]) * 1024,
    )
