"""The process between clara-wf and its model server, so that nothing of the server is left behind.

It runs as a program,
``clara_wf.model_server.guard NAME PARENT-PID PYTHON-BIN INSTALLATION REPOSITORY WANTED COMMAND...``,
in a session of its own, and holds the reading end of a pipe as standard input. When that ends, however its
parent ended, or when it is asked by a signal, it ends the server and everything that belongs to it.

The server is killed rather than asked to stop: it has nothing to save, all its traces are known, and a
clean stop takes it 2 to 3 s.

What belongs to a server bears its name: an argument of each of its processes, and its regions and links in
``/dev/shm``. The guard holds a lock on ``/dev/shm/<name>.lock`` while it lives. Was it killed itself, the
kernel ends the server with it, and the next start sweeps up what has such a name and no guard.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from stages.runtime import file_lock, processes

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the server keeps its regions

_NAME = re.compile(r"clara-model-server-[0-9a-f]{16}")
_PROGRAMS = ("tritonserver", "triton_python_backend_stub")
_REQUESTS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_PARENT_CHECK_S = 1.0
_KILL_DEADLINE_S = 5.0


def new_name() -> str:
    """Return a name for a server that nothing else bears."""
    return f"clara-model-server-{os.urandom(8).hex()}"


def plain_path(name: str, folder: str) -> Path:
    """Return a path for the ``installation`` or the ``repository`` of a server.

    The server starts its stubs through a shell with the bare paths, so that a space in one would break it;
    while it runs, there are links without such characters.

    Parameters
    ----------
    name, folder
        The server's name and ``installation`` or ``repository``.
    """
    return SHARED_MEMORY / f"{name}-{folder}"


def server_environ(environ: Mapping[str, str], python_bin: str, *, on_gpu: bool) -> dict[str, str]:
    """Return an environment in which the server's stubs find their own Python, and no other's packages.

    Parameters
    ----------
    environ
        The environment to start from.
    python_bin
        The folder of their Python, which they look for in PATH.
    on_gpu
        Whether they may see the GPUs that the environment leaves visible.
    """
    kept = {key: value for key, value in environ.items() if not key.startswith("PYTHON")}
    kept["PATH"] = os.pathsep.join([python_bin, environ.get("PATH", os.defpath)])
    kept["PYTHONNOUSERSITE"] = "1"
    if not on_gpu:
        kept["CUDA_VISIBLE_DEVICES"] = ""
    return kept


def sweep() -> None:
    """Remove what is left of this user's servers whose guard is gone."""
    for path in SHARED_MEMORY.glob("clara-model-server-*.lock"):
        with suppress(OSError), file_lock.abandoned(path) as status:  # not just removed
            if status is not None and _NAME.fullmatch(path.stem):
                _clear(path.stem)
                path.unlink()
    for trace in SHARED_MEMORY.glob(
        "clara-model-server-*-repository"
    ):  # the lock is first made, last removed
        name = trace.name.removesuffix("-repository")
        with suppress(OSError):
            if (
                _NAME.fullmatch(name)
                and trace.lstat().st_uid == os.geteuid()
                and not SHARED_MEMORY.joinpath(f"{name}.lock").exists()
            ):
                _clear(name)


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the server until it is no longer wanted, or ends by itself.

    Parameters
    ----------
    argv, environ
        The words after the program's name and environment variables.
    """
    name, parent, python_bin, installation, repository, text, *command = argv
    wanted = json.loads(text)
    signals = _listen_to_signals()
    processes.adopt_orphans()  # so that those of the server are reaped here
    with _held(name):
        try:
            plain_path(name, "installation").symlink_to(installation)
            _lay_out(plain_path(name, "repository"), Path(repository), wanted["configurations"])
            server = subprocess.Popen(
                command,
                env=server_environ(environ, python_bin, on_gpu=wanted["on_gpu"]),
                stdin=subprocess.DEVNULL,
                preexec_fn=partial(processes.die_with_parent, signal.SIGKILL),
            )
            _wait(server, int(parent), signals)
            code = server.poll()
        finally:
            _clear(name)
            _end_children()
    if code is not None:
        sys.stderr.write(f"the model server ended by itself, exit code {code}\n")
    return 0 if code is None else 1


def _wait(server: subprocess.Popen[bytes], parent: int, signals: int) -> None:
    """Return when the parent is gone or asks, when a signal asks, or when the server has ended."""
    while server.poll() is None and os.getppid() == parent:
        ready, _, _ = select.select([sys.stdin.fileno(), signals], [], [], _PARENT_CHECK_S)
        if sys.stdin.fileno() in ready:
            return
        if signals in ready and _REQUESTS.intersection(os.read(signals, 256)):
            return


def _listen_to_signals() -> int:
    """Return a descriptor from which the numbers of arriving signals can be read."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (*_REQUESTS, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return reading


def _lay_out(place: Path, repository: Path, view: Mapping[str, str]) -> None:
    """Lay out the repository for the server: a link, or links to all of it but some models' configurations.

    Parameters
    ----------
    place, repository
        The folder to make and the repository.
    view
        Text of ``config.pbtxt`` in place of that in the repository, by the name of the model's folder.
    """
    if not view:
        place.symlink_to(repository)
        return
    place.mkdir()
    for entry in repository.iterdir():
        if entry.name not in view:
            (place / entry.name).symlink_to(entry)
            continue
        (place / entry.name).mkdir()
        for part in entry.iterdir():
            if part.name != "config.pbtxt":
                (place / entry.name / part.name).symlink_to(part)
        (place / entry.name / "config.pbtxt").write_text(view[entry.name], encoding="utf-8")


@contextmanager
def _held(name: str) -> Iterator[None]:
    """Hold the server's lock, visible to others only once it is held."""
    path = SHARED_MEMORY / f"{name}.lock"
    hidden = SHARED_MEMORY / f"{name}.new"
    descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        file_lock.lock(descriptor)
        hidden.rename(path)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _clear(name: str) -> None:
    """Kill a server's processes and remove its regions and links."""
    deadline = time.monotonic() + _KILL_DEADLINE_S
    while (servers := _processes(name)) and time.monotonic() < deadline:
        for process in servers:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    for trace in SHARED_MEMORY.glob(f"{name}-*"):
        if trace.is_dir() and not trace.is_symlink():
            shutil.rmtree(trace, ignore_errors=True)
        else:
            trace.unlink(missing_ok=True)


def _processes(name: str) -> list[int]:
    """Return the living processes of a server: of its programs, with its name in an argument."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError):  # gone, or another user's
                program = os.readlink(f"{entry.path}/exe").rpartition("/")[2]
                arguments = Path(entry.path, "cmdline").read_bytes()
                if program.startswith(_PROGRAMS) and name.encode() in arguments:
                    found.append(int(entry.name))
    return found


def _end_children() -> None:
    """Kill and reap what else the server has started; its orphans have become children of this process."""
    deadline = time.monotonic() + _KILL_DEADLINE_S
    with suppress(ChildProcessError):  # none is left
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                for child in processes.descendants(os.getpid()):
                    with suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
