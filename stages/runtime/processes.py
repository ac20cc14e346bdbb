"""Processes of this machine: the memory of one, its children, and how one ends with its parent (proc(5)).

Run as ``python -m stages.runtime.processes PARENT COMMAND...`` it becomes a command that is stopped when the
parent is gone. Nothing but light modules is imported here, since every stage waits for programs of this kind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the kernel send a signal to this process when its parent is gone (prctl(2)); only on Linux.

    It survives exec, so it serves as `preexec_fn` as well.

    Parameters
    ----------
    number
        The signal.
    """
    if _LIBC is not None:
        _LIBC.prctl(_SET_PDEATHSIG, number, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of whatever this process's children leave behind (prctl(2)); only on Linux."""
    if _LIBC is not None:
        _LIBC.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def own_interpreter(module: str, *arguments: str) -> list[str]:
    """Return the command of a module of this project in an interpreter that no environment changes.

    Parameters
    ----------
    module
        It is run as ``python -m`` does; it may import the project and the standard library.
    arguments
        What it finds in `sys.argv`.
    """
    run = (
        f"import sys, runpy; sys.path.append({_PACKAGES!r}); "
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-I", "-S", "-c", run, *arguments]


def command_with_parent(parent: int, command: list[str]) -> list[str]:
    """Return the command that runs a command which gets SIGTERM when its parent is gone.

    Such a program has no threads, as between fork and exec next to nothing may be done by one that has.

    Parameters
    ----------
    parent
        The process that starts it.
    command
        The program by its path, and its arguments.
    """
    return own_interpreter(__name__, str(parent), *command)


def peak_memory_bytes(process: int | str = "self", *, proc: str = "/proc") -> int:
    """Return the most resident memory that a process has had (VmHWM), bytes; 0 where nobody knows.

    Parameters
    ----------
    process
        Its number.
    proc
        Where the kernel shows its processes.
    """
    with contextlib.suppress(OSError), open(f"{proc}/{process}/status", "rb") as status:
        for line in status:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def children(process: int) -> list[int] | None:
    """Return the processes that the main thread of a process has started; None where nobody knows.

    Parameters
    ----------
    process
        Its number.
    """
    with contextlib.suppress(OSError), open(f"/proc/{process}/task/{process}/children", "rb") as listed:
        return list(map(int, listed.read().split()))
    return None


def start_time(process: int) -> str:
    """Return when a process began, in the kernel's clock ticks; "" if there is no such process.

    Parameters
    ----------
    process
        Its number, which the kernel gives to another when it has ended.
    """
    stat = _stat(process)
    return stat[19].decode() if stat else ""


def parent(process: int, *, proc: str = "/proc") -> int | None:
    """Return the parent of a process, 0 where it lies outside of what can be seen; None if it is gone.

    Parameters
    ----------
    process
        Its number.
    proc
        Where the kernel shows its processes.
    """
    stat = _stat(process, proc)
    return int(stat[1]) if stat else None


def descendants(process: int) -> list[int]:
    """Return the processes below one, whichever session they are of, zombies left out.

    Parameters
    ----------
    process
        Its number.
    """
    below: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        stat = _stat(int(name))
        if stat and stat[0] != b"Z":
            below.setdefault(int(stat[1]), []).append(int(name))
    found, at = [process], 0
    while at < len(found):
        found += below.get(found[at], [])
        at += 1
    return found[1:]


def _stat(process: int, proc: str = "/proc") -> list[bytes]:
    """Return the fields of a process after its name: state, parent, and so on; none if it is gone."""
    with contextlib.suppress(OSError), open(f"{proc}/{process}/stat", "rb") as stat:
        return stat.read().rpartition(b")")[2].split()
    return []


def _become(parent: int, command: list[str]) -> None:
    """Become a command that is stopped when its parent is gone; return only if it is gone already."""
    die_with_parent()
    if os.getppid() == parent:
        os.execv(command[0], command)  # noqa: S606 - our own command, and no shell is wanted


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
