"""One at a time changes a file or folder of definitions; the others wait for a while and say for whom.

The lock is a file beside what is changed, ``.<name>.lock``, that is gone when nobody changes it. Whoever
holds it stands in it. A process that dies lets it go.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stages.errors import OutputError, SettingsError, printable
from stages.lifecycle.locks import HOST, now
from stages.runtime import file_lock, job_files

logger = logging.getLogger(__name__)

EDIT_WAIT_S = 60.0
ADD_WAIT_S = 900.0
"""Adding a model tries it first, which takes minutes."""

_POLL_S = 0.02
_TELL_S = 1.0
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def sole_editor(path: Path, *, wait_s: float = EDIT_WAIT_S) -> Iterator[None]:
    """Be the only one who changes a file or folder, until the block ends or the process dies.

    Parameters
    ----------
    path
        What is changed; it need not be there, but its folder. Where that cannot be written there is nothing
        to wait for.
    wait_s
        The longest wait for another, seconds.

    Raises
    ------
    SettingsError
        If another still changes it at the end of the wait; the message says who.
    OutputError
        If the lock cannot be made.
    JobFileError
        If something else stands where the lock belongs.
    """
    path = Path(os.path.realpath(path))
    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = _locked(lock, path, wait_s)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise OutputError(f"cannot make {printable(lock)}: {error.strerror}") from error
        yield  # whoever writes finds out
        return
    try:
        file_lock.write_holder(descriptor, f"process {os.getpid()} on {HOST} since {now()}")
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        os.close(descriptor)


def _locked(lock: Path, path: Path, wait_s: float) -> int:
    begin = time.monotonic()
    has_told = False
    while True:
        descriptor = job_files.open_own(lock)
        if file_lock.try_lock(descriptor) and file_lock.is_at(descriptor, lock):
            return descriptor
        who = file_lock.holder(descriptor) or "another process"
        os.close(descriptor)
        waited_s = time.monotonic() - begin
        if waited_s > wait_s:
            raise SettingsError(
                f"{printable(path)} is being changed by {printable(who)}, which did not end within "
                f"{wait_s:g} s; try again when it has"
            )
        if waited_s > _TELL_S and not has_told:
            logger.warning("waiting for %s, which changes %s", printable(who), printable(path))
            has_told = True
        time.sleep(_POLL_S)
