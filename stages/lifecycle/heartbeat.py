"""Signs of life: a stage's own heartbeat, its sole ownership, and the wait for the others.

No wall clock is compared with another host's: the change of a heartbeat's content is the sign of
life. Folders are polled, so it works on every file system.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stages.errors import OutputError, SettingsError, StageTimeoutError, UpstreamError, printable
from stages.lifecycle.locks import HOST, failure_path, now, publish, read_failure, running_path, stage_of
from stages.runtime import file_lock, job_files

logger = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
_SHORTEST_POLL_S, _POLL_S = 0.003, 0.02
_HEARTBEAT_CHECK_S = 0.5
_LARGEST_HEARTBEAT = 64 << 10


@contextmanager
def sole_owner(lock_dir: Path, stage_name: str) -> Iterator[None]:
    """Own a stage of a job until the block ends, or the process dies.

    Parameters
    ----------
    lock_dir
        The job's lock folder.
    stage_name
        The stage that is to be owned.

    Raises
    ------
    SettingsError
        If another living driver owns it, or the lock folder cannot be used.
    JobFileError
        If something else stands where the file of the owner belongs.
    """
    path = lock_dir / f".{stage_name}.owner"
    try:
        descriptor = job_files.open_own(path)
    except OSError as error:
        raise SettingsError(f"cannot use the lock folder {printable(lock_dir)}: {error}") from error
    try:
        if not file_lock.try_lock(descriptor):
            owner = file_lock.holder(descriptor) or "another process"
            raise SettingsError(f"stage {stage_name} of this job is already run by {owner}")
        file_lock.write_holder(descriptor, f"process {os.getpid()} on {HOST}")
        yield
    finally:
        os.close(descriptor)


class Heartbeat:
    """``<stage>.running``, refreshed every few seconds until the block ends, then removed.

    Parameters
    ----------
    lock_dir
        The job's lock folder.
    lock_name
        The lock that the stage publishes.
    job
        The job's ID, for the record.
    every_s
        Seconds between two beats.
    """

    def __init__(self, lock_dir: Path, lock_name: str, *, job: str, every_s: float = HEARTBEAT_S) -> None:
        self._path = running_path(lock_dir, lock_name)
        self._record = {"job": job, "stage": stage_of(lock_name), "host": HOST, "started": now()}
        self._every_s = every_s
        self._ended = threading.Event()
        self._writing = threading.Lock()

    def __enter__(self) -> None:
        try:
            threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        except BaseException:  # a signal that came while the thread began
            self.end()
            raise

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Remove the file for good; may be called more than once, from any thread."""
        self._ended.set()
        with self._writing:
            try:
                job_files.remove(self._path)
            except OutputError as error:
                logger.warning("%s", error)

    def _beat(self) -> None:
        for count in itertools.count():
            with self._writing:
                if self._ended.is_set():
                    return
                try:
                    publish(self._path, {**self._record, "pid": os.getpid(), "beat": count}, durable=False)
                except OutputError as error:
                    logger.warning("heartbeat not written: %s", error)
            self._ended.wait(self._every_s)


def wait_for_locks(
    lock_dir: Path,
    lock_names: Sequence[str],
    *,
    timeout_s: float,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Return as soon as all locks are there.

    Parameters
    ----------
    lock_dir
        The job's lock folder.
    lock_names
        The locks to wait for.
    timeout_s
        Longest time without a sign of life (a lock or a changed heartbeat) of those still awaited.
    check
        Called again and again; what it raises ends the wait.

    Raises
    ------
    UpstreamError
        As soon as one of the awaited stages has failed.
    StageTimeoutError
        If nothing awaited showed a sign of life for `timeout_s`.
    JobFileError
        If something else than a file stands where a lock, a failure or a heartbeat belongs.
    """
    pending = list(lock_names)
    heartbeats: dict[str, bytes] = {}
    last_sign = next_check = began = time.monotonic()
    while True:
        check()
        arrived = [name for name in pending if job_files.is_there(lock_dir / name)]
        pending = [name for name in pending if name not in arrived]
        if not pending:
            return
        for name in pending:
            _raise_if_failed(lock_dir, name)
        if arrived:
            last_sign = time.monotonic()
        if time.monotonic() >= next_check:
            next_check = time.monotonic() + _HEARTBEAT_CHECK_S
            if _heartbeat_changed(lock_dir, pending, heartbeats):
                last_sign = time.monotonic()
        if time.monotonic() - last_sign > timeout_s:
            raise StageTimeoutError(_silence(pending, heartbeats, timeout_s))
        time.sleep(min(_POLL_S, _SHORTEST_POLL_S + (time.monotonic() - began) / 100))


def _raise_if_failed(lock_dir: Path, lock_name: str) -> None:
    failure = read_failure(failure_path(lock_dir, lock_name))
    if failure is not None and not job_files.is_there(lock_dir / lock_name):
        error = UpstreamError(f"upstream failed: {failure.root_stage}: {failure.root_message}")
        error.root = (failure.root_stage, failure.root_message)
        raise error


def _heartbeat_changed(lock_dir: Path, lock_names: Sequence[str], heartbeats: dict[str, bytes]) -> bool:
    changed = False
    for name in lock_names:
        heartbeat = job_files.read(running_path(lock_dir, name), most_bytes=_LARGEST_HEARTBEAT)
        if heartbeat is None:
            continue
        changed = changed or heartbeats.get(name) != heartbeat
        heartbeats[name] = heartbeat
    return changed


def _silence(pending: Sequence[str], heartbeats: dict[str, bytes], timeout_s: float) -> str:
    seen = [stage_of(name) for name in pending if name in heartbeats]
    never = [stage_of(name) for name in pending if name not in heartbeats]
    parts = []
    if seen:
        parts.append(f"no sign of life of {', '.join(seen)} for {timeout_s:g} s")
    if never:
        parts.append(f"{', '.join(never)} did not show up within {timeout_s:g} s")
    return "; ".join(parts)
