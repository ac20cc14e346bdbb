"""Orders: one folder a pool, one file an order, written by who wants a job done, taken by one host alone.

::

    <key>.order   what is to be run; who wrote it holds its lock as long as it waits for the end
    <key>.taken   a host has it, and holds the lock of this file until the job has ended
    <key>.turn    the job is ready, and waits for its turn
    <key>.stop    how the job is to be ended
    <key>.ended   its exit code
    <name>.host   a host lives as long as it holds the lock of this file
    wake          a FIFO: who is at its other end looks at the folder at once, else a few times a second

A key begins with the time at which the order came, so the first name is the next one. An order of priority n
counts as if it had come n times `PRIORITY_S` earlier: it overtakes, and nothing waits for ever. Locks are the
kernel's (`stages.runtime.file_lock`): whoever dies lets go of them.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from stages.errors import OutputError, SettingsError, printable
from stages.runtime import atomic, file_lock, job_files

PRIORITY_S = 600.0
HIGHEST_PRIORITY = 9
WAKE = "wake"
_HOST = socket.gethostname()
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = ("taken", "turn", "stop", "ended", "order")
_LOOK_S = 0.2
_LOST = -signal.SIGKILL


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be run, as a process that is started for it would find it.

    Attributes
    ----------
    arguments
        Of the job, where those of the host are not those of each job.
    environ
        The whole environment.
    folder
        The working directory.
    umask
        The permissions that new files do not get.
    output, errors
        Files that standard output and standard error are appended to; they may be those of another process
        (``/proc/PID/fd/1``).
    """

    arguments: tuple[str, ...] = ()
    environ: Mapping[str, str]
    folder: str
    umask: int
    output: str
    errors: str


class Ticket:
    """An order that was put; it is given up when this process ends or the ticket is closed.

    Parameters
    ----------
    folder
        The pool's.
    key
        Of the order.
    descriptor
        Of the order's file, whose lock is ours.
    """

    def __init__(self, folder: Path, key: str, descriptor: int) -> None:
        self._folder, self._key, self._descriptor = folder, key, descriptor
        self._code: int | None = None
        self._next_look = 0.0

    @property
    def is_served(self) -> bool:
        """Whether a host lives that has it or may take it."""
        return self.is_taken or is_served(self._folder)

    @property
    def is_taken(self) -> bool:
        """Whether a host has it."""
        return job_files.is_there(self._path("taken"))

    @property
    def waits_for_turn(self) -> bool:
        """Whether the job is ready, and others are before it."""
        return job_files.is_there(self._path("turn"))

    @property
    def process(self) -> int:
        """The process that does it; 0 where it is not of this machine, or not known."""
        found = job_files.read_object(self._path("taken"))
        return int(found.get("process", 0)) if found.get("host") == _HOST else 0

    def exit_code(self) -> int | None:
        """Return None until it has ended, then its exit code; -N if signal N ended it, or its host."""
        if self._code is None:
            self._code = self._told()
        if self._code is None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_S
            if self.is_taken and not _is_held(self._path("taken")):
                told = self._told()  # it may have been written in between
                self._code = _LOST if told is None else told
        return self._code

    def _told(self) -> int | None:
        found = job_files.read_object(self._path("ended")).get("exit_code")
        return None if found is None else int(found)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Have a signal sent to the job.

        Parameters
        ----------
        number
            SIGKILL ends it with all that it has started.
        """
        job_files.write_whole(self._path("stop"), str(int(number)).encode(), durable=False)
        wake(self._folder)

    def withdraw(self) -> bool:
        """Take the order back, and return whether nobody had it and nobody will."""
        return _taken_file(self._folder, self._key) is not None

    def close(self) -> None:
        """Remove what there is of it; a job that still runs is ended."""
        if self.exit_code() is None and self.is_taken:
            self.stop()
        for kind in _KINDS if self.exit_code() is not None or not self.is_taken else ("order",):
            self._path(kind).unlink(missing_ok=True)
        os.close(self._descriptor)
        wake(self._folder)

    def _path(self, kind: str) -> Path:
        return self._folder / f"{self._key}.{kind}"


def make_folder(folder: Path) -> None:
    """Make the folder of a pool, which is its owner's alone, unless it is there.

    Parameters
    ----------
    folder
        The folder.

    Raises
    ------
    SettingsError
        If it belongs to another user.
    OutputError
        If it cannot be made.
    """
    job_files.make_folder(folder)
    try:
        folder.chmod(0o700)
        with suppress(FileExistsError):
            os.mkfifo(folder / WAKE, 0o600)
    except OSError as error:
        raise SettingsError(
            f"the folder of orders {printable(folder)} cannot be used: {error.strerror}; it must be this "
            "user's own, on a file system that has FIFOs"
        ) from error


def put(folder: Path, order: Order, *, priority: int = 0) -> Ticket:
    """Put an order.

    Parameters
    ----------
    folder
        The pool's.
    order
        What is to be run.
    priority
        0 to `HIGHEST_PRIORITY`.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    came = time.time() - min(max(priority, 0), HIGHEST_PRIORITY) * PRIORITY_S
    key = f"{int(came * 1e6):017d}-{secrets.token_hex(4)}"
    path = folder / f"{key}.order"
    try:
        descriptor = _locked_file(path, asdict(order))
    except OSError as error:
        raise OutputError(f"cannot put an order into {printable(folder)}: {error.strerror}") from error
    assert descriptor is not None, "a key is used once"
    wake(folder)
    return Ticket(folder, key, descriptor)


def own_umask() -> int:
    """Return the permissions that new files of this process do not get."""
    os.umask(found := os.umask(0o077))
    return found


def waiting(folder: Path) -> list[str]:
    """Return the keys of the orders that nobody has taken, the next one first.

    Parameters
    ----------
    folder
        The pool's.
    """
    names = {entry.name for entry in os.scandir(folder)}
    keys = (name.removesuffix(".order") for name in names if name.endswith(".order"))
    return sorted(key for key in keys if f"{key}.taken" not in names)


def order_of(folder: Path, key: str) -> Order | None:
    """Return an order; None if it was taken back, or is none.

    Parameters
    ----------
    folder
        The pool's.
    key
        Of the order.
    """
    found = job_files.read_object(folder / f"{key}.order")
    with suppress(TypeError, KeyError):
        return Order(**{**found, "arguments": tuple(found["arguments"])})
    return None


class TakenOrder:
    """An order that this host has taken, until it is told how the job ended.

    Parameters
    ----------
    folder
        The pool's.
    key
        Of the order.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.key = key
        self._folder = folder
        self._descriptor = -1
        self._waits = False

    def take(self) -> bool:
        """Take it, and return whether nobody was faster."""
        descriptor = _taken_file(self._folder, self.key)
        if descriptor is None:
            return False
        self._descriptor = descriptor
        return True

    def note_process(self, process: int) -> None:
        """Write down which process does it.

        Parameters
        ----------
        process
            Its number.
        """
        content = _as_json({"process": process, "host": _HOST})
        os.pwrite(self._descriptor, content, 0)

    def note_turn(self, *, waits: bool) -> None:
        """Write down whether it waits for its turn.

        Parameters
        ----------
        waits
            Whether it does.
        """
        if waits != self._waits:
            self._waits = waits
            if waits:
                job_files.write_whole(self._path("turn"), b"", durable=False)
            else:
                self._path("turn").unlink(missing_ok=True)

    def stop_signal(self) -> int:
        """Return the signal that the job is to get, each once; 0 for none."""
        asked = job_files.read(self._path("stop"))
        if asked is None:
            return 0
        self._path("stop").unlink(missing_ok=True)
        return int(asked) if asked.isdigit() else signal.SIGTERM

    @property
    def is_wanted(self) -> bool:
        """Whether who put it still waits for its end."""
        return _is_held(self._path("order"))

    def let_go(self) -> None:
        """Close its file, in a process that was forked for another order."""
        os.close(self._descriptor)

    def end(self, exit_code: int) -> None:
        """Write down how it ended, and let go of it.

        Parameters
        ----------
        exit_code
            -N if signal N ended it.
        """
        with suppress(OutputError):
            job_files.write_whole(self._path("ended"), _as_json({"exit_code": exit_code}), durable=False)
        wanted = self.is_wanted
        os.close(self._descriptor)
        if not wanted:
            for kind in _KINDS:
                self._path(kind).unlink(missing_ok=True)

    def _path(self, kind: str) -> Path:
        return self._folder / f"{self.key}.{kind}"


@contextmanager
def living(folder: Path) -> Iterator[int]:
    """Be a host of a pool until the block ends or the process dies; yield the descriptor that is held.

    Parameters
    ----------
    folder
        The pool's.
    """
    path = folder / f"{_HOST}-{os.getpid()}.host"
    path.unlink(missing_ok=True)
    descriptor = _locked_file(path, {"process": os.getpid(), "host": _HOST})
    assert descriptor is not None, "this process is the only one of its number"
    host = os.getpid()
    try:
        yield descriptor
    finally:
        if os.getpid() == host:  # not in a process that was forked meanwhile
            path.unlink(missing_ok=True)
            os.close(descriptor)


def is_served(folder: Path) -> bool:
    """Return whether a host of this pool lives.

    Parameters
    ----------
    folder
        The pool's.
    """
    return any(_is_held(path) for path in folder.glob("*.host"))


def sweep(folder: Path) -> None:
    """Remove what the dead have left: hosts, and orders that nobody waits for and nobody works on.

    Parameters
    ----------
    folder
        The pool's.
    """
    for path in folder.glob("*.host"):
        if not _is_held(path):
            path.unlink(missing_ok=True)
    for key in {path.name.partition(".")[0] for kind in _KINDS for path in folder.glob(f"*.{kind}")}:
        if not _is_held(folder / f"{key}.order") and not _is_held(folder / f"{key}.taken"):
            for kind in _KINDS:
                (folder / f"{key}.{kind}").unlink(missing_ok=True)


def wake(folder: Path) -> None:
    """Have a host on this machine look at the folder now.

    Parameters
    ----------
    folder
        The pool's.
    """
    with suppress(OSError):  # nobody is there, or has been woken already
        descriptor = os.open(folder / WAKE, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"!")
        finally:
            os.close(descriptor)


def _taken_file(folder: Path, key: str) -> int | None:
    return _locked_file(folder / f"{key}.taken", {})


def _locked_file(path: Path, content: Mapping[str, object]) -> int | None:
    """Return the descriptor of a new file that others see whole and locked; None if there is one."""
    made = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(made, _NEW, 0o600)
    try:
        file_lock.lock(descriptor)
        os.write(descriptor, _as_json(content))
        atomic.rename_new(made, path)
    except FileExistsError:
        made.unlink(missing_ok=True)
        os.close(descriptor)
        return None
    except BaseException:
        made.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor


def _is_held(path: Path) -> bool:
    """Return whether a file is there and somebody holds its lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return file_lock.is_held(descriptor)
    finally:
        os.close(descriptor)


def _as_json(record: Mapping[str, object]) -> bytes:
    return json.dumps(record).encode()
