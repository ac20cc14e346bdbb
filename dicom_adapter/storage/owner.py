"""Who works on a storage: one adapter at a time, on the database that belongs to it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dicom_adapter.private_file import open_private
from stages.errors import OutputError, SettingsError
from stages.runtime import file_lock

_FILE = ".adapter.owner"


class Owner:
    """What is known of a storage beside its database, in a file that is locked while an adapter runs.

    Attributes
    ----------
    descriptor
        The open, locked file.
    identity
        Of the database that belongs to it (`Store.identity`); "" if none does yet.
    was_killed
        Whether the run before did not come to its end.
    """

    def __init__(self, descriptor: int) -> None:
        content = _content_of(descriptor)
        self._descriptor = descriptor
        self.was_killed = content.get("ended") is False
        self._write(str(content.get("database", "")), ended=not self.was_killed)

    def keep(self, identity: str) -> None:
        """Write down which database belongs to the storage, and is open now.

        Parameters
        ----------
        identity
            What tells the database from all others.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        self._write(identity, ended=False)

    def end(self) -> None:
        """Write down that the database was closed."""
        with suppress(OutputError):
            self._write(self.identity, ended=True)

    def _write(self, identity: str, *, ended: bool) -> None:
        self.identity = identity
        known = {"process": os.getpid(), "database": identity, "ended": ended}
        content = json.dumps(known).encode() + b"\n"
        try:
            os.pwrite(self._descriptor, content.ljust(128), 0)
            os.fsync(self._descriptor)
        except OSError as error:
            raise OutputError(f"the storage cannot be written: {error.strerror}") from error


@contextmanager
def sole_adapter(root: Path) -> Iterator[Owner]:
    """Be the only adapter that works on a storage, until the block ends or the process dies.

    Parameters
    ----------
    root
        The folder of the storage; made, for us and our group, if it is not there.

    Raises
    ------
    SettingsError
        If another one does.
    OutputError
        If it cannot be written.
    """
    try:
        _make(root)
        descriptor = open_private(root / _FILE, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as error:
        raise OutputError(f"the storage {root} cannot be used: {error.strerror}") from error
    try:
        if not file_lock.try_lock(descriptor):
            process = _content_of(descriptor).get("process", "unknown")
            raise SettingsError(f"another adapter already works on {root} (process {process}); stop it first")
        owner = Owner(descriptor)
        try:
            yield owner
        finally:
            owner.end()
    finally:
        os.close(descriptor)


def _make(root: Path) -> None:
    if not root.is_dir():
        root.mkdir(parents=True)
        root.chmod(0o750)


def _content_of(descriptor: int) -> dict[str, Any]:
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
