"""A program whose every process ends with it.

``python -m stages.runtime.subreaper PARENT GRACE_S COMMAND...`` starts the program and becomes the parent of
whatever it leaves behind, also of what has begun a session of its own (prctl(2), PR_SET_CHILD_SUBREAPER).
When the program has ended, in whichever way, what is left is killed, and this process ends as the program
did: with its exit code, or by its signal. SIGTERM and its like are passed on; SIGQUIT kills all at once. When
the parent is gone the program gets SIGTERM, and so many seconds later everything is killed. Only what is
light is imported, since every stage waits for this.
"""

import contextlib
import os
import resource
import signal
import sys
import time

from stages.runtime.processes import adopt_orphans, descendants, die_with_parent, own_interpreter

END_NOW = signal.SIGQUIT
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_HEARD = (*_PASSED_ON, END_NOW, signal.SIGCHLD)
_CANNOT_RUN, _NOT_FOUND = 126, 127
_LOOK_S, _LONGEST_KILL_S = 0.05, 5.0


def command_under(parent: int, command: list[str], *, grace_s: float) -> list[str]:
    """Return the command that runs a command this way; itself where there is no such system call.

    Parameters
    ----------
    parent
        The process that starts it, which it does not outlive.
    command
        The program and its arguments.
    grace_s
        Seconds that the program gets to end by itself when its parent is gone.
    """
    if sys.platform != "linux":
        return command
    return own_interpreter(__name__, str(parent), str(grace_s), *command)


def main(parent: int, grace_s: float, command: list[str]) -> int:
    """Run a command to its end, end what it has left, and return its exit code; -N for a signal.

    Parameters
    ----------
    parent
        The process that started this one.
    grace_s
        Seconds from the parent's end to SIGKILL.
    command
        The program, looked up in PATH, and its arguments.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    die_with_parent()
    adopt_orphans()
    if os.getppid() != parent:
        return -signal.SIGTERM
    child = os.fork()
    if child == 0:
        die_with_parent(signal.SIGKILL)
        _become(command)
    status = _wait(child, parent, grace_s)
    _end_rest(command[0])
    return os.waitstatus_to_exitcode(status)


def _become(command: list[str]) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the stage's own command, and no shell is wanted
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]!r}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _CANNOT_RUN)


def _wait(child: int, parent: int, grace_s: float) -> int:
    """Wait for the end of the program, and pass signals on meanwhile; return its wait status."""
    ends_at = None
    while True:
        heard = signal.sigtimedwait(_HEARD, 60 if ends_at is None else _LOOK_S)
        status = _reap(child)
        if status is not None:
            return status
        number = heard.si_signo if heard else 0
        if number in _PASSED_ON:
            os.kill(child, number)
        if os.getppid() != parent and ends_at is None:
            os.kill(child, signal.SIGTERM)
            ends_at = time.monotonic() + grace_s
        if number == END_NOW or (ends_at is not None and time.monotonic() > ends_at):
            os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]


def _reap(child: int) -> "int | None":
    """Reap what has ended; return the wait status of the program if it has."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                return status
            if pid == 0:
                break
    return None


def _end_rest(program: str) -> None:
    """Kill what the program has left, and what that starts meanwhile, until there is nothing."""
    left = set()
    end = time.monotonic() + _LONGEST_KILL_S
    while time.monotonic() < end:
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                left.add(pid)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            break
        time.sleep(0.002)
    if left:
        sys.stderr.write(f"{os.path.basename(program)} left {len(left)} running, which were killed\n")


def _end_like(code: int) -> None:
    """End this process as the program did, without a core of our own."""
    sys.stderr.flush()
    if code >= 0:
        os._exit(code)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
    os.kill(os.getpid(), -code)
    os._exit(128 - code)


if __name__ == "__main__":
    _end_like(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
