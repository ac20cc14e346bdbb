"""What the toolkit does beside the stages of a Pod: ``python -m stages carry WHAT FOLDER``.

::

    ready     an init container on shared storage: makes the job's folders, clears away earlier failures
    receive   an init container: waits until `put` has brought everything
    put       run by the engine in the container of `receive`: writes the files that come on standard input
    serve     a container beside the stages: ends when all is fetched; ends the stages when nobody fetches
    follow    run by the engine in the container of `serve`: sends what the stages do (`stages.pod.follow`)

The folder they work on holds ``payload/`` and, where a model server runs in the Pod, ``models/``.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType

from stages.errors import InputError, OutputError, StageError, StageTimeoutError, TerminatedError, printable
from stages.pod.follow import follow
from stages.pod.messages import HELLO, place_in, read_content, read_header, require_protocol, write_message
from stages.pod.processes import processes, send_signal
from stages.runtime import atomic
from stages.runtime.job_files import remove

logger = logging.getLogger(__name__)

SIGNS = Path("/tmp/clara-carry")  # noqa: S108 - a folder that the Pod's containers of this module share
RECEIVED, DONE, ALIVE = "received", "done", "alive"
CARRIERS = ("receiver", "carrier")
MODEL_SERVER = "model-server"
_LOOK_S = 0.1
_SIGN_S = 0.5
_GRACE_S = 12.0


def main(argv: Sequence[str]) -> int:
    """Run one of the five, and return its exit code.

    Parameters
    ----------
    argv
        The arguments after ``carry``.
    """
    parser = argparse.ArgumentParser(prog="python -m stages carry")
    parser.add_argument("what", choices=("ready", "receive", "put", "serve", "follow"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--signs", type=Path, default=SIGNS, help="folder for signs to one another")
    parser.add_argument("--lease", type=float, default=60.0, help="seconds without a sign of the engine")
    parser.add_argument("--input", default="", help="the job's input, a folder of the payload")
    parser.add_argument("--stage", action="append", default=[], help="a stage of this Pod; may be repeated")
    parser.add_argument("--have", action="append", default=[], help="a stage whose result is fetched already")
    given = parser.parse_args(argv)
    try:
        given.signs.mkdir(parents=True, exist_ok=True)
        _run(given)
    except BrokenPipeError:
        return 1  # whoever started us is gone
    except StageError as error:
        logger.error("%s", error)
        return error.exit_code
    except OSError as error:
        logger.error("%s", error)
        return OutputError.exit_code
    return 0


def _run(given: argparse.Namespace) -> None:
    payload, signs = given.folder / "payload", given.signs
    if given.what == "ready":
        make_ready(payload, given.input, given.stage)
    elif given.what == "receive":
        wait_until_received(signs, lease_s=given.lease)
    elif given.what == "put":
        put(given.folder, signs)
    elif given.what == "serve":
        serve(signs, lease_s=given.lease)
    else:
        follow(payload, given.stage, given.have, sign=lambda: _touch(signs / ALIVE))
        _touch(signs / DONE)


def make_ready(payload: Path, input_folder: str, stages: Sequence[str]) -> None:
    """Make the job's folders, and clear away the failures of an earlier try.

    Parameters
    ----------
    payload
        The job's folder.
    input_folder
        The job's input, relative to it.
    stages
        The stages of this Pod.

    Raises
    ------
    InputError
        If the job has no input.
    OutputError
        If its folders cannot be made.
    """
    if not place_in(payload, input_folder).is_dir():
        raise InputError(f"the job has no input: there is no folder {printable(input_folder)} in its payload")
    outputs = [f"{stage}/output" for stage in stages]
    published = [f"publish/{stage}" for stage in stages]
    for name in ("locks", "logs", *outputs, *published):
        _make_writable(payload, name)
    for stage in stages:
        for end in ("failed", "running"):
            remove(payload / "locks" / f"{stage}.{end}")


def _make_writable(payload: Path, name: str) -> None:
    folder, user = place_in(payload, name), os.getuid()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {name} in the payload ({error.strerror}) as user {user}") from error
    if not os.access(folder, os.W_OK):
        raise OutputError(f"user {user} may not write to {name} in the payload; give it to that user")


def wait_until_received(signs: Path, *, lease_s: float) -> None:
    """Return when `put` has brought everything.

    Parameters
    ----------
    signs
        Folder for signs to the other containers of the Pod.
    lease_s
        Longest time without a sign of the engine, seconds.

    Raises
    ------
    StageTimeoutError
        If nothing has come for so long.
    """
    engine = _LastChange(signs / ALIVE)
    with _stopped_by_sigterm():
        while not (signs / RECEIVED).exists():
            if engine.age_s() > lease_s:
                raise StageTimeoutError(f"nobody has sent the payload for {lease_s:g} s")
            time.sleep(_LOOK_S)


def put(folder: Path, signs: Path) -> None:
    """Write the files that come on standard input, and leave a sign when the last one is there.

    Parameters
    ----------
    folder
        The folder that the paths of the files are relative to.
    signs
        Folder for signs to the other containers of the Pod.
    """
    source = sys.stdin.buffer
    signed = 0.0

    def read(size: int) -> bytes:
        nonlocal signed
        data = source.read(size)
        if time.monotonic() - signed > _SIGN_S:
            signed = time.monotonic()
            _touch(signs / ALIVE)  # a large file takes longer than the lease
        if data and len(data) < size:
            raise InputError("the payload broke off")
        return data

    write_message(_write_out, HELLO)
    require_protocol(read_header(read) or {}, of="the engine")
    count = 0
    while (header := read_header(read)) is not None:
        if header.get("end"):
            write_message(_write_out, {"received": count})
            _touch(signs / RECEIVED)
            return
        path = place_in(folder, str(header["path"]))
        if header.get("folder"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            _write_whole(path, read_content(read, header))
            count += 1
    raise InputError("the payload broke off")


def _write_whole(path: Path, content: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.writing(path, durable=False) as file:
        for chunk in content:
            file.write(chunk)


def serve(signs: Path, *, lease_s: float) -> None:
    """Return when everything is fetched and the model server has been asked to end.

    When the Pod is ended (SIGTERM), it stays until the stages have ended and were fetched.

    Parameters
    ----------
    signs
        Folder for signs to the other containers of the Pod.
    lease_s
        Longest time without a sign of the engine, seconds.

    Raises
    ------
    StageTimeoutError
        If nobody has fetched anything for so long; the stages have been ended by then.
    """
    engine, shutdown_wait = _LastChange(signs / ALIVE), _ShutdownWait()
    while not (signs / DONE).exists():
        if engine.age_s() > lease_s:
            _end_stages()
            raise StageTimeoutError(
                f"nobody has fetched the results for {lease_s:g} s; the stages were ended"
            )
        if shutdown_wait.is_over():
            break
        time.sleep(_LOOK_S)
    send_signal(MODEL_SERVER, signal.SIGTERM)


def _end_stages() -> None:
    """End every other container: by SIGTERM, and those that stay by SIGKILL."""
    end = time.monotonic() + _GRACE_S
    number = signal.SIGTERM
    while others := _others():
        for container in others:
            send_signal(container, number)
        if number == signal.SIGKILL:
            return
        while time.monotonic() < end and _others():
            time.sleep(_LOOK_S)
        number = signal.SIGKILL


def _others() -> set[str]:
    return {process.container for process in processes()} - set(CARRIERS)


class _LastChange:
    """How long ago a file changed for the last time, by this process's own clock."""

    def __init__(self, file: Path) -> None:
        self._file, self._seen, self._at = file, "", time.monotonic()

    def age_s(self) -> float:
        try:
            seen = str(self._file.stat().st_mtime_ns)
        except OSError:
            seen = ""
        if seen != self._seen:
            self._seen, self._at = seen, time.monotonic()
        return time.monotonic() - self._at


class _ShutdownWait:
    """After SIGTERM: whether the stages have ended, and `follow` has had the time to send what they left."""

    def __init__(self) -> None:
        self._asked, self._since = False, 0.0
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def is_over(self) -> bool:
        if not self._asked or _others() - {MODEL_SERVER}:
            self._since = 0.0
            return False
        self._since = self._since or time.monotonic()
        return time.monotonic() - self._since > 2.0


class _stopped_by_sigterm:  # noqa: N801 - reads as what it is
    def __enter__(self) -> None:
        signal.signal(signal.SIGTERM, self._raise)

    def __exit__(self, *reason: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        raise TerminatedError("stopped by SIGTERM")


def _touch(path: Path) -> None:
    path.write_text(str(time.monotonic_ns()), encoding="ascii")


def _write_out(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
